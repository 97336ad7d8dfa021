"""What every entry of the sources looked like when a snapshot was made, so that the next one need only look.

A manifest is a file of ours at home, written during the walk and read through mmap, never decoded as a whole:

    magic
    one record for each directory: head, path, names with NULs between, marks as 64-bit numbers
    binding: JSON, which snapshot on the drive it belongs to, and of which sources it tells
    foot: where the records end, where the binding ends, a checksum of all that comes before

It is compared by directory: names and marks that are equal as bytes need no look at single entries.

An entry that had changed only just before the walk (by its ctime) may change again within the same tick of
the kernel's clock, and still look the same. It gets a mark that no entry ever has, another one in every
manifest, and so counts as changed the next time (as git does with its "racily clean" entries).
"""

import json
import os
import zlib
from array import array
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

from usbbackup.files import Held, append, nameless

if TYPE_CHECKING:
    from usbbackup.backup.walk import Group

_MAGIC = b"usbbackup manifest 1\n"
BEGIN = len(_MAGIC)  # of the first record
_HEAD = Struct("=IIIqqIIIB")  # lengths of path, names, marks; inode, mtime, mode, uid, gid, flags
_FOOT = Struct("=QQI")
_MARK = 4  # numbers in a mark; the last is the ctime
_WORD = 8  # bytes
_CONTENT = slice(_WORD, 3 * _WORD)  # of a mark: size, mtime
_BUFFER = 1 << 18  # bytes
_LONG = 1 << 63
_WHOLE, _ADORNED, _EMPTY = 1, 2, 4
_DOUBT = 2_000_000_000  # nanoseconds before the walk; no local file system's clock ticks slower

Binding = dict[str, Any]  # what JSON can hold
Part = tuple[int, int]  # records: where the first begins, where the last ends


def mark(found: os.stat_result) -> tuple[int, int, int, int]:
    """Four numbers that stay the same for as long as nothing of an entry changes, as in borg's files cache.

    The inode number, doubled, plus one where it has several names; size; time of change of the content, and
    of anything at all (inode(7)). What does not fit into 63 bits (times after 2262) is cut.
    """
    inode = (found.st_ino << 1 | (found.st_nlink > 1)) % _LONG
    return inode, found.st_size, found.st_mtime_ns % _LONG, found.st_ctime_ns % _LONG


class Directory(NamedTuple):
    """One record."""

    path: bytes  # absolute
    inode: int
    mtime: int
    mode: int
    uid: int
    gid: int
    flags: int
    names: bytes
    marks: bytes

    @property
    def whole(self) -> bool:
        """Are the names, and the directories with records of their own, all that it held?"""
        return bool(self.flags & _WHOLE)

    @property
    def adorned(self) -> bool:
        """Has it extended attributes, access control lists, or a time that does not fit in here?"""
        return bool(self.flags & _ADORNED)

    @property
    def kept_empty(self) -> bool:
        """Was it not entered (a mount point, say)? Then nothing but its path is known."""
        return bool(self.flags & _EMPTY)

    def files(self) -> list[bytes]:
        """The names of everything in it that is no directory."""
        return self.names.split(b"\0") if self.names else []

    def inodes(self) -> "array[int]":
        """The first number of each mark."""
        return array("q", self.marks)[::_MARK]

    def known(self) -> dict[bytes, bytes]:
        """The mark of each name."""
        size = _MARK * _WORD
        marks = (self.marks[start : start + size] for start in range(0, len(self.marks), size))
        return dict(zip(self.files(), marks, strict=True))

    def unchanged(self, before: "Directory") -> list[bytes]:
        """The names whose marks are what they were."""
        return self._same(before, slice(None))

    def alike(self, before: "Directory") -> list[bytes]:
        """The names that have the size and the time of their content that they had."""
        return self._same(before, _CONTENT)

    def _same(self, before: "Directory", of_mark: slice) -> list[bytes]:
        if self.names == before.names and self.marks == before.marks:
            return self.files()
        old = before.known()
        marks = self.known().items()
        return [name for name, mark in marks if name in old and old[name][of_mark] == mark[of_mark]]


