"""The files of one directory at one time, which is what the catalogue compares."""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Self

from usbbackup.backup.entry import Entry, Kind, is_below
from usbbackup.backup.manifest import Manifest
from usbbackup.backup.sources import Place

_MARK = 4  # numbers for each name in a manifest: inode, size, mtime, ctime
_SECOND = 10**9

Version = tuple[int, int]  # size, and time in seconds


class Listing(NamedTuple):
    """The files in one directory, at one time."""

    path: bytes  # of the directory, absolute
    names: bytes  # with NULs between
    sizes: "array[int]"
    mtimes: "array[int]"  # nanoseconds

    @property
    def digest(self) -> bytes:
        """Equal where nothing has changed."""
        found = hashlib.blake2b(self.names, digest_size=8)
        found.update(self.sizes.tobytes())
        found.update(self.mtimes.tobytes())
        return found.digest()

    @property
    def files(self) -> "dict[bytes, Version]":
        """Each by its name."""
        names = self.names.split(b"\0") if self.names else []
        seconds = [mtime // _SECOND for mtime in self.mtimes]
        return dict(zip(names, zip(self.sizes, seconds, strict=True), strict=True))

    def packed(self) -> bytes:
        """All but the path."""
        return b"".join((self.names, b"\0\0", self.sizes.tobytes(), self.mtimes.tobytes()))

    @classmethod
    def unpacked(cls, path: bytes, content: bytes) -> Self:
        """What was packed: no name is empty, so the first two NULs in a row end them."""
        names, _, numbers = content.partition(b"\0\0")
        both = array("q", numbers)
        return cls(path, names, both[: len(both) // 2], both[len(both) // 2 :])


def of_manifest(manifest: Manifest) -> Iterator[Listing]:
    """The listings that a run has made anyway."""
    for directory in manifest.records():
        if not directory.kept_empty:
            marks = array("q", directory.marks)
            yield Listing(directory.path, directory.names, marks[1::_MARK], marks[2::_MARK])


def of_entries(entries: Iterable[Entry]) -> Iterator[Listing]:
    """The same, of a snapshot that was read; entries in order."""
    files = sorted(
        (entry for entry in entries if entry.kind is not Kind.DIRECTORY), key=lambda entry: entry.parent
    )
    for parent, group in groupby(files, key=lambda entry: entry.parent):
        some = list(group)
        yield Listing(
            b"/" + parent,
            b"\0".join(entry.path.rpartition(b"/")[2] for entry in some),
            array("q", [entry.size for entry in some]),
            array("q", [entry.mtime_ns for entry in some]),
        )


def of_singles(places: Sequence[Place]) -> Iterator[Listing]:
    """Sources that are files, and lie in no other source: no walk has listed their directories."""
    walked = {place.path for place in places if place.directory}
    files = [place.path for place in places if not place.directory and not is_below(place.path, walked)]
    for parent, group in groupby(sorted(files), key=lambda path: path.rpartition(b"/")[0]):
        found = [(path, os.lstat(path)) for path in group if os.path.lexists(path)]
        names = b"\0".join(path.rpartition(b"/")[2] for path, _ in found)
        sizes = array("q", [one.st_size for _, one in found])
        yield Listing(parent or b"/", names, sizes, array("q", [one.st_mtime_ns for _, one in found]))
