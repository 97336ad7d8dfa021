"""All entries of an encrypted home by their plain names, folder by folder, as they lie on the disk."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.names import PREFIX, Names

MISSING = "is not there"
DEEPEST = 200  # folders in one another, of which each is held open

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Path = tuple[str, ...]  # plain names, from the top of the home
Note = tuple[Path, str]  # what is wrong with an entry; completes the sentence 'it ...'


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder. What cannot be decrypted has the name it was found by."""

    path: Path
    folder: int  # the open folder it lies in; only until the walk goes on
    found: str  # its name in there
    status: os.stat_result
    damage: str | None = None  # what is wrong with the name

    @property
    def is_folder(self) -> bool:
        """Does it hold other entries?"""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_named(self) -> bool:
        """Is the name an encrypted one, and so the contents too?"""
        return os.fsencode(self.found).startswith(PREFIX)

    @property
    def inode(self) -> tuple[int, int]:
        """What all names of one file have in common."""
        return self.status.st_dev, self.status.st_ino

    def opened(self) -> int:
        """Open a file for reading. Raises DamagedError where that fails."""
        try:
            return os.open(
                self.found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self.folder
            )
        except OSError as error:
            raise DamagedError(f"cannot be read: {error.strerror}") from error

    def target(self, names: Names) -> bytes:
        """Where a symbolic link leads, in plain. Raises DamagedError."""
        try:
            found = os.readlink(os.fsencode(self.found), dir_fd=self.folder)
        except OSError as error:
            raise DamagedError(f"cannot be read: {error.strerror}") from error
        return names.target(found)


@dataclass(frozen=True, slots=True)
class Left:
    """All that a folder holds has been told."""

    path: Path
    status: os.stat_result


@dataclass(frozen=True, slots=True)
class Unread:
    """What could not be looked at."""

    path: Path
    why: str


Step = Entry | Left | Unread


@dataclass(frozen=True)
class Wanted:
    """The part of a home that is asked for: all of it, or what lies at these paths."""

    paths: frozenset[Path] = frozenset()

    def touches(self, path: Path) -> bool:
        """Is it asked for, or on the way to what is?"""
        return not self.paths or any(path[: len(wanted)] == wanted[: len(path)] for wanted in self.paths)


class Walk:
    """The entries of a home, each folder before what it holds and `Left` after that."""

    def __init__(self, top: int, name: Callable[[bytes], bytes], wanted: Wanted) -> None:
        """`top` is the open directory that holds all; `name` decrypts a name or raises DamagedError."""
        self._met: set[Path] = set()
        self._top = top
        self._name = name
        self._wanted = wanted
        self._entered = True

    def pass_by(self) -> None:
        """Do not enter the folder that was told last."""
        self._entered = False

    @property
    def missing(self) -> list[Path]:
        """What was asked for, and has not been told."""
        return sorted(self._wanted.paths - self._met)

    def __iter__(self) -> Iterator[Step]:
        try:
            frames = [self._frame((), os.dup(self._top), None)]
        except OSError as error:
            yield Unread((), f"cannot be read: {error.strerror}")
            return
        try:
            while frames:
                yield from self._next(frames)
        finally:
            for frame in frames:
                os.close(frame.fd)

    def _next(self, frames: "list[_Frame]") -> Iterator[Step]:
        frame = frames[-1]
        match next(frame.entries, None):
            case None:
                os.close(frames.pop().fd)
                if frame.status is not None:
                    yield Left(frame.path, frame.status)
            case Entry() as entry if self._wanted.touches(entry.path):
                self._entered = entry.is_folder
                self._met |= {entry.path} & self._wanted.paths
                yield entry
                if self._entered:
                    yield from self._enter(entry, frames)
            case Unread() as unread if self._wanted.touches(unread.path):
                yield unread

    def _enter(self, entry: Entry, frames: "list[_Frame]") -> Iterator[Unread]:
        if len(frames) >= DEEPEST:
            yield Unread(entry.path, f"lies deeper than {DEEPEST} folders")
            return
        try:
            fd = os.open(entry.found, _FOLDER, dir_fd=entry.folder)
            frames.append(self._frame(entry.path, fd, entry.status))
        except OSError as error:
            yield Unread(entry.path, f"cannot be read: {error.strerror}")

    def _frame(self, path: Path, fd: int, status: os.stat_result | None) -> "_Frame":
        try:
            names = sorted(map(self._named, os.listdir(fd)))
        except BaseException:
            os.close(fd)
            raise
        return _Frame(path, fd, status, _entries(path, fd, names))

    def _named(self, found: str) -> "_Named":
        try:
            return _Named(os.fsdecode(self._name(os.fsencode(found))), found, None)
        except DamagedError as error:
            return _Named(found, found, f"{error}; it keeps its encrypted name")


class _Named(NamedTuple):
    plain: str
    found: str
    damage: str | None


class _Frame(NamedTuple):
    path: Path
    fd: int
    status: os.stat_result | None  # None: the top
    entries: Iterator[Entry | Unread]


def _entries(path: Path, fd: int, names: list[_Named]) -> Iterator[Entry | Unread]:
    used: set[str] = {found for _, found, _ in names}
    for plain, found, damage in names:
        if plain != found and plain in used:  # never one over the other
            plain, damage = found, f"has the name of another entry, '{plain}'; it keeps its encrypted name"
        used.add(plain)
        try:
            status = os.stat(found, dir_fd=fd, follow_symlinks=False)
        except OSError as error:
            yield Unread((*path, plain), f"cannot be read: {error.strerror}")
        else:
            yield Entry((*path, plain), fd, found, status, damage)
