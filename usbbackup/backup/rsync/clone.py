"""Filling a stage from the last snapshot: directories made anew, what did not change linked, the rest listed.

Runs on manifests alone: what the sources look like now, and what they looked like when the last snapshot was
made; no source is read. What keeps older snapshots as they are:

- a name that is put on the list is not in the stage, so rsync never gets to touch what older snapshots share;
- of a file with several names either all are linked or all are listed;
- an entry that cannot be linked, for whatever reason (it is not there, it has too many names already, it
  belongs to somebody else), is listed: rsync links or copies it;
- every directory is opened below its parent and through no symbolic link, in the stage and in the snapshot.
"""

import errno
import os
import stat
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple, Protocol

from usbbackup.backup.manifest import BEGIN, Directory, Manifest, Part, mark
from usbbackup.backup.rsync import name_list
from usbbackup.files import Held, append

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 200  # directories held open at once; what lies deeper is left to rsync
_DRIVE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ESTALE))
_BUFFER = 1 << 16  # bytes
_TELL = 1000  # entries
_DEFAULT_ACL = "system.posix_acl_default"

# How many entries more were linked, and listed; and whether rsync may find any of those in the last snapshot,
# by size and time.
Tell = Callable[[int, int, bool], None]


class Crew(Protocol):
    """Whoever does pieces of work, in any order, here or in processes of their own."""

    def begin(self, piece: Callable[[], None]) -> None:
        """Have it done; it may be over when this returns. Raises OSError where the drive does not do."""
        ...

    def wait(self) -> None:
        """Wait until all that was begun is over. Raises OSError."""
        ...


class Order(NamedTuple):
    """What is wanted, between open files and below the open folder of a job."""

    job: int
    stage: str  # there, and empty but for the directories that lead to the sources
    folder: str  # the snapshot to link from
    start: int  # so many characters at the beginning of a path are not in the list: name_list
    listed: Held  # a file to append the list to
    split: Held  # a file to append the inode numbers to of what is listed and has several names
    in_place: bool = (
        False  # the stage shares nothing with a snapshot: what has one name may stay while listed
    )


def clone(
    order: Order,
    now: Held,
    ends: Iterable[int],
    before: Manifest | None,
    singles: Collection[bytes],
    crew: Crew,
    parts: int,
    tell: Tell,
) -> None:
    """Fill the stage while `now` is still being written: `ends` tells up to where it may be read.

    `singles` are sources that are single files, complete after the last end: always listed, whoever else has
    them. Without `before` everything that the snapshot holds is linked. Raises OSError where the drive does
    not do.
    """
    if before is not None:
        before.index()
    start = BEGIN
    with Descent(order.job, order.stage) as stage:
        with suppress(OSError):
            os.removexattr(stage.top, _DEFAULT_ACL)  # all that is made below would inherit it
        for end in ends:
            part, known = (start, end), Manifest(now, end)
            make_directories(stage, known.records(part))
            crew.begin(partial(fill, order, known, part, before, tell))
            start = end
    crew.wait()
    whole = Manifest(now, start)
    for part in whole.parts(parts):
        crew.begin(partial(dress_all, order, whole, part))
    crew.wait()
    if leave_to_rsync(order, whole, singles):
        tell(0, 0, True)


def leave_to_rsync(order: Order, now: Manifest, paths: Collection[bytes]) -> bool:
    """Take these entries out of the stage and list them; with them all names of the files that they are.

    False where there are neither.
    """
    _take_out(order, paths)
    size = os.fstat(order.split.fd).st_size
    if split := frozenset(array("q", os.pread(order.split.fd, size, 0))):
        _close_groups(order, now, split)
    return bool(paths or split)


def make_directories(stage: "Descent", wanted: Iterable[Directory]) -> None:
    """Make these directories of the sources in the stage."""
    for directory in wanted:
        if not directory.kept_empty and (names := parts_of(directory.path)):
            _make(stage, names)


def _make(stage: "Descent", names: list[bytes]) -> None:
    if len(names) > _DEEPEST:
        return
    if (parent := stage.to(names[:-1])) is None:  # a source inside another may be walked first
        _make(stage, names[:-1])
        parent = stage.to(names[:-1])
    if parent is not None:
        with unless_the_drive(), suppress(FileExistsError):
            os.mkdir(names[-1], 0o700, dir_fd=parent)


