"""Subvolumes of btrfs: directories that are copied as a whole at once, sharing everything until it changes.

Any user may make them, and copies of their own ones (btrfs-subvolume(8)). Removing one at once is for root,
or where the drive is mounted with user_subvol_rm_allowed; emptied, it can be removed like any directory.
"""

import fcntl
import os
import struct

from usbbackup import kernel

_BTRFS = 0x9123683E  # linux/magic.h
_TOP = 256  # the inode number of the top directory of every subvolume
_SNAPSHOT, _CREATE, _DESTROY = 0x50009417, 0x50009418, 0x5000940F  # linux/btrfs.h, ioctl_btrfs(2)
_ARGUMENTS = struct.Struct("=qQQ32x4040s")  # struct btrfs_ioctl_vol_args_v2: fd, transid, flags, name
_NAME = struct.Struct("=q4088s")  # struct btrfs_ioctl_vol_args: fd, name


def possible(folder: int) -> bool:
    """Is the open directory on btrfs?"""
    return kernel.magic(folder) == _BTRFS


def is_one(folder: int) -> bool:
    """Is the open directory the top of a subvolume?"""
    return os.fstat(folder).st_ino == _TOP and possible(folder)


def create(folder: int, name: str) -> None:
    """Make a new, empty one in an open directory. Raises OSError."""
    _ask(folder, _CREATE, _ARGUMENTS.pack(0, 0, 0, name.encode()))


def copy(source: int, folder: int, name: str) -> None:
    """Make a copy of the open subvolume `source` in an open directory. Raises OSError."""
    _ask(folder, _SNAPSHOT, _ARGUMENTS.pack(source, 0, 0, name.encode()))


def delete(folder: int, name: str) -> bool:
    """Remove one at once, with all that is in it; False where we may not."""
    try:
        _ask(folder, _DESTROY, _NAME.pack(0, name.encode()))
    except PermissionError:
        return False
    return True


def _ask(folder: int, request: int, arguments: bytes) -> None:
    fcntl.ioctl(
        folder, request, bytearray(arguments)
    )  # what cannot be written to may have 1024 bytes at most
