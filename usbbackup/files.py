"""Files of ours: at home, written so that no moment finds them half done, and such as need no name at all."""

import errno
import os
from pathlib import Path


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file so that after any power cut either the old or the new one is there, whole.

    Only the user may read it, unless `mode` says otherwise. Its directory must exist; a symbolic link there
    is replaced, not followed.
    """
    new = path.with_name(f"{path.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(content)
        file.flush()
        os.fsync(fd)
    new.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Held:
    """An open file that is closed once nobody holds this any more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._close = os.close  # at the end of the program, modules may have gone before us

    def __del__(self) -> None:
        self._close(self.fd)


def nameless() -> Held:
    """A new, empty file in memory (memfd_create(2)), which programs can be given."""
    return Held(os.memfd_create("usbbackup", os.MFD_CLOEXEC))


def append(file: Held, data: bytes) -> None:
    """Write all of it at the end, as one piece where several processes do so. Raises OSError."""
    if data and os.write(file.fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