def fill(order: Order, now: Manifest, part: Part, before: Manifest | None, tell: Tell) -> None:
    """Link and list what is in the directories of this part, which exist in the stage."""
    with (
        Descent(order.job, order.stage) as stage,
        Descent(order.job, order.folder) as last,
        Listing(order) as listed,
    ):
        share = _Share(stage, last, listed, before, order.start)
        for directory in now.records(part):
            share.take(directory)
            if share.linked + listed.count >= _TELL:
                share.tell(tell)
        share.tell(tell)


def dress_all(order: Order, now: Manifest, part: Part) -> None:
    """Give the directories of this part their owners, modes and times; nothing is made in them any more."""
    with Descent(order.job, order.stage) as stage, Listing(order) as listed:
        for directory in now.records(part):
            if directory.kept_empty or (made := stage.to(parts_of(directory.path))) is None:
                continue  # `fill` has left it to rsync
            if not dress(made, directory) and not directory.adorned:
                listed.add(name_list.single(directory.path, order.start))


class _Share:
    def __init__(
        self, stage: "Descent", last: "Descent", listed: "Listing", before: Manifest | None, start: int
    ) -> None:
        self.linked = 0
        self._alike = before is None
        self._stage, self._last, self._listed = stage, last, listed
        self._before, self._start = before, start

    def take(self, directory: Directory) -> None:
        """Do one directory."""
        own = parts_of(directory.path)
        if directory.kept_empty or (made := self._stage.to(own)) is None:
            self._list(directory, set(), alone=True)
            return
        linked = self._link(directory, made)
        self.linked += len(linked)
        self._list(directory, set(linked), alone=directory.adorned)

    def tell(self, tell: Tell) -> None:
        """Tell what has come of it since this was last done."""
        tell(self.linked, self._listed.count, self._alike)
        self.linked = self._listed.count = 0

    def _link(self, directory: Directory, made: int) -> list[bytes]:
        if self._before is None:
            origin, names = directory.path, directory.files()
        elif (known := self._before.before(directory)) is not None:
            origin, names = known.path, directory.unchanged(known)
            self._alike = self._alike or len(directory.alike(known)) > len(names)
        else:
            return []
        linked: list[bytes] = []
        if names and (source := self._last.to(parts_of(origin))) is not None:
            linked = [name for name in names if _linked(name, source, made)]
        self._alike = self._alike or len(linked) < len(names)
        return linked

    def _list(self, directory: Directory, linked: set[bytes], *, alone: bool) -> None:
        """`alone`: the directory itself is left to rsync."""
        names, start = directory.files(), self._start
        if names and not linked and directory.whole:
            self._listed.add(name_list.whole(directory.path, start), len(names))
            self._listed.split(directory.inodes())
            return
        if alone:
            self._listed.add(name_list.single(directory.path, start))
        if len(linked) == len(names):
            return
        inside = directory.path.rstrip(b"/") + b"/"
        for name, inode in zip(names, directory.inodes(), strict=True):
            if name not in linked:
                self._listed.add(name_list.single(inside + name, start))
                self._listed.split((inode,))


def _linked(name: bytes, source: int, made: int) -> bool:
    """Link one name; never into anything that is there already."""
    try:
        os.link(name, name, src_dir_fd=source, dst_dir_fd=made, follow_symlinks=False)
    except OSError as error:
        if error.errno in _DRIVE or error.errno == errno.EEXIST:
            raise
        return False
    return True


def dress(made: int, directory: Directory) -> bool:
    """Give a directory owner, mode and time; False where we may not, and rsync shall do what it can."""
    found = os.fstat(made)
    with unless_the_drive():
        if (found.st_uid, found.st_gid) != (directory.uid, directory.gid):
            os.chown(made, directory.uid, directory.gid)
        os.chmod(made, stat.S_IMODE(directory.mode))
        os.utime(made, ns=(directory.mtime, directory.mtime))
        return True
    return False