class Recorder:
    """Writes the manifest of one walk, group by group, to a file in memory.

    `began`: when the walk began, in nanoseconds of the clock that file times come from (time.time_ns()).
    """

    def __init__(self, began: int) -> None:
        self.file = nameless()
        self.bytes = 0  # of all files
        self.files = 0
        self._began = began
        self._never = -1 - int.from_bytes(os.urandom(7))  # the ctime of no entry
        self._end = self._checksum = 0
        self._waiting = bytearray()
        self._write(_MAGIC)

    def add(self, group: "Group") -> None:
        """Note a directory; only what was looked at closely."""
        if group.directory is None or (look := group.look) is None:
            return
        for path in group.names[: look.empty]:
            self._write(_HEAD.pack(len(path), 0, 0, 0, 0, 0, 0, 0, _EMPTY) + path)
        start = len(group.directory.rstrip(b"/")) + 1
        names = b"\0".join([path[start:] for path in group.names[look.empty :]])
        self.files += len(group.names) - look.empty
        self.bytes += sum(look.marks[1::_MARK])
        marks = self._settled(look.marks).tobytes()
        own = look.own
        odd = look.adorned or not -_LONG <= own.st_mtime_ns < _LONG
        head = _HEAD.pack(
            *(
                len(group.directory),
                len(names),
                len(marks),
                own.st_ino % _LONG,
                max(-_LONG, min(own.st_mtime_ns, _LONG - 1)),
            ),
            *(own.st_mode, own.st_uid, own.st_gid, _WHOLE * group.whole | _ADORNED * odd),
        )
        self._write(head + group.directory + names + marks)

    def _settled(self, marks: "array[int]") -> "array[int]":
        """The marks, those of entries that had only just changed replaced."""
        latest = self._began - _DOUBT
        changed = marks[_MARK - 1 :: _MARK]
        if changed and max(changed) >= latest:
            for index, ctime in enumerate(changed):
                if ctime >= latest:
                    marks[index * _MARK + _MARK - 1] = self._never
        return marks

    @property
    def reached(self) -> int:
        """So many bytes are in the file: whole records, which may be read while more are added."""
        return self._end - len(self._waiting)

    def flush(self) -> Held:
        """The file, with all that was noted."""
        append(self.file, bytes(self._waiting))
        self._waiting.clear()
        return self.file

    def seal(self, binding: Binding) -> Held:
        """The file, ended."""
        end = self._end
        self._write(json.dumps(binding).encode())
        self._waiting += _FOOT.pack(end, self._end, self._checksum)
        return self.flush()

    def _write(self, data: bytes) -> None:
        self._end += len(data)
        self._checksum = zlib.crc32(data, self._checksum)
        self._waiting += data
        if len(self._waiting) > _BUFFER:
            self.flush()


class Manifest:
    """A manifest that can be read; `binding` is empty while it is still being written."""

    def __init__(self, file: Held, end: int | None = None) -> None:
        """`end`: where the records end, the file if not given. Raises ValueError where it is none."""
        size = os.fstat(file.fd).st_size if end is None else end
        if size < len(_MAGIC):
            raise ValueError("too short")
        self.file = file
        self._map = mmap(file.fd, size, access=ACCESS_READ)
        if self._map[: len(_MAGIC)] != _MAGIC:
            raise ValueError("it is no manifest")
        self.binding: Binding = {}
        self.end = size  # of the records
        self._starts: dict[bytes, int] = {}
        self._by_inode: dict[int, int] = {}

    @classmethod
    def sealed(cls, file: Held) -> "Manifest":
        """One that was written to its end. Raises ValueError where it was not, or is damaged."""
        manifest = cls(file)
        buffer = manifest._map
        if len(buffer) < len(_MAGIC) + _FOOT.size:
            raise ValueError("too short")
        end, bound, checksum = _FOOT.unpack(buffer[-_FOOT.size :])
        if not len(_MAGIC) <= end <= bound == len(buffer) - _FOOT.size:
            raise ValueError("it has no end")
        if zlib.crc32(memoryview(buffer)[:bound]) != checksum:
            raise ValueError("damaged")
        manifest.binding = json.loads(buffer[end:bound])
        manifest.end = end
        return manifest

    def parts(self, count: int) -> list[Part]:
        """The records in so many parts of about the same size, for `records`; fewer where there are few."""
        start, found = BEGIN, []
        for number in range(1, count + 1):
            wanted = self.end * number // count
            end = start
            while end < wanted:
                end = self._after(end)
            if end > start:
                found.append((start, end))
            start = end
        return found

    def records(self, part: Part | None = None) -> Iterator[Directory]:
        """The records of one part, or all, in the order of the walk."""
        start, end = part or (BEGIN, self.end)
        while start < end:
            yield self._at(start)
            start = self._after(start)

    def _after(self, start: int) -> int:
        path, names, marks, *_ = _HEAD.unpack_from(self._map, start)
        return start + _HEAD.size + int(path) + int(names) + int(marks)

    def _at(self, start: int) -> Directory:
        buffer = self._map
        path, names, marks, inode, mtime, mode, uid, gid, flags = _HEAD.unpack_from(buffer, start)
        at = start + _HEAD.size
        middle, last = at + path, at + path + names
        return Directory(
            *(buffer[at:middle], inode, mtime, mode, uid, gid, flags),
            names=buffer[middle:last],
            marks=buffer[last : last + marks],
        )

    def before(self, directory: Directory) -> Directory | None:
        """The record here of what is `directory` in another manifest: by its path, or, renamed, its inode."""
        start = self._starts.get(directory.path)
        if start is not None and (found := self._at(start)).inode == directory.inode:
            return found
        start = self._by_inode.get(directory.inode, start)
        return None if start is None else self._at(start)

    def index(self) -> None:
        """Make ready for `before`."""
        start = BEGIN
        while start < self.end:
            path, _, _, inode, *_ = _HEAD.unpack_from(self._map, start)
            at = start + _HEAD.size
            self._starts[self._map[at : at + path]] = self._by_inode[inode] = start
            start = self._after(start)
