"""What can be asked about drives, jobs and runs; the same answers with and without a running agent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from usbbackup.agent import due
from usbbackup.agent.status import agent_record, drive_record, drive_view, job_records
from usbbackup.agent.world import World
from usbbackup.backup.snapshots import Reader, Snapshot, on
from usbbackup.clock import rfc3339
from usbbackup.config import Config, JobConfig
from usbbackup.drives import enrolment
from usbbackup.drives.admit import Ready
from usbbackup.drives.layout import RootOwnedError
from usbbackup.drives.monitor import Sighting
from usbbackup.drives.ready import Absent, Refused, Waiting
from usbbackup.drives.resolve import resolve
from usbbackup.errors import NotAllowedError, NotNowError, UsageError
from usbbackup.history import History
from usbbackup.text import did_you_mean, safe


@dataclass(frozen=True)
class Picture:
    """All drives as they were last seen, and what was decided for the jobs on them."""

    sightings: Sequence[Sighting]
    verdicts: Mapping[tuple[str, str], due.Verdict] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()  # UUIDs of drives that something runs on
    locked: Mapping[str, str] = field(default_factory=dict)  # UUID -> why a job there waits for its secret


@dataclass(frozen=True)
class Enrolment:
    """What came of a wish to enrol: the drive, or the one command that root must run before."""

    drive: dict[str, object]
    command: tuple[str, ...] | None = None
    message: str | None = None
    hint: str | None = None

    def record(self) -> dict[str, object]:
        """As it goes over the control socket."""
        command = list(self.command) if self.command else None
        return {"drive": self.drive, "command": command, "message": self.message, "hint": self.hint}


def status(
    world: World, picture: Picture, history: History, *, pid: int | None, runs: Iterable[dict[str, object]]
) -> dict[str, object]:
    """The whole of `status --json`."""
    return {
        "agent": agent_record(pid, world.since),
        "drives": drives(picture),
        "jobs": job_records(world.config, picture.sightings, picture.verdicts, history, world.clock.now()),
        "runs": list(runs),
    }


def drives(picture: Picture) -> list[dict[str, object]]:
    """Every drive that the configuration means."""
    return [
        drive_record(drive_view(s, s.uuid in picture.busy, picture.locked.get(s.uuid)))
        for s in picture.sightings
    ]


def chosen(
    config: Config, sightings: Sequence[Sighting], jobs: Sequence[str], drive: str | None
) -> list[tuple[JobConfig, str]]:
    """Which jobs on which drives `start` means. Raises UsageError, NotNowError or NotAllowedError."""
    wanted = [job_named(config, name) for name in jobs] or list(config.jobs)
    among = [sighting_named(sightings, drive)] if drive else list(sightings)
    pairs = [(job, s) for job, s in product(wanted, among) if _goes_to(config, job, s)]
    for job in wanted if jobs else ():
        if not any(other is job for other, _ in pairs):
            raise UsageError(f"job '{job.name}' does not go to that drive", "see `drives:` of the job")
    ready = [(job, s.uuid) for job, s in pairs if isinstance(s.decision, Ready)]
    missed = [job for job in wanted if jobs and job.name not in {other.name for other, _ in ready}]
    if missed or not ready:
        names = {job.name for job in missed}
        raise _not_ready([s for job, s in pairs if not names or job.name in names])
    return ready


def job_named(config: Config, name: str) -> JobConfig:
    """The job of that name. Raises UsageError with the nearest."""
    for job in config.jobs:
        if job.name == name:
            return job
    names = [job.name for job in config.jobs]
    raise UsageError(
        f"there is no job '{safe(name)}'{did_you_mean(name, names)}", f"jobs are: {', '.join(names)}"
    )


def sighting_named(sightings: Sequence[Sighting], word: str) -> Sighting:
    """The drive that a word on the command line means. Raises UsageError."""
    views = [drive_view(sighting) for sighting in sightings]
    return sightings[views.index(resolve(word, views))]


def _goes_to(config: Config, job: JobConfig, sighting: Sighting) -> bool:
    return any(entry.name == sighting.verdict.drive.name for entry in config.drives_of(job))


def _not_ready(sightings: Sequence[Sighting]) -> NotNowError | NotAllowedError:
    """Why none of these drives can be used: what is nearest to working comes first."""
    for kind in (Waiting, Refused, Absent):
        for decision in (s.decision for s in sightings):
            match decision:
                case Refused(reason, remedy, NotAllowedError.code) if kind is Refused:
                    return NotAllowedError(reason, remedy)
                case Waiting(reason=reason, remedy=remedy) | Refused(reason, remedy) | Absent(reason, remedy):
                    if isinstance(decision, kind):
                        return NotNowError(reason, remedy)
    return NotNowError("no drive of the configuration is plugged in")


def enrol(world: World, sightings: Sequence[Sighting], word: str | None, *, read_only: bool) -> Enrolment:
    """Enrol the drive that is meant; without a word the only unknown one that is plugged in."""
    sighting = sighting_named(sightings, word) if word else _only_unknown(sightings)
    verdict = sighting.verdict
    if verdict.device is None or isinstance(sighting.decision, Absent):
        raise _not_ready([sighting])
    if verdict.row is None:
        raise _not_ready([sighting])
    try:
        enrolment.enrol(
            verdict.device,
            verdict.row,
            world.host,
            world.records,
            name=verdict.drive.name,
            now=world.clock.now(),
            read_only=read_only,
        )
    except RootOwnedError as error:
        return Enrolment(drive_record(drive_view(sighting)), error.command, error.message, error.hint)
    return Enrolment(drive_record(drive_view(sighting)))


async def snapshots(
    world: World, sightings: Sequence[Sighting], word: str | None, job: str | None
) -> dict[str, object]:
    """What the enrolled drives hold that are plugged in, and the troubles met on the way."""
    among = [sighting_named(sightings, word)] if word else list(sightings)
    readable = [s for s in among if s.verdict.row is not None and s.verdict.record is not None]
    if not readable:
        raise _not_ready(among)
    reader = Reader({job.name: job for job in world.config.jobs}, world.programs, world.paths, world.clock)
    records: list[dict[str, object]] = []
    troubles: list[str] = []
    for sighting in readable:
        with sighting.pin(world, writing=False) as pin:
            found = await on(pin, reader)
        records += [_snapshot_record(s, sighting) for s in found.snapshots if job in (None, s.job)]
        troubles += found.troubles
    return {"snapshots": records, "troubles": troubles}


def _snapshot_record(snapshot: Snapshot, sighting: Sighting) -> dict[str, object]:
    return {
        "snapshot": snapshot.snapshot,
        "job": snapshot.job,
        "drive": sighting.uuid,
        "engine": snapshot.engine,
        "time": rfc3339(snapshot.time),
        "path": snapshot.path,
    }


def _only_unknown(sightings: Sequence[Sighting]) -> Sighting:
    unknown = [s for s in sightings if s.verdict.record is None and s.verdict.row is not None]
    match unknown:
        case [one]:
            return one
        case []:
            raise _nothing_to_enrol(sightings)
        case several:
            names = ", ".join(f"'{safe(s.name)}' ({s.uuid})" for s in several)
            raise UsageError(
                f"several unknown drives are plugged in: {names}", "say which: drives enrol UUID"
            )


def _nothing_to_enrol(sightings: Sequence[Sighting]) -> NotNowError:
    known = [s for s in sightings if s.verdict.record is not None and s.verdict.row is not None]
    if known:
        names = " and ".join(f"'{safe(s.name)}'" for s in known)
        return NotNowError(f"no unknown drive is plugged in; {names} is enrolled already")
    error = _not_ready(sightings)
    return NotNowError(error.message, error.hint)


def forget(world: World, sightings: Sequence[Sighting], word: str) -> dict[str, object]:
    """Take the enrolment of a drive back; nothing on it changes."""
    sighting = sighting_named(sightings, word)
    if sighting.verdict.record is None:
        raise UsageError(f"the drive '{safe(sighting.name)}' is not enrolled")
    enrolment.forget(sighting.uuid, world.records)
    return drive_record(drive_view(sighting))
