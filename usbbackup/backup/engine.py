"""What a run is asked for, and what an engine is: the shapes that all of `backup` shares.

`perform` leads an engine through one run, with the drive and the wish to stop looked at before every step:

    stage      make ready: what an earlier run left behind, a new repository, a fresh directory
    transfer   copy what the scan names; nothing of it is a snapshot yet
    publish    after the data was synced: make it the snapshot, or prove that it is one
    tidy       after the last look at the drive: clear away what is of no more use
    shelf      then: what retention chooses from
    prove      where the job wants that: restore files and compare them
    set_aside  instead of publish: the run ends early; keep for the next run what is worth keeping
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol, TypeVar, TypeVarTuple

from usbbackup import kernel
from usbbackup.clock import Clock
from usbbackup.config import JobConfig
from usbbackup.offload import in_thread
from usbbackup.outcome import Outcome, Phase, Progress, Result, SourceSeen, Stop
from usbbackup.paths import Paths
from usbbackup.target import Target
from usbbackup.text import human_bytes, safe

if TYPE_CHECKING:
    from usbbackup.backup.manifest import Manifest
    from usbbackup.backup.proof import Proof
    from usbbackup.backup.prune import Shelf
    from usbbackup.backup.scan import Scan
    from usbbackup.programs import Programs


T = TypeVar("T")
Args = TypeVarTuple("Args")


@dataclass(frozen=True)
class Request:
    """One run that is wanted: the job, the proven drive, and everything the run may touch or ask."""

    job: JobConfig
    target: Target
    run: str  # the run's id, as history knows it
    programs: "Programs"
    clock: Clock
    paths: Paths
    stop: Stop
    report: Callable[[Progress], None]  # called on the event loop's thread
    log: Callable[[str], None]  # one line for the run's log file; called on any thread
    last: Mapping[str, SourceSeen] = field(default_factory=dict)  # by source, from the last good run
    accept_source: bool = False
    dry_run: bool = False
    repository: str | None = None  # id of the borg repository that this job has used on this drive
    last_ended_well: bool | None = None  # of runs that wrote to this drive; None where none is known
    last_snapshot: str | None = None  # of the last good run on this drive
    last_proven: float | None = None  # wall time at which files were last restored from there and compared
    on_proven: Callable[[str], None] = lambda _: None  # told the snapshot that was proven just now
    on_repository: Callable[[str], None] = lambda _: None  # told the id of the one it uses from now on
    on_start: Callable[[int, int], None] | None = None  # process id and start time of each program of the run


@dataclass(frozen=True)
class Copied:
    """What an engine says of a finished transfer."""

    bytes: int | None = None  # of the sources
    files: int | None = None
    unread: tuple[str, ...] = ()  # what is not in the snapshot as it should be: makes the run a warning
    notes: tuple[str, ...] = ()  # what vanished or changed while it was read
    missed: int = 0  # how many `unread` would have, where it names only the first of them


class Over(Exception):  # noqa: N818 - the end of a run, expected, with its result; not an error of the program
    """The run ends here with this result; only `perform` catches it."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.message)
        self.result = result


class Doubtful(Over):
    """The run ends because of a source; the drive has nothing to do with it."""


def failed(message: str, hint: str | None = None) -> Over:
    """The run ends as failed: what happened, and what it means or what to do next."""
    return Over(Result(Outcome.FAILED, message, hint))


def full(target: Target, missing: int | None = None) -> Over:
    """The run ends because there is no more room; `missing` is by how many bytes, where that is known."""
    what = "has no room for more files" if _no_inodes(target.fd) else "is full"
    more = f"; about {human_bytes(missing)} more are needed" if missing else ""
    return failed(
        f"the drive '{safe(target.facts.name)}' {what}{more}",
        "free some space on it or use a larger one; earlier snapshots are untouched",
    )


def _no_inodes(fd: int) -> bool:
    try:
        room = os.statvfs(fd)
    except OSError:
        return False
    return room.f_files > 0 and room.f_favail == 0


def gone(reason: str) -> Over:
    """The run ends because the drive left."""
    return Over(Result(Outcome.INTERRUPTED, reason, "plug the drive in again, and the backup goes on"))


