"""Giving a directory on the drive the attributes of one in the sources, as far as we may and it can."""

import errno
import os
import stat

from usbbackup.backup.fitness import Fitness
from usbbackup.text import safe

_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_DRIVE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ESTALE))


def copy(source: bytes, made: int, fitness: Fitness) -> str | None:
    """Make the open directory `made` like the directory `source`; what could not be kept, as a sentence.

    As rsync does: owners are for root, groups for their members. Raises OSError where the drive does not do.
    """
    root = os.geteuid() == 0
    try:
        found = os.lstat(source)
        if not stat.S_ISDIR(found.st_mode):
            return None
        if fitness.owners:
            _give(made, found, root=root)
        if fitness.modes:
            os.chmod(made, stat.S_IMODE(found.st_mode))
        for name in os.listxattr(source, follow_symlinks=False):
            if _is_kept(name, fitness, root=root):
                os.setxattr(made, name, os.getxattr(source, name, follow_symlinks=False))
        os.utime(made, ns=(found.st_mtime_ns, found.st_mtime_ns))
    except FileNotFoundError:
        return None  # it has vanished
    except OSError as error:
        if error.errno in _DRIVE:
            raise
        return f"{safe(source)}: kept without all of its attributes: {error.strerror}"
    return None


def _give(made: int, found: os.stat_result, *, root: bool) -> None:
    group = found.st_gid if root or found.st_gid in {os.getegid(), *os.getgroups()} else -1
    os.chown(made, found.st_uid if root else -1, group)


def _is_kept(name: str, fitness: Fitness, *, root: bool) -> bool:
    if name in _ACLS:
        return fitness.acls
    return fitness.xattrs and (
        name.startswith("user.") or (root and not name.startswith(("system.", "trusted.SGI_ACL_")))
    )
