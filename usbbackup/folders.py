"""Folders on a drive, opened one below the other: through no symlink, into no other mount.

Whatever else stands at the name of one is refused with its reason, never followed and never replaced.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from usbbackup import kernel
from usbbackup.errors import NotAllowedError
from usbbackup.text import safe

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LayoutError(NotAllowedError):
    """Something stands where our folders or files belong."""


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """A descriptor that is closed at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def names_in(folder: int) -> list[str]:
    """The names in an open folder, also those that were made after it was opened.

    btrfs lists only what was there when the directory was opened, or last gone back to the start of.
    """
    os.lseek(folder, 0, os.SEEK_SET)
    return os.listdir(folder)


def open_folder(parent: int, name: str) -> int:
    """Open a folder below another. Raises FileNotFoundError where there is none."""
    try:
        fd = os.open(name, _FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise in_the_way(parent, name, "folder") from error
        raise
    if kernel.mount_id(fd) != kernel.mount_id(parent):
        os.close(fd)
        raise LayoutError(f"Another file system is mounted on the folder '{safe(name)}' of the drive.")
    return fd


def open_below(top: int, path: bytes) -> int:
    """Open the directory at a path below an open one, through no symlink, however long the path is.

    Raises FileNotFoundError where there is none, NotADirectoryError where anything else is on the way.
    """
    fd = os.open(".", _FOLDER, dir_fd=top)
    try:
        for name in filter(None, path.split(b"/")):
            below = os.open(name, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError as error:
        os.close(fd)
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fsdecode(path)) from None
        raise
    return fd


def make_folder(parent: int, name: str, mode: int) -> int:
    """Open a folder below another, and make it where there is none."""
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        return open_folder(parent, name)
    fd = open_folder(parent, name)
    with suppress(PermissionError):  # file systems without owners have no modes either
        os.fchmod(fd, mode)  # whatever the umask is
    return fd


def in_the_way(parent: int, name: str, wanted: str) -> LayoutError:
    """The error for a name that holds something else than what belongs there."""
    found = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    kind = next((word for is_kind, word in _KINDS if is_kind(found)), "something else")
    return LayoutError(
        f"'{safe(name)}' on the drive is {kind}, not a {wanted} of usbbackup.",
        "Look at it, and move it away if it is not yours.",
    )


_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
