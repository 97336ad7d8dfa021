"""Watches drives come and go: subscribes, then enumerates, and tells the dispatcher what it sees."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from msgspec import structs

from usbbackup.clock import Timer
from usbbackup.drives.admit import Ready, admit
from usbbackup.drives.ready import Absent, Candidate, Ejected, Refused, Verdict, Waiting, Why
from usbbackup.drives.sighting import Decision, Sighting, Sights, verdicts
from usbbackup.drives.udev import Changed, Device
from usbbackup.offload import in_thread
from usbbackup.otp import NO_REPLY, Continue, Sender, Server, Target, cast, reply

_TROUBLE = frozenset({Why.READ_ONLY, Why.STOPPED, Why.WRITE_FAILED, Why.NO_ANSWER})
QUIET_SECONDS = 0.3  # udev tells of one plug in several events; mounts are looked at at once
PROBE_SECONDS = 60.0  # a drive that takes longer than this for a small file is not ready


@dataclass(frozen=True)
class Seen:
    """Told to the dispatcher: every drive that matters, whenever anything about one of them changed."""

    sightings: tuple[Sighting, ...]


@dataclass(frozen=True)
class LookAgain:
    """Cast to the monitor: something may have changed that no kernel event tells, as an enrolment."""


@dataclass(frozen=True)
class ProveAgain:
    """Cast to the monitor: what was proven of drives holds no more, as after sleep."""


@dataclass(frozen=True)
class Obstacle:
    """Cast to the monitor: what kept a waiting drive from being mounted or unlocked."""

    uuid: str
    reason: str
    remedy: str | None


@dataclass(frozen=True)
class _Mounts:
    """The mount table changed."""


@dataclass(frozen=True)
class _Tried:
    """A candidate has been tried."""

    candidate: Verdict
    answer: Ready | Waiting | Refused


class _Attempt(NamedTuple):
    candidate: Verdict
    task: asyncio.Task[None]


class Monitor(Server):
    """Keeps one picture of all drives up to date; wakes only when the kernel says that something changed."""

    trap_exits = True

    def __init__(self, sights: Sights, *audience: Target) -> None:
        self._sights, self._audience = sights, audience

    async def init(self) -> Continue:
        """Subscribe; what comes from now on waits in the mailbox."""
        self._devices: Sequence[Device] | None = None
        self._tried: dict[str, _Tried] = {}
        self._trying: dict[str, _Attempt] = {}
        self._obstacles: dict[str, Obstacle] = {}
        self._told: tuple[Sighting, ...] | None = None
        self._patient: list[Sender] = []
        self._looked = float("-inf")
        self._timer: Timer | None = None
        self._watches = [
            self._sights.udev.watch(self.pid.deliver),
            self._sights.mounts.watch(lambda: self.pid.deliver(_Mounts())),
        ]
        return Continue()

    async def handle_continue(self, argument: object) -> None:
        """Enumerate: what is plugged in already is announced like what comes later."""
        self._look()

    async def handle_cast(self, message: object) -> None:
        """Told to look again: drives that waited are tried once more. An obstacle becomes the reason."""
        if isinstance(message, Obstacle):
            self._obstacles[message.uuid] = message
            self._look()
            return
        if isinstance(message, ProveAgain):
            self._tried.clear()
        self._devices = None
        self._tried = {uuid: tried for uuid, tried in self._tried.items() if isinstance(tried.answer, Ready)}
        self._look()

    async def handle_call(self, request: object, sender: Sender) -> object:
        """Answer `settled` when every candidate has been tried and told of; `sightings`: what was told."""
        match request:
            case "settled":
                self._patient.append(sender)
                self._tell_the_patient()
                return NO_REPLY
            case "sightings":
                return self._told or ()
            case _:
                return await super().handle_call(request, sender)

    async def handle_info(self, message: object) -> None:
        """React to one change."""
        match message:
            case Changed(ended=True):
                self.stop("the connection to udev was lost")  # started anew by the supervisor, it reconnects
            case Changed():
                self._devices = None
                self._look_soon()
            case _Mounts():
                self._look()
            case _Tried(candidate, _) if self._is_tried(candidate):
                del self._trying[str(candidate.uuid)]
                self._tried[str(candidate.uuid)] = message
                self._look()

    async def terminate(self, reason: object) -> None:
        """Subscribe no more."""
        for watch in self._watches:
            watch.cancel()
        for uuid in list(self._trying):
            self._try_no_more(uuid)
        if self._timer is not None:
            self._timer.cancel()

    def _look_soon(self) -> None:
        wait = self._looked + QUIET_SECONDS - self._sights.clock.monotonic()
        if wait <= 0:
            self._look()
        elif self._timer is None:
            self._timer = self._sights.clock.later(wait, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self.pid.deliver(_Mounts())

    def _look(self) -> None:
        sights = self._sights
        self._looked = sights.clock.monotonic()
        if self._devices is None:
            self._devices = sights.udev.devices()
        found = verdicts(sights, self._devices)
        self._forget_departed(found)
        sightings = tuple(Sighting(self._known(verdict), self._decision(verdict)) for verdict in found)
        if sightings != self._told:
            self._remember_trouble(sightings)
            self._told = sightings
            for listener in self._audience:
                cast(listener, Seen(sightings))
        self._tell_the_patient()

    def _remember_trouble(self, sightings: Sequence[Sighting]) -> None:
        for sighting in sightings:
            record = sighting.verdict.record
            match sighting.decision:
                case Waiting(why, reason) if why in _TROUBLE and record and record.trouble != reason:
                    self._sights.records.troubled(sighting.uuid, reason)

    def _tell_the_patient(self) -> None:
        while self._patient and not self._trying:
            reply(self._patient.pop(), None)

    def _forget_departed(self, verdicts: Sequence[Verdict]) -> None:
        """What was proven of a drive holds as long as nothing known about it changes."""
        now = {verdict.uuid: verdict for verdict in verdicts if isinstance(verdict.decision, Candidate)}
        for uuid, tried in list(self._tried.items()):
            known = (_essence(tried.candidate), _essence(self._enrolled(tried)))
            if uuid not in now or _essence(now[uuid]) not in known:
                del self._tried[uuid]
                row = tried.candidate.row
                if isinstance(tried.answer, Ready) and row is not None:
                    self._sights.records.seen(uuid, self._sights.clock.now(), row.mount_point)

    def _enrolled(self, tried: _Tried) -> Verdict:
        """The candidate as it looks from the second time on, where trying has enrolled it."""
        if isinstance(tried.answer, Ready):
            return tried.answer.verdict
        return tried.candidate

    def _known(self, verdict: Verdict) -> Verdict:
        tried = self._tried.get(str(verdict.uuid))
        return verdict if tried is None else self._enrolled(tried)

    def _decision(self, verdict: Verdict) -> Decision:
        uuid = str(verdict.uuid)
        if not isinstance(verdict.decision, Candidate):
            self._try_no_more(uuid)
            return self._explained(uuid, verdict.decision)
        self._obstacles.pop(uuid, None)
        if (tried := self._tried.get(uuid)) is not None:
            return tried.answer
        if not self._is_tried(verdict):
            self._try_no_more(uuid)
            self._trying[uuid] = _Attempt(verdict, asyncio.create_task(self._attempt(verdict)))
        return Waiting(Why.BEING_TRIED, "The drive is being tried: a small file is written and read back.")

    def _explained(
        self, uuid: str, decision: Absent | Waiting | Refused | Ejected
    ) -> Absent | Waiting | Refused | Ejected:
        """With what was found out about why it waits; anything else than waiting ends that."""
        match decision, self._obstacles.get(uuid):
            case Waiting(Why.NOT_MOUNTED | Why.LOCKED), Obstacle(_, reason, remedy):
                return replace(decision, reason=reason, remedy=remedy)
            case Waiting(), _:
                return decision
            case _:
                self._obstacles.pop(uuid, None)
                return decision

    def _is_tried(self, candidate: Verdict) -> bool:
        attempt = self._trying.get(str(candidate.uuid))
        return attempt is not None and attempt.candidate == candidate

    def _try_no_more(self, uuid: str) -> None:
        if (attempt := self._trying.pop(uuid, None)) is not None:
            attempt.task.cancel()

    async def _attempt(self, candidate: Verdict) -> None:
        sights = self._sights
        arguments = (candidate, sights.mounts, sights.host, sights.records, sights.clock.now())
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                answer = await in_thread(admit, *arguments)
        except TimeoutError:
            answer = Waiting(
                Why.NO_ANSWER,
                f"The drive did not take a small file within {PROBE_SECONDS:.0f} s.",
                "Unplug it and try another cable or port; the drive may be failing.",
            )
        self.pid.deliver(_Tried(candidate, answer))


def _essence(verdict: Verdict) -> Verdict:
    """Without what is only noted about a drive as it is used."""
    if verdict.record is None:
        return verdict
    return replace(
        verdict,
        record=structs.replace(
            verdict.record, repositories={}, last_seen=None, trouble=None, mount_point=None
        ),
    )
