"""Is a source what it was last time? A doubtful one must not push good backups out."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usbbackup.encrypted_home import still_encrypted
from usbbackup.kernel import mount_id
from usbbackup.mountinfo import MountRow
from usbbackup.outcome import SourceSeen
from usbbackup.text import safe

_MISSING = ""  # the file system of a source that is not there
_TOO_MUCH = 0.05  # the share of unreadable entries that is no longer a few single files
_BY_UUID = Path("/dev/disk/by-uuid")


@dataclass(frozen=True)
class Place:
    """Where a source really is: symlinks resolved, its file system named."""

    source: str  # as configured
    path: bytes  # absolute
    directory: bool
    device: int  # st_dev
    mount: MountRow | None  # what it is mounted through, where the kernel says

    @property
    def filesystem(self) -> str:
        """The kind and identity of its file system, the same after a reboot."""
        return filesystem(self.mount) if self.mount else "unknown"


@dataclass
class Tally:
    """What is counted while a source is walked."""

    files: int = 0  # entries that are no directories
    directories: int = 0
    unreadable: int = 0  # entries of any kind


def locate(source: str, mounts: Sequence[MountRow]) -> Place | OSError:
    """Find a source; the error is why it cannot be found."""
    try:
        path = os.fsencode(os.path.realpath(source, strict=True))
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        return error
    try:
        found, mounted = os.fstat(fd), mount_id(fd)
    finally:
        os.close(fd)
    row = next((row for row in mounts if row.mount_id == mounted), None)
    return Place(source, path, stat.S_ISDIR(found.st_mode), found.st_dev, row)


def filesystem(row: MountRow) -> str:
    """The file system behind a mount, named so that a reboot does not change the name.

    Device numbers and node names may change from boot to boot, and on some file systems so does statvfs(3)'s
    f_fsid, which is made of them; the UUID that udev links does not.
    """
    return f"{row.fs_type} {_uuid(row.source) or safe(row.source)}"


def _uuid(device: bytes) -> str | None:
    try:
        number = Path(os.fsdecode(device)).stat().st_rdev
        return next(link.name for link in sorted(_BY_UUID.iterdir()) if link.stat().st_rdev == number)
    except (OSError, ValueError, StopIteration):
        return None


def doubt_closed(source: str, found: Place | OSError) -> str | None:
    """A home that nobody has opened yet holds cipher text, if anything; None for every other source."""
    if isinstance(found, OSError) or not found.directory:
        return None
    kind = still_encrypted(Path(os.fsdecode(found.path)))
    return f"source {safe(source)} is still encrypted ({kind}): is its owner logged in?" if kind else None


def doubt_before(source: str, found: Place | OSError, last: SourceSeen | None) -> str | None:
    """Why a source must not be read at all, as a sentence; None where it may."""
    match found, last:
        case OSError(), SourceSeen(filesystem=""):
            return None  # missing like last time, and accepted then
        case OSError(strerror=why), _:
            return f"source {safe(source)} is missing: {why}"
        case Place(), SourceSeen(filesystem=known) if known not in (_MISSING, found.filesystem):
            return (
                f"source {safe(source)} is on another file system than last time "
                f"({found.filesystem}, not {known}): is it mounted?"
            )
        case _:
            return None


def doubt_after(seen: SourceSeen, last: SourceSeen | None) -> str | None:
    """Why a source that was read must not become a backup, as a sentence; None where it may."""
    name = safe(seen.source)
    if seen.filesystem == _MISSING:
        return None
    if _share(seen) > _TOO_MUCH and not (last and _TOO_MUCH < _share(last) >= _share(seen) / 1.1):
        return (
            f"{seen.unreadable} of the {seen.files + seen.unreadable} entries of source {name} cannot be read"
        )
    if seen.files == 0 and (last is None or last.files > 0):
        return f"source {name} holds no files"
    if last and seen.files * 2 < last.files:
        return f"source {name} holds {seen.files} files, last time it held {last.files}"
    return None


def _share(seen: SourceSeen) -> float:
    return seen.unreadable / max(1, seen.files + seen.unreadable)


def seen(source: str, found: Place | OSError, tally: Tally | None) -> SourceSeen:
    """What to remember of a source for the next run; one that is missing has no tally."""
    if isinstance(found, OSError) or tally is None:
        return SourceSeen(source, 0, 0, _MISSING)
    return SourceSeen(source, tally.files, tally.unreadable, found.filesystem)
