"""Retention when a user asks for it: judged, told, and carried out by the command's own process."""

import fcntl
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from usbbackup.agent import desk, glance
from usbbackup.agent.world import World
from usbbackup.backup import prune
from usbbackup.backup.borg.session import Answer, Session
from usbbackup.backup.borg.trouble import Trouble
from usbbackup.backup.prune import BorgShelf, RsyncShelf, Shelf
from usbbackup.backup.retention import Judged
from usbbackup.backup.snapshots import Ask, Reader, passphrase
from usbbackup.config import JobConfig
from usbbackup.drives.pin import Pin
from usbbackup.drives.sighting import Sighting
from usbbackup.errors import NotNowError, UsbbackupError
from usbbackup.folders import closing, open_folder
from usbbackup.outcome import Stop


@dataclass(frozen=True)
class Pruned:
    """The snapshots of one job on one drive, as they were judged."""

    job: str
    drive: Sighting
    judged: Sequence[Judged]


async def pruned(
    world: World, job: str | None, drive: str | None, *, dry_run: bool, ask: Ask | None
) -> list[Pruned]:
    """Prune one job, or every job that has `keep`, on the drives that are plugged in.

    Raises UsageError for a job or drive that is none, NotNowError where a run is writing there.
    """
    sightings = glance.picture(world).sightings
    jobs = [desk.job_named(world.config, job)] if job else [one for one in world.config.jobs if one.keep]
    among = [desk.sighting_named(sightings, drive)] if drive else list(sightings)
    meant = [s for s in among if s.verdict.row is not None and s.verdict.record is not None]
    if not meant:
        raise desk.not_ready(among)
    found = []
    for sighting in meant:
        for one in jobs:
            if one.engine != "command" and desk.goes_to(world.config, one, sighting):
                found += await _on(world, one, sighting, dry_run=dry_run, ask=ask)
    return found


async def _on(
    world: World, job: JobConfig, sighting: Sighting, *, dry_run: bool, ask: Ask | None
) -> list[Pruned]:
    with ExitStack() as stack:
        pin = stack.enter_context(sighting.pin(world))
        try:
            folder = stack.enter_context(closing(open_folder(pin.fd, job.name)))
        except FileNotFoundError:
            return []  # it has never run there
        shelf = await _shelf(world, job, pin, folder, ask)
        if dry_run:
            return [Pruned(job.name, sighting, await prune.judged(shelf, job.keep))]
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNowError(
                f"a run of job '{job.name}' is writing to this drive", "wait until it has ended"
            ) from None
        return [Pruned(job.name, sighting, await prune.prune(shelf, job.keep, lambda line: None))]


async def _shelf(world: World, job: JobConfig, pin: Pin, folder: int, ask: Ask | None) -> Shelf:
    def check() -> None:
        if (reason := pin.still_there()) is not None:
            raise NotNowError(reason, "plug the drive in again; the next run removes what is left")

    if job.engine == "rsync":
        return RsyncShelf(folder, check)
    reader = Reader({job.name: job}, world.programs, world.paths, world.clock, ask)
    secret = await passphrase(job.name, reader)
    session = Session(folder, world.programs, world.paths, secret, check=check)

    async def asked(argv: tuple[str, ...]) -> Answer:
        match await session.attempt(argv, Stop()):
            case Trouble() as trouble:
                raise UsbbackupError(*trouble)
            case answer:
                return answer

    return BorgShelf(job.name, folder, asked)
