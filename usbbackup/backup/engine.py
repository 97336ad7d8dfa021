"""What a run is asked for, and what an engine is: the shapes that all of `backup` shares.

`perform` leads an engine through one run, with the drive and the wish to stop looked at before every step:

    stage      make ready: what an earlier run left behind, a new repository, a fresh directory
    transfer   copy what the scan names; nothing of it is a snapshot yet
    publish    after the data was synced: make it the snapshot, or prove that it is one
    set_aside  instead of publish: the run ends early; keep for the next run what is worth keeping
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from usbbackup.clock import Clock
from usbbackup.config import JobConfig
from usbbackup.outcome import Outcome, Phase, Progress, Result, SourceSeen, Stop
from usbbackup.paths import Paths
from usbbackup.target import Target

if TYPE_CHECKING:
    from usbbackup.backup.scan import Scan
    from usbbackup.programs import Programs


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
    on_start: Callable[[int, int], None] | None = None  # process id and start time of each program of the run


@dataclass(frozen=True)
class Copied:
    """What an engine says of a finished transfer."""

    bytes: int | None = None  # of the sources
    files: int | None = None
    unread: tuple[str, ...] = ()  # what is not in the snapshot and should be: makes the run a warning
    notes: tuple[str, ...] = ()  # what vanished or changed while it was read


class Over(Exception):  # noqa: N818 - the end of a run, expected, with its result; not an error of the program
    """The run ends here with this result; only `perform` catches it."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.message)
        self.result = result


def failed(message: str, hint: str | None = None) -> Over:
    """The run ends as failed: what happened, and what it means or what to do next."""
    return Over(Result(Outcome.FAILED, message, hint))


def gone(reason: str) -> Over:
    """The run ends because the drive left."""
    return Over(
        Result(Outcome.INTERRUPTED, f"the drive is gone: {reason}", "plug it in again and it goes on")
    )


@dataclass(frozen=True)
class Work:
    """What `perform` hands to an engine for one run."""

    request: Request
    job_fd: int  # the open job directory on the drive; every path of an engine starts here
    time: str  # names the snapshot, as clock.compact_utc writes it; not used before in this job directory
    scan: "Scan"

    @property
    def snapshot(self) -> str:
        """The snapshot's name, `<job>@<time>`; for borg also the archive's."""
        return f"{self.request.job.name}@{self.time}"

    def report(self, phase: Phase, percent: float | None = None, **counts: int | None) -> None:
        """Tell how far the run is; `counts` are `bytes` and `files`."""
        self.request.report(Progress(phase, percent, **counts))

    def check(self) -> None:
        """Raise `Over` where the run was asked to stop or the drive is no longer the one that was proven."""
        if self.request.stop:
            raise Over(self.request.stop.result())
        if (reason := self.request.target.still_there()) is not None:
            raise Over(
                Result(Outcome.INTERRUPTED, f"the drive is gone: {reason}", "plug it in again to go on")
            )


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

    async def set_aside(self, work: Work) -> None:
        """Leave the drive in order after a run that ended before `publish`; the drive is still there."""
        ...

    async def rehearse(self, work: Work) -> Copied:
        """Write nothing to the drive, and tell what `transfer` would copy."""
        ...
