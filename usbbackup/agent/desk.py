"""What can be asked about drives, jobs and runs; the same answers with and without a running agent."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from usbbackup.agent import due
from usbbackup.agent.machine import Machine
from usbbackup.agent.status import Last, drive_record, drive_view, job_records, on_drives
from usbbackup.config import Config, JobConfig
from usbbackup.drives.admit import Ready
from usbbackup.drives.ready import Absent, Ejected, Refused, Waiting
from usbbackup.drives.resolve import resolve
from usbbackup.drives.sighting import Sighting
from usbbackup.drives.survey import Space, space
from usbbackup.errors import (
    BY_CODE,
    NoSuchDriveError,
    NoSuchJobError,
    NotNowError,
    UsageError,
    UsbbackupError,
)
from usbbackup.history import History
from usbbackup.text import did_you_mean, safe

if TYPE_CHECKING:  # what acts: whoever only looks starts faster without it
    from usbbackup.agent.run import Order

Answer = dict[str, Any]
Record = dict[str, object]


@dataclass(frozen=True)
class Picture:
    """All drives as they were last seen, and what was decided for the jobs on them."""

    sightings: Sequence[Sighting]
    verdicts: Mapping[tuple[str, str], due.Verdict] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()  # UUIDs of drives that something runs on
    locked: Mapping[str, str] = field(default_factory=dict)  # UUID -> why a job there waits for its secret


def status(
    machine: Machine,
    picture: Picture,
    shown: Sequence[Record],
    lasts: Mapping[tuple[str, str], Last],
    *,
    agent: Record,
    runs: Iterable[Record],
) -> Record:
    """The whole of `status --json`, from the drives as shown and the last runs."""
    return {
        "agent": agent,
        "drives": list(shown),
        "jobs": job_records(machine.config, picture.sightings, picture.verdicts, lasts, machine.clock.now()),
        "runs": list(runs),
    }


def last_runs(config: Config, picture: Picture, history: History) -> dict[tuple[str, str], Last]:
    """What the history knows of each job on each drive."""
    return {
        (job.name, s.uuid): Last(
            history.last_good(job.name, s.uuid),
            history.last_run(job.name, s.uuid),
            history.last_proven(job.name, s.uuid),
        )
        for job in config.jobs
        for s in on_drives(config, job, picture.sightings)
    }


def drives(picture: Picture, space: Space = space) -> list[Record]:
    """Every drive that the configuration means. It may block where a drive hangs."""
    return [
        drive_record(drive_view(s, s.uuid in picture.busy, picture.locked.get(s.uuid), space))
        for s in picture.sightings
    ]


def drive(picture: Picture, sighting: Sighting) -> Record:
    """One drive as it is now, or as it was where it is in the picture no more."""
    now = (record for record in drives(picture, nothing_known) if record["uuid"] == sighting.uuid)
    return next(now, None) or drive_record(drive_view(sighting, space=nothing_known))


def refuse_while_running(orders: "Sequence[Order]", sighting: Sighting) -> None:
    """A drive that something runs on is not let go of. Raises NotNowError."""
    if orders:
        job = orders[0].job.name
        raise NotNowError(
            f"job '{job}' runs on the drive '{safe(sighting.name)}'",
            f"wait for its end, or end it: usbbackup cancel {job}",
        )


def chosen(
    config: Config, sightings: Sequence[Sighting], jobs: Sequence[str], drive: str | None
) -> list[tuple[JobConfig, str]]:
    """Which jobs on which drives `start` means. Raises UsageError, or why no drive is ready."""
    wanted = [job_named(config, name) for name in jobs] or list(config.jobs)
    among = [sighting_named(sightings, drive)] if drive else list(sightings)
    pairs = [(job, s) for job, s in product(wanted, among) if goes_to(config, job, s)]
    if drive and (astray := _astray(wanted, pairs, every=bool(jobs))):
        raise UsageError(
            f"{astray} does not go to the drive '{safe(among[0].name)}'", "see `drives:` of jobs"
        )
    ready = [(job, s.uuid) for job, s in pairs if isinstance(s.decision, Ready)]
    waiting = {job.name for job in wanted} - {job.name for job, _ in ready}
    if not ready or (jobs and waiting):
        raise not_ready(s for job, s in pairs if job.name in waiting)
    return ready


def _astray(wanted: Sequence[JobConfig], pairs: Sequence[tuple[JobConfig, Sighting]], every: bool) -> str:
    """The first job that was named and goes nowhere; without names it is enough that one goes."""
    going = {job.name for job, _ in pairs}
    lost = [job.name for job in wanted if job.name not in going]
    if not lost or (going and not every):
        return ""
    return f"job '{lost[0]}'" if every else "any job"


def in_the_way(
    orders: "Iterable[Order]", pairs: Collection[tuple[JobConfig, str]], wish: Answer
) -> NotNowError | None:
    """A run that goes on serves whoever asks for it, unless it is of another kind than the one asked for."""
    wanted = {(job.name, uuid) for job, uuid in pairs}
    for order in orders:
        if (order.job.name, order.drive.uuid) not in wanted:
            continue
        if order.dry_run != wish["dry_run"] or (wish["accept_source"] and not order.accept_source):
            what = "a dry run" if order.dry_run else "a run"
            return NotNowError(
                f"{what} of job '{order.job.name}' goes on already",
                f"wait for its end, or end it: usbbackup cancel {order.job.name}",
            )
    return None


def about(config: Config, sightings: Sequence[Sighting], word: str) -> tuple[str | None, list[Sighting]]:
    """What a word means: a job with the drives it goes to, or one drive. Raises UsageError."""
    for job in config.jobs:
        if job.name == word:
            return job.name, [s for s in sightings if goes_to(config, job, s)]
    try:
        return None, [sighting_named(sightings, word)]
    except NoSuchDriveError:
        jobs = [job.name for job in config.jobs]
        names = {name for s in sightings for name in (s.verdict.drive.name, s.name, s.uuid)}
        guess = did_you_mean(word, [*jobs, *names])
        raise UsageError(
            f"there is no job or drive '{safe(word)}'{guess}", "see `usbbackup status` for jobs and drives"
        ) from None


def job_named(config: Config, name: str) -> JobConfig:
    """The job of that name. Raises NoSuchJobError with the nearest."""
    for job in config.jobs:
        if job.name == name:
            return job
    raise no_such_job(name, [job.name for job in config.jobs])


def no_such_job(name: str, names: Sequence[str]) -> NoSuchJobError:
    """With the nearest of the names that there are."""
    hint = f"jobs are: {', '.join(names)}" if names else "the configuration has no jobs"
    return NoSuchJobError(f"there is no job '{safe(name)}'{did_you_mean(name, names)}", hint)


def sighting_named(sightings: Sequence[Sighting], word: str) -> Sighting:
    """The drive that a word on the command line means. Raises UsageError."""
    views = [drive_view(sighting, space=nothing_known) for sighting in sightings]
    return sightings[views.index(resolve(word, views))]


def nothing_known(mount_point: bytes) -> None:
    """Ask no file system for its space: one that hangs would hold up the answer."""


def goes_to(config: Config, job: JobConfig, sighting: Sighting) -> bool:
    """Is this one of the drives of that job?"""
    return any(entry.name == sighting.verdict.drive.name for entry in config.drives_of(job))


_NEAREST = (Waiting, Refused, Ejected, Absent)  # to being ready


def not_ready(sightings: Iterable[Sighting]) -> UsbbackupError:
    """Why none of these drives can be used: what is nearest to being ready comes first."""
    decisions = [s.decision for s in sightings if not isinstance(s.decision, Ready)]
    match sorted(decisions, key=lambda decision: _NEAREST.index(type(decision))):
        case [Refused(reason, remedy, code), *_]:
            return BY_CODE[code](reason, remedy)
        case [nearest, *_]:
            return NotNowError(nearest.reason, nearest.remedy)
        case _:
            return NotNowError("no drive of the configuration is plugged in")
