"""Mode, owner, times and attributes of what was recovered, as far as the file system can keep them."""

import errno
import os
import stat
from collections.abc import Callable

from usbbackup.ecryptfs.header import XATTR

_UNABLE = {errno.EPERM, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.ENOSPC, errno.E2BIG}


def opened(file: int, status: os.stat_result, lower: int | None = None) -> bool:
    """Dress an open file or folder like `status`, with the attributes of `lower`; False where some were lost.

    The owner is given back where we are root.
    """
    mode = stat.S_IMODE(status.st_mode)
    return all(
        [
            lower is None or _kept(lambda: _attributes(lower, file)),  # before the mode may forbid it
            os.geteuid() != 0 or _kept(lambda: os.fchown(file, status.st_uid, status.st_gid)),
            _kept(lambda: os.fchmod(file, mode)),
            _kept(lambda: os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))),
        ]
    )


def named(folder: int, name: bytes, status: os.stat_result) -> bool:
    """Dress what is no file and no folder, by its name in an open folder; False where something was lost."""
    times = (status.st_atime_ns, status.st_mtime_ns)
    owner = (status.st_uid, status.st_gid)
    return all(
        [
            os.geteuid() != 0 or _kept(lambda: os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)),
            _kept(lambda: os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)),
        ]
    )


def _attributes(lower: int, file: int) -> None:
    for name in os.listxattr(lower):
        if name.startswith("user.") and name != XATTR:
            os.setxattr(file, name, os.getxattr(lower, name))


def _kept(give: Callable[[], None]) -> bool:
    try:
        give()
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        return False
    return True
