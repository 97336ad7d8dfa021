"""What the files of a job's rsync snapshots have to hold: one checksum each, however many snapshots share it.

They lie beside the snapshots, in `<job>/checksums`: records of fixed length, each with a check of its own,
only ever added to. A file is known by its inode number; a later record of the same number counts, and one
without size says that nothing is known any more. Damaged records are passed over.
"""

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from usbbackup.backup.entry import Entry, Kind
from usbbackup.backup.rsync_tree import Tree
from usbbackup.folders import closing, in_the_way

NAME = "checksums"
_RECORD = struct.Struct("<Qqq16s")
_CHECK = struct.Struct("<I")
_LENGTH = _RECORD.size + _CHECK.size
_PIECE = 1 << 20  # bytes
_AT_ONCE = 1000  # records that are written at once: so much is done again after an interruption
_NOTHING = -1  # the size of what is not known

Check = Callable[[], None]  # raises where the drive must be let go of


class Sum(NamedTuple):
    """What is known of a file."""

    size: int
    mtime_ns: int
    digest: bytes

    def is_of(self, entry: Entry) -> bool:
        """Was it made of the file that looks like this?"""
        return (self.size, self.mtime_ns) == (entry.size, entry.mtime_ns)


@dataclass
class Checksums:
    """The record of one job on one drive."""

    job_fd: int
    known: dict[bytes, Sum]  # by Entry.node

    @classmethod
    def read(cls, job_fd: int) -> "Checksums":
        """What there is. Raises LayoutError where something else stands there."""
        known: dict[bytes, Sum] = {}
        try:
            fd = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=job_fd)
        except FileNotFoundError:
            return cls(job_fd, known)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise in_the_way(job_fd, NAME, "file")
            while len(data := file.read(_LENGTH)) == _LENGTH:
                if zlib.crc32(data[: _RECORD.size]) == _CHECK.unpack(data[_RECORD.size :])[0]:
                    node, size, mtime_ns, digest = _RECORD.unpack(data[: _RECORD.size])
                    known[b"%x" % node] = Sum(size, mtime_ns, digest)
        return cls(job_fd, {node: one for node, one in known.items() if one.size != _NOTHING})

    def complete(self, tree: Tree, check: Check) -> int:
        """Add what a snapshot has that is not known yet; returns how many files that were. It blocks."""
        new = {
            entry.node: entry
            for entry in tree.entries()
            if entry.kind is Kind.FILE and not self._knows(entry)
        }
        # First of all what was known of files that are no more, and whose numbers others have now.
        self._add({node: Sum(_NOTHING, 0, bytes(16)) for node in new if node in self.known})
        batch: dict[bytes, Sum] = {}
        for node, entry in new.items():
            check()
            batch[node] = Sum(entry.size, entry.mtime_ns, digest(tree, entry.path, check))
            if len(batch) == _AT_ONCE:
                self._add(batch)
                batch = {}
        self._add(batch)
        return len(new)

    def _knows(self, entry: Entry) -> bool:
        return entry.node in self.known and self.known[entry.node].is_of(entry)

    def _add(self, sums: dict[bytes, Sum]) -> None:
        if not sums:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with closing(os.open(NAME, flags, 0o600, dir_fd=self.job_fd)) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise in_the_way(self.job_fd, NAME, "file")
            whole = os.fstat(fd).st_size // _LENGTH * _LENGTH  # a record that was cut off is written over
            os.pwrite(fd, b"".join(_records(sums)), whole)
            os.fsync(fd)
        self.known.update({node: one for node, one in sums.items() if one.size != _NOTHING})


def _records(sums: dict[bytes, Sum]) -> Iterable[bytes]:
    for node, one in sums.items():
        record = _RECORD.pack(int(node, 16), one.size, one.mtime_ns, one.digest)
        yield record + _CHECK.pack(zlib.crc32(record))


def digest(tree: Tree, path: bytes, check: Check) -> bytes:
    """The checksum of a file as it is on the drive: what memory keeps of it is let go of first."""
    with closing(tree.open(path)) as fd:
        return digest_of(fd, check)


def digest_of(fd: int, check: Check) -> bytes:
    """The checksum of an open file, read from its disk."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    found = hashlib.blake2b(digest_size=16)
    while piece := os.read(fd, _PIECE):
        found.update(piece)
        check()
    return found.digest()
