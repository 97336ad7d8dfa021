"""Notices that there has been no good backup for too long: of a job on any drive, or on one drive."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from usbbackup.agent import notices
from usbbackup.agent.events import Event
from usbbackup.agent.historian import ask, write
from usbbackup.agent.journal import story
from usbbackup.agent.notices import Notice
from usbbackup.agent.run import HISTORIAN
from usbbackup.agent.world import World
from usbbackup.clock import Timer
from usbbackup.config import Config
from usbbackup.drives.records import Enrolled
from usbbackup.errors import ConfigError
from usbbackup.history import History
from usbbackup.otp import Continue, Server, Target, cast
from usbbackup.text import safe

STALE_WATCH = "staleness"
DAY = 86400.0  # seconds; what is told once is not told again sooner
_LOOK_BACK = 500  # decisions


@dataclass(frozen=True)
class Claim:
    """A wish of the configuration: a good backup at least this often."""

    limit: float  # seconds
    jobs: tuple[str, ...]
    drive: str | None = None  # UUID; None: any
    name: str = ""  # what the job or drive is called
    since: float = 0.0  # wall time from which it holds, where there was none ever

    @property
    def what(self) -> str:
        """As in "no good backup ..."."""
        return f"of {self.name}" if self.drive is None else f"on the drive '{safe(self.name)}'"


@dataclass(frozen=True)
class Late:
    """A claim that is not kept, for how many seconds there was nothing, and whether to tell it today."""

    claim: Claim
    seconds: float
    tell: bool = True

    def notice(self) -> Notice:
        """As it is shown."""
        return notices.stale(self.claim.what, self.seconds, self.claim.limit)


@dataclass(frozen=True)
class Overdue:
    """Told to the audience: every claim that is not kept now."""

    late: tuple[Late, ...]


def claims(config: Config, records: Mapping[str, Enrolled]) -> Iterator[Claim]:
    """What is to be watched. Where no drive is enrolled yet nothing can be late."""
    if config.notify.stale_after is not None and records:
        since = min(record.enrolled_at for record in records.values())
        for job in config.jobs:
            yield Claim(config.notify.stale_after, (job.name,), None, job.name, since)
    for drive in config.drives:
        for record in records.values():
            if drive.stale_after is not None and record.name == drive.name and not record.read_only:
                jobs = tuple(job.name for job in config.jobs if drive in config.drives_of(job))
                yield Claim(
                    drive.stale_after, jobs, record.uuid, record.label or drive.name, record.enrolled_at
                )


def last_good(claim: Claim, history: History) -> float:
    """When the last good backup that fulfils it ended; else when it began to hold."""
    found = [
        history.last_good_anywhere(job) if claim.drive is None else history.last_good(job, claim.drive)
        for job in claim.jobs
    ]
    return max([claim.since, *(run.finished or run.started for run in found if run is not None)])


def told_today(claim: Claim, history: History, now: float) -> bool:
    """Was it told within a day, by this agent or one before?"""
    job = claim.name if claim.drive is None else None
    recent = history.decisions(job=job, drive=claim.drive, limit=_LOOK_BACK)
    stale = [one for one in recent if one.verdict == "stale" and (one.job, one.drive) == (job, claim.drive)]
    return bool(stale) and now - DAY < stale[0].last_seen <= now


class StaleWatch(Server):
    """Wakes when a claim falls due, at most once a day for each; without claims never."""

    trap_exits = True

    def __init__(self, world: World, audience: Sequence[Target]) -> None:
        self._world, self._audience = world, audience

    async def init(self) -> Continue:
        """Hear of runs: a good one solves it."""
        self._timer: Timer | None = None
        self._hearing = ExitStack()
        self._hearing.enter_context(self._world.hub.listening(self._heard))
        return Continue()

    async def handle_continue(self, argument: object) -> None:
        """Look once."""
        await self._look()

    async def handle_cast(self, message: object) -> None:
        """The configuration has changed."""
        await self._look()

    async def handle_info(self, message: object) -> None:
        """The time has come, or a run has ended well."""
        if message == "look":
            await self._look()

    async def terminate(self, reason: object) -> None:
        """Wake no more."""
        self._hearing.close()
        self._arm(None)

    def _heard(self, event: Event) -> None:
        if event.result is not None and event.result.outcome.good and not event.dry_run:
            self.pid.deliver("look")

    async def _look(self) -> None:
        now, watched = self._world.clock.now(), list(self._claims())
        if not watched:
            self._arm(None)
            self._tell(())
            return
        unknown: tuple[list[Late], list[float]] = ([], [])
        late, moments = await ask(self._historian, lambda history: _looked(watched, history, now), unknown)
        for one in late:
            if one.tell:
                self._note(one)
        self._tell(tuple(late))
        self._arm(min(moments, default=None))

    def _claims(self) -> Iterator[Claim]:
        try:
            records = self._world.records.read()
        except ConfigError:  # damaged, which is told where drives are judged
            return
        yield from claims(self._world.config, records)

    def _note(self, late: Late) -> None:
        claim, sentence = late.claim, late.notice().summary
        story.warning("%s", sentence, extra={"drive": claim.drive} if claim.drive else {"job": claim.name})
        job = claim.name if claim.drive is None else None
        write(self._historian, lambda history: history.decide("stale", sentence, drive=claim.drive, job=job))

    def _tell(self, late: tuple[Late, ...]) -> None:
        for listener in self._audience:
            cast(listener, Overdue(late))

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._world.clock.at(when, lambda: self.pid.deliver("look"))

    @property
    def _historian(self) -> Target:
        return self._world.registry.via(HISTORIAN)


def _looked(watched: Sequence[Claim], history: History, now: float) -> tuple[list[Late], list[float]]:
    """What is late now, and the moments at which to look again."""
    late: list[Late] = []
    moments: list[float] = []
    for claim in watched:
        seconds = now - last_good(claim, history)
        if seconds < claim.limit:
            moments.append(now + claim.limit - max(0.0, seconds))
        else:
            late.append(Late(claim, seconds, tell=not told_today(claim, history, now)))
            moments.append(now + DAY)
    return late, moments
