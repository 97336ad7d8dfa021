"""Tells the person at the screen: hears of drives and runs, and shows one notification for each stay."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from usbbackup.agent import enrolling, notices
from usbbackup.agent.dispatcher import running
from usbbackup.agent.events import Event
from usbbackup.agent.historian import ask
from usbbackup.agent.journal import story
from usbbackup.agent.notices import Action, Ended, Notice, Stay
from usbbackup.agent.run import HISTORIAN
from usbbackup.agent.stale import Claim, Late, Overdue
from usbbackup.agent.world import World
from usbbackup.bus import BusError
from usbbackup.drives.admit import Ready
from usbbackup.drives.monitor import LookAgain, Seen
from usbbackup.drives.mounter import MOUNTER, Eject, Handled
from usbbackup.drives.ready import Refused, Waiting, Why
from usbbackup.drives.sighting import Sighting
from usbbackup.errors import UsbbackupError
from usbbackup.offload import in_thread
from usbbackup.otp import Continue, ExitedError, Server, Target, call, cast
from usbbackup.outcome import Outcome, Stop
from usbbackup.programs import Program

NOTIFIER = "notifier"

# Reasons to wait that somebody has to do something about; others pass, or the mounter tells of them.
_CALLS_FOR_HELP = (
    *(Why.LOCKED, Why.COVERED, Why.READ_ONLY, Why.STOPPED, Why.ROOT_OWNED),
    *(Why.NO_SPACE, Why.NO_ANSWER, Why.WRITE_FAILED),
)


@dataclass(frozen=True)
class _Chosen:
    number: int
    action: Action


@dataclass
class _Drive:
    """A stay, and where it is shown."""

    stay: Stay
    number: int = 0  # of its notification; 0: none yet
    shown: Notice | None = None
    begun: dict[str, float] = field(default_factory=dict)  # run -> wall time
    quiet: bool = False  # it was told once that all went well; from then on only what did not


class Notifier(Server):
    """Where nothing can be shown, the journal has it all, and says once why nothing is shown."""

    trap_exits = True

    def __init__(self, world: World, monitor: Target) -> None:
        self._world, self._monitor = world, monitor

    async def init(self) -> Continue:
        """Hear of runs."""
        self._drives: dict[str, _Drive] = {}
        self._sightings: dict[str, Sighting] = {}
        self._complaints: dict[Claim, int] = {}  # the numbers of their notifications
        self._listening = False
        self._why_not = ""
        self._hearing = ExitStack()
        self._hearing.enter_context(self._world.hub.listening(self.pid.deliver))
        return Continue()

    async def handle_continue(self, argument: object) -> None:
        """Started again, ask for what was told before."""
        with suppress(ExitedError):
            await self.handle_cast(Seen(await call(self._monitor, "sightings")))

    async def handle_cast(self, message: object) -> None:
        """News of drives, from the monitor and the mounter."""
        match message:
            case Seen(sightings):
                await self._see(sightings)
            case Overdue(claims):
                await self._complain(claims)
            case Handled(uuid, _, what, sentence) if uuid in self._drives:
                self._note(self._drives[uuid].stay, what, sentence)
                await self._show(uuid)

    async def handle_info(self, message: object) -> None:
        """News of runs, and what somebody chose."""
        match message:
            case Event("ended", result=result) if result is not None:
                await self._ended(message)
            case Event("progress"):
                await self._goes_on(message)
            case _Chosen(number, action):
                await self._act(number, action)

    async def terminate(self, reason: object) -> None:
        """Hear no more; what is told stays, what goes on is not known any more."""
        self._hearing.close()
        for drive in self._drives.values():
            if drive.stay.running:
                await self._withdraw(drive)

    # drives

    async def _see(self, sightings: Sequence[Sighting]) -> None:
        self._sightings = {s.uuid: s for s in sightings if s.verdict.device is not None}
        for uuid in [uuid for uuid in self._drives if uuid not in self._sightings]:
            await self._left(uuid)
        for uuid, sighting in self._sightings.items():
            drive = self._drives.setdefault(uuid, _Drive(Stay(sighting.name)))
            drive.stay.stranger = _is_stranger(sighting)
            drive.stay.waits = _waits_for(sighting)
            drive.stay.doubt = _doubt_of(sighting)
            await self._show(uuid)

    async def _left(self, uuid: str) -> None:
        """What was asked of somebody is asked no more; what was told stays."""
        drive = self._drives[uuid]
        if not drive.begun:
            del self._drives[uuid]
        if drive.number and not (drive.stay.ended or drive.stay.safe or drive.begun):
            await self._withdraw(drive)

    @staticmethod
    def _note(stay: Stay, what: str, sentence: str) -> None:
        match what:
            case "safe":
                stay.safe, stay.held = sentence, None
            case "held" | "kept":
                stay.held = sentence
            case "refused":
                stay.waits = sentence

    # runs

    async def _goes_on(self, event: Event) -> None:
        drive = self._drives.get(event.drive)
        if drive is None or event.dry_run or event.run in drive.begun:
            return
        drive.begun[event.run] = self._world.clock.now()
        stay = drive.stay
        stay.safe = stay.held = None
        stay.running[event.job] = await self._took_last_time(event.job, event.drive)
        if not drive.quiet:
            await self._show(event.drive)

    async def _ended(self, event: Event) -> None:
        drive, result = self._drives.get(event.drive), event.result
        if drive is None or result is None or event.dry_run:
            return
        now = self._world.clock.now()
        seconds = now - drive.begun.pop(event.run, now)
        drive.stay.running.pop(event.job, None)
        drive.stay.ended.pop(event.job, None)
        drive.stay.ended[event.job] = Ended(event.run, result, seconds)
        if drive.quiet and result.outcome is Outcome.SUCCESS:
            return
        drive.quiet = result.outcome.good and not drive.stay.running
        await self._show(event.drive)
        if event.drive not in self._sightings and not drive.begun:
            self._drives.pop(event.drive, None)  # it left while this ran

    async def _took_last_time(self, job: str, uuid: str) -> float | None:
        historian = self._world.registry.via(HISTORIAN)
        last = await ask(historian, lambda history: history.last_good(job, uuid), None)
        return last.finished - last.started if last and last.finished is not None else None

    async def _complain(self, claims: Sequence[Late]) -> None:
        """Show what is new, take back what is solved."""
        now = {late.claim: late for late in claims}
        for claim in [claim for claim in self._complaints if claim not in now]:
            await self._take_back(self._complaints.pop(claim))
        for claim, late in now.items():
            if late.tell and self._world.config.notify.desktop:
                number = self._complaints.get(claim, 0)
                self._complaints[claim] = await self._shown(late.notice(), number)

    # the desktop

    async def _show(self, uuid: str) -> None:
        drive = self._drives[uuid]
        now = notices.notice(drive.stay)
        if now == drive.shown or not self._world.config.notify.desktop:
            return
        drive.shown = now
        if now is None:
            await self._withdraw(drive)
            return
        drive.number = await self._shown(now, drive.number)

    async def _withdraw(self, drive: _Drive) -> None:
        number, drive.number = drive.number, 0
        await self._take_back(number)

    async def _take_back(self, number: int) -> None:
        if number:
            with suppress(BusError):  # then it is gone as well
                await self._world.desktop.withdraw(number)

    async def _listen(self) -> None:
        if not self._listening:
            await self._world.desktop.listen(lambda number, word: self.pid.deliver(_Chosen(number, word)))
            self._listening = True

    async def _shown(self, now: Notice, replaces: int) -> int:
        """Its number; 0 where it cannot be shown."""
        try:
            await self._listen()
            number = await self._world.desktop.show(now, replaces)
        except BusError as error:
            if error.message != self._why_not:
                story.info("notifications cannot be shown: %s", error.message)
            self._why_not = error.message
            return 0
        self._why_not = ""
        return number

    async def _act(self, number: int, action: Action) -> None:
        uuid = next((uuid for uuid, drive in self._drives.items() if drive.number == number), None)
        if uuid is None:
            return
        try:
            match action:
                case Action.ENROL:
                    await self._enrol(uuid)
                case Action.EJECT if not running(self._world, uuid):
                    cast(self._world.registry.via(MOUNTER), Eject(uuid))
                case Action.LOG:
                    await self._open_log(self._drives[uuid].stay)
        except UsbbackupError as error:
            self._drives[uuid].stay.waits = " ".join(filter(None, (error.message, error.hint)))
            story.warning("%s", error.message)
            await self._show(uuid)

    async def _enrol(self, uuid: str) -> None:
        sightings = list(self._sightings.values())
        made = await in_thread(lambda: enrolling.enrol(self._world, sightings, uuid, read_only=False))
        if made.needed is not None:
            raise made.needed
        story.info("drive '%s' was enrolled from its notification", uuid, extra={"drive": uuid})
        cast(self._monitor, LookAgain())

    async def _open_log(self, stay: Stay) -> None:
        """With whatever the desktop opens texts with."""
        if stay.last is not None:
            log = self._world.paths.logs / f"{stay.last.run}.log"
            await self._world.programs.run(Program(("xdg-open", str(log)), package="xdg-utils"), stop=Stop())


def _is_stranger(sighting: Sighting) -> bool:
    verdict = sighting.verdict
    return isinstance(sighting.decision, Refused) and verdict.record is None and verdict.row is not None


def _waits_for(sighting: Sighting) -> str | None:
    decision = sighting.decision
    if isinstance(decision, Waiting) and decision.why in _CALLS_FOR_HELP:
        return " ".join(filter(None, (decision.reason, decision.remedy)))
    return None


def _doubt_of(sighting: Sighting) -> str | None:
    decision = sighting.decision
    return " ".join(decision.notes) or None if isinstance(decision, Ready) else None
