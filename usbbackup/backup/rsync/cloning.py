"""Having a stage filled from the last snapshot: on a thread where that is little, else by processes."""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from usbbackup.backup.engine import Work, failed
from usbbackup.backup.manifest import BEGIN, Manifest
from usbbackup.backup.rsync import clone_workers, run
from usbbackup.backup.rsync.clone import Order, clone
from usbbackup.files import Held
from usbbackup.outcome import Phase
from usbbackup.programs import Lines, Program

FEW = 3000  # entries that a thread links before another Python has started
MOST = 4  # processes; the drive is what they wait for
_BROKEN_OFF = -1
_ROOT = Path(__file__).parents[3]
_MAIN = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from usbbackup.backup.rsync import clone_workers; clone_workers.main()"
)


@dataclass
class Filled:
    """What came of it."""

    linked: int = 0
    listed: int = 0
    alike: bool = False  # rsync may find something to link among what is listed
    errno: int | None = None

    def hear(self, line: bytes) -> None:
        """One line of the program's standard output."""
        match line.split():
            case [b"linked", count]:
                self.linked += int(count)
            case [b"listed", count]:
                self.listed += int(count)
            case [b"alike"]:
                self.alike = True
            case [b"errno", code]:
                self.errno = int(code)

    def count(self, linked: int, listed: int, alike: bool) -> None:
        """The same, told by a thread."""
        self.linked += linked
        self.listed += listed
        self.alike = self.alike or alike


class BrokenOffError(Exception):
    """A walk that was followed did not come to its end; why is said by the walk."""


class Course:
    """How far a walk has come in writing its manifest, for one who follows it on another thread."""

    def __init__(self) -> None:
        self._ends: SimpleQueue[int | None] = SimpleQueue()
        self._last = BEGIN

    def __enter__(self) -> "Course":
        """The walk begins."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """It is at its end, or broke off."""
        if kind is None:
            self._ends.put(None)
        else:
            self.break_off()

    def reach(self, end: int) -> None:
        """So far the manifest may be read."""
        if end > self._last:
            self._last = end
            self._ends.put(end)

    def break_off(self) -> None:
        """It comes no further."""
        self._ends.put(_BROKEN_OFF)

    def __iter__(self) -> Iterator[int]:
        """The ends; waits for each, and for the last. Raises BrokenOffError."""
        for end in iter(self._ends.get, None):
            if end == _BROKEN_OFF:
                raise BrokenOffError
            yield end


@dataclass(frozen=True)
class Wish:
    """A clone that is wanted."""

    order: Order
    now: Held  # the manifest of the sources
    ends: Iterable[int]  # up to where it may be read, as it is written
    before: Manifest | None  # the one of the snapshot that is linked from; without one all of it is linked
    singles: Collection[bytes]  # complete after the last end
    files: int  # as `now` will have them, about


async def cloned(work: Work, wish: Wish) -> Filled:
    """Have it done; raises OSError where the drive does not do, and `Over`."""
    if wish.files <= FEW:
        return await work.blocking(_on_this_thread, wish)
    return await _by_processes(work, wish)


def _on_this_thread(wish: Wish) -> Filled:
    filled, ends = Filled(), list(wish.ends)  # after the walk: two threads would wait for each other's Python
    clone(wish.order, wish.now, ends, wish.before, wish.singles, Alone(), 1, filled.count)
    return filled


class Alone:
    """Whoever does every piece at once."""

    def begin(self, piece: Callable[[], None]) -> None:
        """Do it."""
        piece()

    def wait(self) -> None:
        """All is done."""


async def _by_processes(work: Work, wish: Wish) -> Filled:
    request, filled = work.request, Filled()

    def hear(line: bytes) -> None:
        filled.hear(line)
        done = filled.linked + filled.listed
        work.report(Phase.TRANSFER, min(100.0, 100.0 * done / max(1, wish.files)), files=done)

    ended = await request.programs.run(
        program(work.job_fd, wish),
        stop=request.stop,
        on_stdout=Lines(hear),
        on_start=request.on_start,
    )
    work.check()
    if filled.errno is not None:
        raise OSError(filled.errno, os.strerror(filled.errno))
    if ended.code != 0:
        words = f": {ended.last_words[-1]}" if ended.last_words else ""
        raise failed(f"linking what did not change {ended.how}{words}", run.UNTOUCHED)
    return filled


def program(job_fd: int, wish: Wish) -> Program:
    """The program that does it, with every core of the machine."""
    order, before = wish.order, wish.before
    files = (
        order.listed.fd,
        order.split.fd,
        wish.now.fd,
        before.file.fd if before else clone_workers.NOTHING,
    )
    return Program(
        (
            *(sys.executable, "-I", "-S", "-c", _MAIN, str(_ROOT), order.stage, order.folder),
            *(
                str(number)
                for number in (order.start, *files, before.end if before else 0, min(MOST, cores()))
            ),
        ),
        cwd_fd=job_fd,
        pass_fds=tuple(fd for fd in files if fd != clone_workers.NOTHING),
        stdin=lambda out: _tell(wish, out),
        gentle=True,
    )


def _tell(wish: Wish, out: BinaryIO) -> None:
    for end in wish.ends:
        out.write(b"%d\0" % end)
        out.flush()
    for single in wish.singles:
        out.write(single + b"\0")


def cores() -> int:
    """The processors that we may use."""
    return len(os.sched_getaffinity(0))
