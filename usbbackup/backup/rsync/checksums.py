"""What the files of a job's rsync snapshots have to hold: one checksum each, however many snapshots share it.

They lie beside the snapshots, in `<job>/checksums`: records of fixed length, each with a check of its own,
only ever added to. A file is known by its inode number with its size and time, since numbers are used again.
A record without an inode number says that all files of the snapshot of that time are known.
"""

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from usbbackup.backup.entry import Entry, Kind
from usbbackup.backup.rsync.tree import Tree
from usbbackup.clock import from_compact_utc
from usbbackup.folders import closing, in_the_way

NAME = "checksums"
_RECORD = struct.Struct("<Qqq16s")
_CHECK = struct.Struct("<I")
_LENGTH = _RECORD.size + _CHECK.size
_PIECE = 1 << 20  # bytes
_AT_ONCE = 1000  # records that are written at once: so much is done again after an interruption
_NONE = 0  # the number of no inode

Check = Callable[[], None]  # raises where the drive must be let go of


class File(NamedTuple):
    """What a file is known by."""

    node: bytes  # Entry.node
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """The file that looks like this."""
        return cls(entry.node, entry.size, entry.mtime_ns)


@dataclass
class Checksums:
    """The record of one job on one drive."""

    job_fd: int
    known: dict[File, bytes]
    whole: set[int]  # times of snapshots, in seconds, of which every file is known

    @classmethod
    def read(cls, job_fd: int) -> Self:
        """What there is. Raises LayoutError where something else stands there."""
        found = cls(job_fd, {}, set())
        try:
            fd = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=job_fd)
        except FileNotFoundError:
            return found
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise in_the_way(job_fd, NAME, "file")
            damaged = sum(not found._take(data) for data in iter(lambda: file.read(_LENGTH), b""))
        if damaged:
            found.whole.clear()  # what is not known may have stood there
        return found

    def _take(self, data: bytes) -> bool:
        if len(data) < _LENGTH or zlib.crc32(data[: _RECORD.size]) != _CHECK.unpack(data[_RECORD.size :])[0]:
            return False
        node, size, mtime_ns, digest = _RECORD.unpack(data[: _RECORD.size])
        if node == _NONE:
            self.whole.add(size)
        else:
            self.known[File(b"%x" % node, size, mtime_ns)] = digest
        return True

    def of(self, entry: Entry) -> bytes | None:
        """The checksum that a file has to have."""
        return self.known.get(File.of(entry))

    def is_whole(self, tree: Tree) -> bool:
        """Was every file of this snapshot known once? What is not known now was changed since."""
        return _seconds(tree) in self.whole

    def complete(self, tree: Tree, check: Check) -> int:
        """Add what a snapshot has that is not known yet; returns how many files that were. It blocks."""
        if self.is_whole(tree):
            return 0
        files = (entry for entry in tree.entries() if entry.kind is Kind.FILE)
        new = {File.of(entry): entry.path for entry in files if self.of(entry) is None}
        batch: dict[File, bytes] = {}
        for file, path in new.items():
            check()
            batch[file] = digest(tree, path, check)
            if len(batch) == _AT_ONCE:
                self._add(batch)
                batch = {}
        self._add({**batch, File(b"0", _seconds(tree), 0): bytes(16)})
        self.whole.add(_seconds(tree))
        return len(new)

    def _add(self, sums: dict[File, bytes]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with closing(os.open(NAME, flags, 0o600, dir_fd=self.job_fd)) as fd:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise in_the_way(self.job_fd, NAME, "file")
            whole = os.fstat(fd).st_size // _LENGTH * _LENGTH  # a record that was cut off is written over
            os.pwrite(fd, b"".join(_records(sums)), whole)
            os.fsync(fd)
        self.known.update(sums)


def _records(sums: dict[File, bytes]) -> Iterable[bytes]:
    for file, found in sums.items():
        record = _RECORD.pack(int(file.node, 16), file.size, file.mtime_ns, found)
        yield record + _CHECK.pack(zlib.crc32(record))


def _seconds(tree: Tree) -> int:
    return int(from_compact_utc(tree.snapshot.snapshot.rpartition("@")[2]) or 0)


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