class Writes:
    """Whether the drive has kept what was written to it."""

    def __init__(self) -> None:
        self._one_at_a_time = Lock()
        self._lost: OSError | None = None

    def sync(self, fd: int) -> None:
        """Write out the file system that `fd` is on; OSError where writes were lost, then and ever after.

        The kernel says so only once for each open file (syncfs(2)), and goes on showing what it could not
        write.
        """
        with self._one_at_a_time:
            try:
                if self._lost is None:
                    kernel.syncfs(fd)
            except OSError as error:
                self._lost = error
        if self._lost is not None:
            raise self._lost


@dataclass(frozen=True)
class Work:
    """What `perform` hands to an engine for one run."""

    request: Request
    job_fd: int  # the open job directory on the drive; every path of an engine starts here
    time: str  # names the snapshot, as clock.compact_utc writes it; not used before in this job directory
    scan: "Scan"
    writes: Writes = field(default_factory=Writes)

    @property
    def snapshot(self) -> str:
        """The snapshot's name, `<job>@<time>`; for borg also the archive's."""
        return f"{self.request.job.name}@{self.time}"

    @property
    def drill(self) -> Path:
        """Where files are restored to be compared: at home, this drive's and this job's alone."""
        name = f"{self.request.target.facts.uuid}+{self.request.job.name}"
        return self.request.paths.cache / "drills" / name.replace("/", "_")

    def report(self, phase: Phase, percent: float | None = None, **counts: int | None) -> None:
        """Tell how far the run is; `counts` are `bytes` and `files`."""
        self.request.report(Progress(phase, percent, **counts))

    async def sync(self) -> None:
        """Have on the disk what was written to the drive; OSError where some of it is lost (`Writes`)."""
        await self.blocking(self.writes.sync, self.job_fd)

    async def blocking(self, call: Callable[[*Args], T], *args: *Args) -> T:
        """Make a call that a hanging drive may hold up, on a thread; `Over` once the run is to stop."""
        return await unless(self.request.stop, in_thread(call, *args))

    def enter(self, phase: Phase) -> None:
        """Begin the next phase; `Over` where that makes no sense any more."""
        self.report(phase)
        self.check()

    def check(self) -> None:
        """Raise `Over` where the run was asked to stop or the drive is no longer the one that was proven."""
        if self.request.stop:
            raise Over(self.request.stop.result())
        if (reason := self.request.target.still_there()) is not None:
            raise gone(reason)


async def unless(stop: Stop, waiting: Coroutine[None, None, T]) -> T:
    """Wait for it, but no longer than until the wish to stop, which is raised as `Over`."""
    task = asyncio.ensure_future(waiting)

    def leave() -> None:
        task.cancel()

    stop.on_set(leave)
    try:
        return await task
    except asyncio.CancelledError:
        this = asyncio.current_task()
        if not stop or (this is not None and this.cancelling()):
            raise
        raise Over(stop.result()) from None
    finally:
        stop.off(leave)


class Engine(Protocol):
    """One way of keeping snapshots; every step may raise `Over`, and OSError for trouble with the drive.

    The list of what to copy is `work.scan.write(out, prefix)`, given to a program as its `stdin`: it runs in
    a thread and writes `prefix + path + NUL` for each entry. Where a source turns out doubtful it raises
    `Over` instead of coming to its end: the program must then be ended before its stdin is closed, so that it
    never takes half a list for a whole one.
    """

    async def stage(self, work: Work) -> None:
        """Make ready on the drive."""
        ...

    async def transfer(self, work: Work) -> Copied:
        """Copy what the scan names; `Over` where that did not end well."""
        ...

    async def publish(self, work: Work) -> None:
        """Make the copy the snapshot `work.snapshot`; called after the file system was synced."""
        ...

    def seen(self) -> "Manifest | None":
        """What the sources looked like while they were copied; asked for before `tidy`."""
        ...

    def shelf(self, work: Work) -> "Shelf | None":
        """The job's snapshots, for retention; None where there are none to choose from."""
        ...

    async def prove(self, work: Work, sample: int | None) -> "Proof | None":
        """Restore so many files of the new snapshot and compare; None where there was nothing to compare.

        Without a number only note what will be needed to prove it later.
        """
        ...

    async def tidy(self, work: Work) -> None:
        """Clear away what earlier runs left; whatever stops that, the snapshot is good."""
        ...

    async def set_aside(self, work: Work) -> None:
        """Leave the drive in order after a run that ended before `publish`; the drive is still there."""
        ...

    async def rehearse(self, work: Work) -> Copied:
        """Write nothing to the drive, and tell what `transfer` would copy."""
        ...
