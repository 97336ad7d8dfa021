"""Having a stage filled from the last snapshot: on a thread where that is little, else by processes."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from usbbackup.backup.engine import Work, failed
from usbbackup.backup.manifest import Manifest
from usbbackup.backup.rsync import clone_workers, run
from usbbackup.backup.rsync.clone import Order, Part, clone
from usbbackup.files import Held
from usbbackup.outcome import Phase
from usbbackup.programs import Lines, Program
from usbbackup.sandbox import Sandbox

_FEW = 3000  # entries that a thread links before another Python has started
MOST = 4  # processes; the drive is what they wait for
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
    errno: int | None = None

    def hear(self, line: bytes) -> None:
        """One line of the program's standard output."""
        match line.split():
            case [b"linked", count]:
                self.linked += int(count)
            case [b"listed", count]:
                self.listed += int(count)
            case [b"errno", code]:
                self.errno = int(code)

    def count(self, linked: int, listed: int) -> None:
        """The same, told by a thread."""
        self.linked += linked
        self.listed += listed


@dataclass(frozen=True)
class Wish:
    """A clone that is wanted."""

    order: Order
    now: Held  # the manifest of the sources
    before: Held | None  # the one of the snapshot that is linked from; without one all of it is linked
    singles: tuple[bytes, ...]
    files: int  # as `now` has them


async def cloned(work: Work, wish: Wish) -> Filled:
    """Have it done; raises OSError where the drive does not do, and `Over`."""
    if wish.files <= _FEW:
        return await work.blocking(_on_this_thread, wish)
    return await _by_processes(work, wish)


def _on_this_thread(wish: Wish) -> Filled:
    filled = Filled()
    before = None if wish.before is None else Manifest(wish.before)
    Sandbox((wish.order.job,)).enter()  # the thread was made for this, and ends with it
    clone(wish.order, Manifest(wish.now), before, wish.singles, _one_by_one, 1, filled.count)
    return filled


def _one_by_one(fill: Callable[[Part], None], parts: list[Part]) -> None:
    for part in parts:
        fill(part)


async def _by_processes(work: Work, wish: Wish) -> Filled:
    request, filled = work.request, Filled()

    def hear(line: bytes) -> None:
        filled.hear(line)
        done = filled.linked + filled.listed
        work.report(Phase.TRANSFER, 100.0 * done / max(1, wish.files), files=wish.files)

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
    files = (order.listed.fd, order.split.fd, wish.now.fd, before.fd if before else clone_workers.NOTHING)
    return Program(
        (
            *(sys.executable, "-I", "-S", "-c", _MAIN, str(_ROOT), order.stage, order.folder),
            *(str(number) for number in (order.start, *files, min(MOST, cores()))),
            *wish.singles,
        ),
        cwd_fd=job_fd,
        pass_fds=tuple(fd for fd in files if fd != clone_workers.NOTHING),
        sandbox=Sandbox((job_fd,)),
        gentle=True,
    )


def cores() -> int:
    """The processors that we may use."""
    return len(os.sched_getaffinity(0))
