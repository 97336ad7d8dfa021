"""The proof that a drive takes data: a small file written, forced out, read back and removed.

Mount tables say `rw` of file systems that no longer write; nothing but writing tells. Whoever calls this
limits its time: on a failing drive any of it may hang.
"""

import errno
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from usbbackup.drives.ready import Waiting, Why
from usbbackup.text import human_bytes

FILE = ".usbbackup-probe"


@dataclass(frozen=True)
class Minimum:
    """What must be free before a run is worth starting."""

    bytes: int = 16 << 20
    inodes: int = 100


ENOUGH = Minimum()


@dataclass(frozen=True)
class Ok:
    """The drive took the data."""

    bytes_free: int
    bytes_total: int
    notes: tuple[str, ...] = ()  # doubts that do not stop a run, a sentence each


def probe(folder: int, sys_name: str, minimum: Minimum = ENOUGH, sys: Path = Path("/sys")) -> Ok | Waiting:
    """Try the drive by a file in our own folder there; `sys_name` is its block device."""
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if free < minimum.bytes:
        return Waiting(
            Why.NO_SPACE,
            f"The drive is full: {human_bytes(free)} free, at least {human_bytes(minimum.bytes)} needed.",
            "Delete what you no longer need on it.",
        )
    if space.f_files and space.f_favail < minimum.inodes:  # btrfs and FAT count no inodes
        return Waiting(
            Why.NO_SPACE,
            f"The drive has room for only {space.f_favail} more files.",
            "Delete what you no longer need on it.",
        )
    try:
        _write_and_read(folder)
    except OSError as error:
        return _failed(error)
    return Ok(free, space.f_blocks * space.f_frsize, tuple(_doubts(sys_name, sys)))


def _write_and_read(folder: int) -> None:
    content = secrets.token_bytes(512)
    _remove(folder)
    fd = os.open(
        FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        os.write(fd, content)
        os.fsync(fd)
        if os.pread(fd, len(content), 0) != content:
            raise OSError(errno.EIO, "what was read back is not what was written")
    finally:
        os.close(fd)
        _remove(folder)


def _remove(folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(FILE, dir_fd=folder)


def _failed(error: OSError) -> Waiting:
    match error.errno:
        case errno.EROFS:
            reason = "The drive refuses to be written to, though it is mounted for writing."
            return Waiting(Why.STOPPED, reason, "Unmount it and check its file system.")
        case errno.ENOSPC | errno.EDQUOT:
            return Waiting(Why.NO_SPACE, "The drive is full.", "Delete what you no longer need on it.")
        case errno.EACCES | errno.EPERM:
            reason = "You may not write to your own backup folder on the drive."
            return Waiting(Why.ROOT_OWNED, reason, "Look at its owner and mode.")
        case _:
            reason = f"Writing to the drive failed: {error.strerror}."
            return Waiting(Why.WRITE_FAILED, reason, "Try another cable or port; the drive may be failing.")


def _doubts(sys_name: str, sys: Path) -> list[str]:
    try:
        errors = int((sys / "fs/ext4" / sys_name / "errors_count").read_text())
    except (OSError, ValueError):
        return []
    if errors == 0:
        return []
    return [f"The file system has noted {errors} error{'s' * (errors != 1)}; unmount it and run fsck."]
