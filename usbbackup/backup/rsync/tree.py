"""An rsync snapshot, opened: a plain directory on the drive, read by descriptors and through no symlink."""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Self

from usbbackup.backup import layout
from usbbackup.backup.entry import Entry, Kind, above, outermost
from usbbackup.backup.opened import Moved, Snapshot, untouched
from usbbackup.backup.rsync import restore
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing, names_in, open_below, open_folder
from usbbackup.offload import in_thread
from usbbackup.outcome import Stop
from usbbackup.programs import Programs
from usbbackup.running import Sink
from usbbackup.text import safe

_PIECE = 1 << 20  # bytes
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Tree:
    """See `opened.Opened`; use it in a `with` block, which holds the snapshot's directory open."""

    def __init__(self, snapshot: Snapshot, job_fd: int, programs: Programs) -> None:
        self.snapshot = snapshot
        self._job_fd = job_fd
        self._programs = programs
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        folder = open_folder(self._job_fd, layout.SNAPSHOTS)
        with closing(folder):
            self.fd = open_folder(folder, self.snapshot.snapshot.rpartition("@")[2])
        self._opened.callback(os.close, self.fd)
        self.device = os.fstat(self.fd).st_dev
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    async def each(self, take: Callable[[Entry], None], below: Sequence[bytes] = ()) -> None:
        """Walk, on a thread."""

        def walk() -> None:
            for entry in self.entries(below):
                take(entry)

        await in_thread(walk)

    def entries(self, below: Sequence[bytes] = ()) -> Iterator[Entry]:
        """The same at once; it blocks."""
        tops = outermost(below) if all(below) else []
        seen: set[bytes] = set()
        for top in tops:
            for path in (*above(top), top):
                if path not in seen and (entry := self._lookup(path)) is not None:
                    seen.add(path)
                    yield entry
        for top in tops or [b""]:
            if not top or top in seen:
                yield from self._inside(top)

    def _lookup(self, path: bytes) -> Entry | None:
        parent, _, name = path.rpartition(b"/")
        try:
            with closing(open_below(self.fd, parent)) as folder:
                return _entry(path, os.lstat(name, dir_fd=folder), folder, name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _inside(self, top: bytes) -> Iterator[Entry]:
        todo = [top]
        while todo:
            path = todo.pop()
            for entry in self._listed(path):
                yield entry
                if entry.kind is Kind.DIRECTORY:
                    todo.append(entry.path)

    def _listed(self, path: bytes) -> list[Entry]:
        try:
            folder = open_below(self.fd, path)
        except NotADirectoryError:
            return []
        except PermissionError as error:
            raise UsbbackupError(
                f"'/{safe(path)}' in the snapshot may not be read", "read it as root, with sudo"
            ) from error
        with closing(folder):
            if os.fstat(folder).st_dev != self.device:
                return []  # something is mounted there: it is no part of the snapshot
            within = path + b"/" if path else b""
            return [
                _entry(within + name, os.lstat(name, dir_fd=folder), folder, name)
                for name in map(os.fsencode, names_in(folder))
            ]

    async def read(self, path: bytes, sink: Sink) -> None:
        """Read the file."""
        with closing(self.open(path)) as fd:
            while piece := await in_thread(os.read, fd, _PIECE):
                sink(piece)

    def same_content(self, entry: Entry, fd: int) -> bool:
        """Compare, unless nobody has touched the file since the snapshot was begun."""
        if untouched(self.snapshot, fd):
            return True
        with closing(self.open(entry.path)) as kept:
            while (piece := os.read(kept, _PIECE)) == os.read(fd, _PIECE):
                if not piece:
                    return True
        return False

    def open(self, path: bytes) -> int:
        """A descriptor of a regular file, to be read. Raises OSError where it is none."""
        parent, _, name = path.rpartition(b"/")
        with closing(open_below(self.fd, parent)) as folder:
            fd = os.open(name, _FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "it is no regular file", os.fsdecode(path))
        return fd

    async def copy(
        self,
        paths: Sequence[bytes],
        into: int,
        *,
        alone: Sequence[bytes] = (),
        stop: Stop | None = None,
        moved: Moved = lambda _: None,
    ) -> tuple[str, ...]:
        """Have rsync copy them."""

        def names() -> Iterator[bytes]:
            for path in alone:
                yield from (*above(path), path)
            if paths:
                yield from (entry.path for entry in self.entries(paths))

        return await restore.copy(self._programs, self.fd, names, into, stop or Stop(), moved)


def _entry(path: bytes, found: os.stat_result, folder: int, name: bytes) -> Entry:
    kind = Kind.of(found.st_mode)
    regular = kind is Kind.FILE
    return Entry(
        path,
        kind,
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        found.st_size if regular else 0,
        found.st_mtime_ns,
        os.readlink(name, dir_fd=folder) if kind is Kind.SYMLINK else b"",
        b"" if kind is Kind.DIRECTORY else b"%x" % found.st_ino,
        b"",
        min(found.st_size, found.st_blocks * 512) if regular else 0,
    )
