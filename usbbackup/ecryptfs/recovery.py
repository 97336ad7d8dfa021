"""An encrypted home, written in plain to a directory: whole files only, and nothing outside of it.

The same recovery can be begun again at any time: what has its name is whole, and is passed over.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from usbbackup.ecryptfs import contents, dress
from usbbackup.ecryptfs.contents import PlainText
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.descent import IN_THE_WAY, Descent
from usbbackup.ecryptfs.drafts import Drafts, drafts
from usbbackup.ecryptfs.header import EXTENT
from usbbackup.ecryptfs.lower import MISSING, Entry, Left, Note, Path, Step, Unread, Walk, Wanted
from usbbackup.ecryptfs.names import Names
from usbbackup.ecryptfs.passphrase import Keys
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing

_SAME_TIME = 2_000_000_000  # nanoseconds; FAT keeps no finer time
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.EMFILE, errno.ENFILE}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV}
_ZEROES = bytes(EXTENT)


@dataclass
class Tally:
    """What has been done so far."""

    files: int = 0  # also links and pipes
    folders: int = 0
    there: int = 0  # of the files: were there already
    bytes: int = 0  # of plain text, written now
    bare: int = 0  # entries whose mode, owner, time or attributes the file system cannot keep
    damaged: list[Note] = field(default_factory=list)

    def note(self, path: Path, why: str) -> None:
        """Something is wrong with one entry."""
        self.damaged.append((path, why))


def recover(lower: int, target: int, keys: Keys, wanted: Wanted, tell: Callable[[Tally], None]) -> Tally:
    """Write what is wanted of the home below the open directory `lower` to the open directory `target`.

    `tell` is called often, with what has been done so far. What is damaged is noted, and the rest goes on.
    Raises UsbbackupError where nothing can be written any more, NotNowError where another recovery is at it.
    """
    names = Names(keys)
    walk = Walk(lower, names.name, wanted)
    with _hopeful(), drafts(target) as unpublished, contextlib.closing(Descent(target)) as descent:
        recovery = _Recovery(keys, names, descent, unpublished, tell)
        for step in walk:
            if not recovery.take(step):
                walk.pass_by()
        unpublished.publish()
    for path in walk.missing:
        recovery.tally.note(path, MISSING)
    return recovery.tally


class _Recovery:
    def __init__(
        self,
        keys: Keys,
        names: Names,
        target: Descent,
        unpublished: Drafts,
        tell: Callable[[Tally], None],
    ) -> None:
        self._keys = keys
        self._names = names
        self._target = target
        self._drafts = unpublished
        self._tell = tell
        self._links: dict[tuple[int, int], Path] = {}  # the first name of files that have several
        self.tally = Tally()

    def take(self, step: Step) -> bool:
        """Recover one entry; False where that failed."""
        done = self._tried(step.path, lambda: self._take(step))
        self._tell(self.tally)
        return done

    def _tried(self, path: Path, action: Callable[[], None]) -> bool:
        try:
            action()
        except DamagedError as error:
            self.tally.note(path, str(error))
            return False
        except OSError as error:  # of writing; what cannot be read is damaged
            if error.errno in _HOPELESS:
                raise
            self.tally.note(path, f"cannot be written: {error.strerror}")
            return False
        return True

    def _later(self, path: Path, action: Callable[[], None], size: int = 0) -> None:
        self._drafts.later(lambda: self._tried(path, action), size)

    def _take(self, step: Step) -> None:
        match step:
            case Unread(path, why):
                self.tally.note(path, why)
            case Left(path, status):
                self._later(path, lambda: self._dressed(dress.opened(self._target.at(path), status)))
            case Entry():
                if step.damage:
                    self.tally.note(step.path, step.damage)
                self._entry(step)

    def _entry(self, entry: Entry) -> None:
        match stat.S_IFMT(entry.status.st_mode):
            case stat.S_IFDIR:
                self._target.make(entry.path)
                self.tally.folders += 1
            case stat.S_IFREG:
                self._file(entry)
            case stat.S_IFLNK:
                self._link(entry)
            case stat.S_IFIFO:
                self._pipe(entry)
            case _:
                raise DamagedError("is a socket or a device, which is not given back")

    def _file(self, entry: Entry) -> None:
        """A file, or a further name of one."""
        if (first := self._links.get(entry.inode)) and self._linked(first, entry.path):
            return
        with closing(entry.opened()) as lower:
            text = contents.plain_text(lower, self._keys, encrypted=entry.is_named)
            if self._is_there(entry, text.size):
                self._count(there=True)
            else:
                self._write(entry, text, lower)
        if entry.status.st_nlink > 1:
            self._links[entry.inode] = entry.path

    def _is_there(self, entry: Entry, size: int) -> bool:
        """Has an earlier recovery written it? Raises DamagedError where another file has its name."""
        found = _status(self._target.at(entry.path[:-1]), entry.path[-1])
        if found is None:
            return False
        same_time = abs(found.st_mtime_ns - entry.status.st_mtime_ns) < _SAME_TIME
        if stat.S_ISREG(found.st_mode) and found.st_size == size and same_time:
            return True
        raise DamagedError(IN_THE_WAY)

    def _write(self, entry: Entry, text: PlainText, lower: int) -> None:
        with self._drafts.new() as (draft, file):
            self._fill(file, text)
            self._dressed(dress.opened(file, entry.status, lower))
        self._later(entry.path, lambda: self._publish(draft, entry.path), text.size)

    def _fill(self, file: int, text: PlainText) -> None:
        """Extents of nothing but zeroes become holes."""
        at = 0
        for piece in text.pieces:
            for begin, end in _stretches(piece):
                _write_all(file, memoryview(piece)[begin:end], at + begin)
            at += len(piece)
            self.tally.bytes += len(piece)
            self._tell(self.tally)
        os.ftruncate(file, text.size)

    def _publish(self, draft: str, path: Path) -> None:
        self._drafts.name(draft, self._target.at(path[:-1]), path[-1])
        self._count()

    def _linked(self, first: Path, path: Path) -> bool:
        """Give a file a further name; False where that is not possible, and it must be written again."""
        self._drafts.publish()  # the first name may be waiting still
        with closing(os.dup(self._target.at(first[:-1]))) as source:
            folder = self._target.at(path[:-1])
            try:
                os.link(first[-1], path[-1], src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                one, other = _status(source, first[-1]), _status(folder, path[-1])
                there = one is not None and other is not None and os.path.samestat(one, other)
                if there:
                    self._count(there=True)
                return there
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return False
        self._count()
        return True

    def _link(self, entry: Entry) -> None:
        """A symbolic link; where it leads to is only a text here."""
        target = entry.target(self._names)
        self._place(entry, lambda folder, name: os.symlink(target, name, dir_fd=folder), target)

    def _pipe(self, entry: Entry) -> None:
        mode = stat.S_IMODE(entry.status.st_mode)
        self._place(entry, lambda folder, name: os.mkfifo(name, mode, dir_fd=folder))

    def _place(self, entry: Entry, make: Callable[[int, bytes], None], target: bytes = b"") -> None:
        """What is made in one step, and cannot be half there."""
        folder, name = self._target.at(entry.path[:-1]), os.fsencode(entry.path[-1])
        try:
            make(folder, name)
        except FileExistsError:
            if not _is_such(folder, name, entry.status.st_mode, target):
                raise DamagedError(IN_THE_WAY) from None
            self._count(there=True)
        else:
            self._count()
        self._dressed(dress.named(folder, name, entry.status))

    def _count(self, *, there: bool = False) -> None:
        self.tally.files += 1
        self.tally.there += there

    def _dressed(self, whole: bool) -> None:
        self.tally.bare += not whole


def _stretches(piece: bytearray) -> Iterator[tuple[int, int]]:
    """The parts of a piece that are no holes: begin and end."""
    begin = None
    for at in range(0, len(piece), EXTENT):
        if piece.startswith(_ZEROES, at):
            if begin is not None:
                yield begin, at
            begin = None
        elif begin is None:
            begin = at
    if begin is not None:
        yield begin, len(piece)


def _write_all(file: int, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(file, data, at)
        data, at = data[written:], at + written


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_such(folder: int, name: bytes, mode: int, target: bytes) -> bool:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(mode):
        return False
    return not target or os.readlink(name, dir_fd=folder) == target


@contextlib.contextmanager
def _hopeful() -> Iterator[None]:
    """An error that concerns all that is still to be written is the end."""
    try:
        yield
    except OSError as error:
        raise UsbbackupError(
            f"nothing more can be written: {error.strerror}",
            "every file that has its name is whole; make room, and give the same command again to go on",
        ) from error