def _take_out(order: Order, paths: Collection[bytes]) -> None:
    with Descent(order.job, order.stage) as stage, Listing(order) as listed:
        for path in paths:
            above, _, name = path.rpartition(b"/")
            if (made := stage.to(parts_of(above))) is not None:
                take_out(name, made, in_place=order.in_place)
            listed.add(name_list.single(path, order.start))
            with suppress(OSError):  # it has vanished from the sources
                listed.split(mark(os.lstat(path))[:1])


def _close_groups(order: Order, now: Manifest, split: frozenset[int]) -> None:
    """Take out of the stage, and list, every other name of the files in `split`."""
    with Descent(order.job, order.stage) as stage, Listing(order) as listed:
        for directory in now.records():
            inodes = directory.inodes()
            if split.isdisjoint(inodes) or (made := stage.to(parts_of(directory.path))) is None:
                continue
            inside = directory.path.rstrip(b"/") + b"/"
            for name, inode in zip(directory.files(), inodes, strict=True):
                if inode in split:
                    take_out(name, made, in_place=order.in_place)
                    listed.add(name_list.single(inside + name, order.start))


def take_out(name: bytes, made: int, *, in_place: bool) -> None:
    """Remove what is no directory; the directory it is in gets its mode and time back from rsync.

    `in_place`: only what has several names, of which rsync would change all.
    """
    try:
        found = os.stat(name, dir_fd=made, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode) or (in_place and found.st_nlink == 1):
            return
        os.chmod(made, 0o700)
        os.unlink(name, dir_fd=made)
    except FileNotFoundError:
        return


@contextmanager
def unless_the_drive() -> Iterator[None]:
    """What does not work is left to rsync, which will say so; what is wrong with the drive ends the run."""
    try:
        yield
    except OSError as error:
        if error.errno in _DRIVE:
            raise


class Listing:
    """Appends to the list, whole lines at a time: several processes may write to it."""

    def __init__(self, order: Order) -> None:
        self.count = 0
        self._order = order
        self._lines: list[bytes] = []
        self._size = 0
        self._split: array[int] = array("q")

    def __enter__(self) -> "Listing":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()

    def add(self, line: bytes | None, count: int = 1) -> None:
        """One more line, for so many entries."""
        if line is None:
            return
        self.count += count
        self._lines.append(line)
        self._size += len(line)
        if self._size > _BUFFER:
            self._flush()

    def split(self, inodes: Iterable[int]) -> None:
        """Note the files among these that have several names."""
        self._split.extend(inode for inode in inodes if inode & 1)

    def _flush(self) -> None:
        append(self._order.listed, b"".join(b"%b\0" % line for line in self._lines))
        append(self._order.split, self._split.tobytes())
        self._lines.clear()
        self._split = array("q")
        self._size = 0


class Descent:
    """A tree that is gone through with open directories: from one to the next by the way they share."""

    def __init__(self, job: int, name: str) -> None:
        self.top = job
        for part in name.split("/"):
            above, self.top = self.top, os.open(part, _FOLDER, dir_fd=self.top)
            if above != job:
                os.close(above)
        self._names: list[bytes] = []
        self._opened: list[int] = []

    def __enter__(self) -> "Descent":
        return self

    def __exit__(self, *_: object) -> None:
        self._up(0)
        os.close(self.top)

    def to(self, names: list[bytes]) -> int | None:
        """The open directory at this path; None where there is none below `top`, or it lies too deep."""
        if len(names) > _DEEPEST or b".." in names:
            return None
        common = 0
        for name, here in zip(names, self._names, strict=False):
            if name != here:
                break
            common += 1
        self._up(common)
        for name in names[common:]:
            try:
                self._opened.append(os.open(name, _FOLDER, dir_fd=self._here))
            except OSError as error:
                if error.errno in _DRIVE:
                    raise
                return None
            self._names.append(name)
        return self._here

    @property
    def _here(self) -> int:
        return self._opened[-1] if self._opened else self.top

    def _up(self, depth: int) -> None:
        while len(self._opened) > depth:
            os.close(self._opened.pop())
            self._names.pop()


def parts_of(path: bytes) -> list[bytes]:
    """The names that a path leads through."""
    return [part for part in path.split(b"/") if part]
