"""What an encrypted home holds, told without writing anything."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass

from usbbackup.ecryptfs import contents
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.lower import MISSING, Entry, Path, Unread, Walk, Wanted
from usbbackup.ecryptfs.names import Names
from usbbackup.ecryptfs.passphrase import Keys
from usbbackup.folders import closing


@dataclass(frozen=True)
class Listed:
    """One entry in plain."""

    path: Path
    mode: int  # with its type (inode(7))
    size: int | None  # bytes of a file's plain text, else 0; None: unknown
    mtime_ns: int
    target: bytes = b""  # where a symbolic link leads


@dataclass(frozen=True)
class Damaged:
    """One entry that cannot be recovered, or not under its name; `why` completes the sentence 'it ...'."""

    path: Path
    why: str


def listed(lower: int, keys: Keys, wanted: Wanted) -> Iterator[Listed | Damaged]:
    """The entries below the open directory `lower`, a folder before what it holds."""
    names = Names(keys)
    walk = Walk(lower, names.name, wanted)
    for step in walk:
        match step:
            case Entry():
                yield from _entry(step, keys, names)
            case Unread(path, why):
                yield Damaged(path, why)
    yield from (Damaged(path, MISSING) for path in walk.missing)


def _entry(entry: Entry, keys: Keys, names: Names) -> Iterator[Listed | Damaged]:
    if entry.damage:
        yield Damaged(entry.path, entry.damage)
    mode, when = entry.status.st_mode, entry.status.st_mtime_ns
    try:
        size = _size(entry, keys) if stat.S_ISREG(mode) else 0
        target = entry.target(names) if stat.S_ISLNK(mode) else b""
    except DamagedError as error:
        yield Damaged(entry.path, str(error))
    else:
        yield Listed(entry.path, mode, size, when, target)


def _size(entry: Entry, keys: Keys) -> int:
    with closing(entry.opened()) as file:
        return contents.plain_text(file, keys, encrypted=entry.is_named).size
