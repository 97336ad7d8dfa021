"""The walk through one source: what it holds, directory by directory, and what of it may be backed up."""

import errno
import os
import stat
import sys
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from usbbackup.backup.engine import Over
from usbbackup.backup.manifest import mark
from usbbackup.backup.matcher import Matcher
from usbbackup.backup.sources import Place, Tally
from usbbackup.mountinfo import MountRow
from usbbackup.outcome import Stop
from usbbackup.text import safe

_ENCODING = sys.getfilesystemencoding()
_NAMED = 1000  # unreadable entries that are kept by name
_DENIED = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
_CACHEDIR = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/
_OWN_ATTRIBUTES = ("user.", "system.posix_acl_")

# Never entered: they hold no files, only views of the running system.
_VIEWS = frozenset(
    (
        *("proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs"),
        *("pstore", "efivarfs", "bpf", "binfmt_misc", "mqueue", "configfs", "fusectl", "hugetlbfs", "nsfs"),
    )
)
# Not even looked at unless other file systems are wanted: asking them for anything may hang, or mount more.
_FAR = ("autofs", "fuse", "nfs", "cifs", "smb", "9p", "afs", "ceph", "davfs", "ncp", "coda", "lustre")


@dataclass(frozen=True)
class Rules:
    """What a walk heeds."""

    matcher: Matcher
    one_file_system: bool
    mounts: Mapping[bytes, MountRow]  # by mount point
    avoid: frozenset[tuple[int, int]]  # directories by (st_dev, st_ino): the drive that the backup goes to
    stop: Stop
    root: bool = field(default_factory=lambda: os.geteuid() == 0)

    def may_read(self, name: bytes, fd: int | None = None) -> bool:
        """May we read the file, seen from the directory `fd`? Root may."""
        return self.root or os.access(name, os.R_OK, dir_fd=fd)

    def may_enter(self, path: bytes) -> bool:
        """May we list the directory and reach what is in it?"""
        return self.root or os.access(path, os.R_OK | os.X_OK)


