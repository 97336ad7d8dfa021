"""One entry of a snapshot, of whichever engine, and the paths that name entries."""

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from usbbackup.errors import UsageError, UsbbackupError
from usbbackup.text import safe


class Kind(StrEnum):
    """What an entry is."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symlink"
    FIFO = "fifo"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"
    SOCKET = "socket"

    @classmethod
    def of(cls, mode: int) -> "Kind":
        """The kind that a mode tells (inode(7))."""
        return _KINDS[stat.S_IFMT(mode)]


_KINDS = {
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
    stat.S_IFSOCK: Kind.SOCKET,
}


class Entry(NamedTuple):
    """All that a snapshot says of one entry, but for its contents and extended attributes."""

    path: bytes  # as it is in the snapshot: absolute, less the leading slash
    kind: Kind
    mode: int  # permission bits
    uid: int
    gid: int
    size: int  # bytes of a file, else 0
    mtime_ns: int
    target: bytes = b""  # where a symbolic link leads
    node: bytes = b""  # names of one file have the same one; empty where it has no other name for certain
    content: bytes = b""  # borg's checksums of it in one; empty where there are none
    room: int = 0  # bytes that it takes at least, where nothing of it is there yet
    made_up: bool = False  # a directory that the snapshot does not tell of, though it has something in it

    @property
    def parent(self) -> bytes:
        """The path of its directory; empty for the top."""
        return self.path.rpartition(b"/")[0]


def relative(word: str) -> bytes:
    """The path of an entry from what a user calls it: absolute, or as it is in the snapshot.

    Raises UsageError for one that no entry can have.

    >>> relative("/home/d/"), relative("home/d"), relative("/")
    (b'home/d', b'home/d', b'')
    """
    parts = [part for part in os.fsencode(word).split(b"/") if part]
    if not word or any(part in (b".", b"..") for part in parts):
        raise UsageError(
            f"'{safe(word)}' is no path in a snapshot", "name it as it was, absolute: /home/david/letter.txt"
        )
    return b"/".join(parts)


def is_below(path: bytes, tops: Collection[bytes]) -> bool:
    """Is it one of these, or in one of them? The empty path is the top of everything.

    >>> is_below(b"a/b", {b"a"}), is_below(b"ab", {b"a"})
    (True, False)
    """
    return path in tops or b"" in tops or any(directory in tops for directory in above(path))


def outermost(paths: Iterable[bytes]) -> list[bytes]:
    """Those that are not in another of them, each once, in order.

    >>> outermost([b"a/b", b"c", b"a"])
    [b'a', b'c']
    """
    found: list[bytes] = []
    for path in sorted(set(paths), key=lambda path: path.split(b"/")):
        if not (found and is_below(path, found[-1:])):
            found.append(path)
    return found


def above(path: bytes) -> Iterator[bytes]:
    """The directories that lead to it, the outermost first.

    >>> list(above(b"home/d/letters"))
    [b'home', b'home/d']
    """
    parts = path.split(b"/")
    return (b"/".join(parts[:depth]) for depth in range(1, len(parts)))


def order(entry: Entry) -> list[bytes]:
    """The key that puts a directory before what is in it, and names in their order."""
    return entry.path.split(b"/")


def sound(entries: Iterable[Entry]) -> list[Entry]:
    """The entries of a snapshot in order, each proven to have a place of its own below the top.

    borg tells of no directories above what it was asked to keep by hand; these are made up.

    Raises UsbbackupError for a snapshot that names a place outside of it, or one behind something that is no
    directory: no backup is made like that, so somebody else made it.
    """
    found: dict[bytes, Entry] = {}
    for entry in sorted(entries, key=order):
        if not is_within(entry.path) or entry.path in found:
            raise hostile(entry.path)
        if entry.parent not in found:
            missing = [path for path in above(entry.path) if path not in found]
            found |= {
                path: Entry(path, Kind.DIRECTORY, 0o755, -1, -1, 0, 0, made_up=True) for path in missing
            }
        if any(found[path].kind is not Kind.DIRECTORY for path in above(entry.path)):
            raise hostile(entry.path)
        found[entry.path] = entry
    return list(found.values())


def is_within(path: bytes) -> bool:
    """Is it spelled as the path of something in a snapshot?

    >>> is_within(b"home/d"), is_within(b"home/../d"), is_within(b"/home")
    (True, False, False)
    """
    return b"\0" not in path and not any(part in (b"", b".", b"..") for part in path.split(b"/"))


def hostile(path: bytes) -> UsbbackupError:
    """The error for a snapshot that has such a path."""
    return UsbbackupError(
        f"the snapshot has an entry that would lead out of it: '{safe(path)}'",
        "usbbackup makes no such snapshot; nothing was restored",
    )


def shown(path: bytes) -> str:
    """A path for scripts: what is no UTF-8 is spelled as a backslash escape.

    >>> shown(bytes([99, 97, 102, 233]))
    'caf\\\\xe9'
    """
    return path.decode("utf-8", "backslashreplace")
