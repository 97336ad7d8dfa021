"""What an encrypted home holds, told without writing anything."""

import os
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
    status: os.stat_result  # but for the size, as it will be
    size: int  # bytes of a file's plain text, else 0
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
    try:
        match stat.S_IFMT(entry.status.st_mode):
            case stat.S_IFREG:
                yield Listed(entry.path, entry.status, _size(entry, keys))
            case stat.S_IFLNK:
                yield Listed(entry.path, entry.status, 0, entry.target(names))
            case _:
                yield Listed(entry.path, entry.status, 0)
    except DamagedError as error:
        yield Damaged(entry.path, str(error))


def _size(entry: Entry, keys: Keys) -> int:
    with closing(entry.opened()) as file:
        return contents.plain_text(file, keys, encrypted=entry.is_named).size