class Unread:
    """What could not be read, as sentences; the first thousand are enough."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, path: bytes, why: str) -> None:
        """Note one entry."""
        if len(self.lines) < _NAMED:
            self.lines.append(f"{safe(path)}: {why}")


class Look(NamedTuple):
    """What a close look at one directory found, for comparing with the look of an earlier run."""

    own: os.stat_result
    adorned: bool  # it has extended attributes or access control lists
    empty: int  # so many of the group's names, the first, are directories that are kept empty
    marks: "array[int]"  # of each other name, in their order, as manifest.mark has it


class Group(NamedTuple):
    """What one directory brings to the list; absolute paths."""

    directory: bytes | None  # itself; None for sources that are single files
    names: list[bytes]  # what it holds and nobody enters: all but directories, and directories kept empty
    whole: bool = False  # the names, and the directories that are entered, are all that it holds
    look: Look | None = None  # only in a close walk, and only of directories that were entered


class Walk:
    """The groups of one source, a directory before those that are in it."""

    def __init__(
        self,
        place: Place,
        rules: Rules,
        others: Collection[bytes],
        tally: Tally,
        unread: Unread,
        *,
        closely: bool = False,
    ) -> None:
        """`others` are the places that are walked by themselves; what is met is counted in `tally`.

        `closely`: look at every entry, not only at its name and kind.
        """
        self._place = place
        self._rules = rules
        self._others = others
        self._tally = tally
        self._unread = unread
        self._closely = closely
        self._top = len(inside(place.path))
        self._todo = [place.path]

    def __iter__(self) -> Iterator[Group]:
        if not self._may_enter(self._place.path):
            return
        while self._todo:
            if self._rules.stop:
                raise Over(self._rules.stop.result())
            if (group := self._group(self._todo.pop())) is not None:
                yield group

    def _group(self, path: bytes) -> Group | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None  # it vanished, or is something else by now
        except OSError as error:
            self._unreadable(path, error)
            return None
        try:
            group = self._opened(path, fd)
        except OSError as error:
            self._unreadable(path, error)
            return None
        finally:
            os.close(fd)
        self._tally.directories += 1
        return group

    def _opened(self, path: bytes, fd: int) -> Group:
        found, rules = os.fstat(fd), self._rules
        empty = (
            (found.st_dev, found.st_ino) in rules.avoid
            or (rules.one_file_system and found.st_dev != self._place.device)  # or mounted just now
            or (rules.matcher.tagged_caches and path != self._place.path and _is_tagged(fd))
        )
        directories, files, whole = ([], [], False) if empty else self._listed(path, fd)
        look = self._look(fd, found, directories, files) if self._closely else None
        self._tally.files += len(files)
        self._tally.directories += len(directories)
        within = inside(path)
        return Group(path, [*directories, *[within + name for name in files]], whole, look)

    def _look(self, fd: int, own: os.stat_result, directories: list[bytes], files: list[bytes]) -> Look:
        """Look at the files; those that have vanished are taken off the list."""
        marks: list[int] = []
        vanished: list[bytes] = []
        for name in files:
            try:
                marks += mark(os.stat(name, dir_fd=fd, follow_symlinks=False))
            except FileNotFoundError:
                vanished.append(name)
        for name in vanished:
            files.remove(name)
        adorned = _is_adorned(fd, root=self._rules.root)
        return Look(own, adorned, len(directories), array("q", marks))

    def _listed(self, path: bytes, fd: int) -> tuple[list[bytes], list[bytes], bool]:
        """The directories that are kept empty, the files, and whether that is all there is."""
        excludes, keeps, within = self._rules.matcher.excludes, self._keeps, inside(path)
        any_rules, root = self._rules.matcher.any_rules, self._rules.root
        below = within[self._top :]
        files: list[bytes] = []
        directories: list[bytes] = []
        left_out = 0
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, "surrogateescape")
                directory = entry.is_dir(follow_symlinks=False)
                if any_rules and excludes(below, name, directory):
                    left_out += 1
                elif directory:
                    directories.append(within + name)
                elif (root and entry.is_file(follow_symlinks=False)) or keeps(entry, name, within, fd):
                    files.append(name)
                else:
                    left_out += 1
        ways = [(directory, self._way(directory)) for directory in sorted(directories)]
        self._todo.extend(directory for directory, way in reversed(ways) if way is _Way.ENTER)
        empty = [directory for directory, way in ways if way is _Way.KEEP_EMPTY]
        whole = not left_out and all(way is not _Way.LEAVE for _, way in ways)
        files.sort()
        return empty, files, whole

    def _keeps(self, entry: "os.DirEntry[str]", name: bytes, within: bytes, fd: int) -> bool:
        if entry.is_file(follow_symlinks=False):
            if not (readable := self._rules.may_read(name, fd)):
                self._unreadable(within + name, _DENIED)
            return readable
        if entry.is_symlink():
            return True
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError:
            return False  # it vanished
        return stat.S_ISFIFO(mode) or (self._rules.root and not stat.S_ISSOCK(mode))

    def _way(self, path: bytes) -> "_Way":
        if path in self._others:
            return _Way.LEAVE
        if (row := self._rules.mounts.get(path)) is None:
            return _Way.ENTER if self._may_enter(path) else _Way.LEAVE
        if row.fs_type in _VIEWS:
            return _Way.KEEP_EMPTY
        if (
            not self._rules.one_file_system
            or self._place.mount is None
            or row.devnum == self._place.mount.devnum
        ):
            return _Way.ENTER if self._may_enter(path) else _Way.LEAVE
        return _Way.LEAVE if row.fs_type.startswith(_FAR) else _Way.KEEP_EMPTY

    def _may_enter(self, path: bytes) -> bool:
        if not (may := self._rules.may_enter(path)):
            self._unreadable(path, _DENIED)
        return may

    def _unreadable(self, path: bytes, error: OSError) -> None:
        self._tally.unreadable += 1
        self._unread.add(path, error.strerror or str(error))


class _Way(Enum):
    ENTER = auto()
    KEEP_EMPTY = auto()
    LEAVE = auto()


def inside(path: bytes) -> bytes:
    """The path of a directory as the beginning of what is in it."""
    return path if path.endswith(b"/") else path + b"/"


def _is_adorned(directory: int, *, root: bool) -> bool:
    """Has it attributes that a copy must have too? Only root can give it others than a user's own."""
    try:
        names = os.listxattr(directory)
    except OSError:  # its file system knows of none; what is wrong with it otherwise, reading it will tell
        return False
    return bool(names) and (root or any(name.startswith(_OWN_ATTRIBUTES) for name in names))


def _is_tagged(directory: int) -> bool:
    try:
        fd = os.open(
            "CACHEDIR.TAG", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
        )
    except OSError:
        return False
    try:
        return os.read(fd, len(_CACHEDIR)) == _CACHEDIR
    except OSError:
        return False
    finally:
        os.close(fd)
