"""Decides which jobs run on which drive, and when; keeps every decision with its reason.

What runs is in the registry and what was is in the history; the dispatcher itself remembers only the
drives that are here. So it may be restarted at any moment: it hears of every drive again, and finds every
run where it was.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from usbbackup.agent import due
from usbbackup.agent.desk import Picture
from usbbackup.agent.events import Event
from usbbackup.agent.historian import ask, write
from usbbackup.agent.journal import story
from usbbackup.agent.messages import Message
from usbbackup.agent.run import HISTORIAN, Order, Run, RunEnded, Worker
from usbbackup.agent.status import sentence
from usbbackup.agent.world import World
from usbbackup.backup.secret import WaitingForSecret
from usbbackup.clock import Timer
from usbbackup.config import JobConfig
from usbbackup.drives.admit import Ready
from usbbackup.drives.monitor import Seen
from usbbackup.drives.mounter import MOUNTER, Handled, LetGo
from usbbackup.drives.ready import Absent, Refused, Waiting, Why
from usbbackup.drives.sighting import Decision, Sighting
from usbbackup.history import History, new_run_id
from usbbackup.otp import (
    AlreadyStarted,
    ChildSpec,
    Down,
    NotFound,
    Pid,
    Pools,
    Ref,
    Sender,
    Server,
    Target,
    cast,
    monitor,
    start_child,
)
from usbbackup.outcome import Outcome, Result
from usbbackup.text import safe

RUN_SHUTDOWN = 60.0  # seconds: INT 30, TERM 10, KILL, and the record; the unit's TimeoutStopSec exceeds it
WORKER_SHUTDOWN = 30.0  # seconds for a run whose drive left to end in order; then its programs are killed


@dataclass
class Attached:
    """A ready drive, for as long as it stays."""

    sighting: Sighting
    attachment: str
    let_go: bool = False  # its jobs are done, and it was told so


@dataclass(frozen=True)
class End:
    """How one run of the present stays ended; times are wall seconds."""

    outcome: Outcome
    started: float
    ended: float


@dataclass(frozen=True)
class Wish:
    """Asked by the user: run these jobs now, on these drives, whether due or not."""

    pairs: tuple[tuple[JobConfig, str], ...]  # job, drive's UUID
    accept_source: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class CancelRuns:
    """Asked by the user: end the runs of this job, or all."""

    job: str | None


class Dispatcher(Server):
    """Drive ready: its pool, its due jobs, their runs. Drive gone: its runs are told, its pool stops."""

    trap_exits = True

    def __init__(self, world: World, pools: Pools, runs: Target, *, scheduled: bool = True) -> None:
        self._world, self._pools, self._runs = world, pools, runs
        self._scheduled = scheduled  # False: only what the user asks for

    async def init(self) -> None:
        """Know of no drive; the monitor, started after this process, tells of all."""
        self.sightings: tuple[Sighting, ...] = ()
        self.attached: dict[str, Attached] = {}
        self.verdicts: dict[tuple[str, str], due.Verdict] = {}
        self._closing: dict[Ref, str] = {}
        self._running: dict[Ref, Order] = {}
        self._timer: Timer | None = None
        self._secretless: dict[tuple[str, str], WaitingForSecret] = {}  # by job and attachment
        self._ends: dict[tuple[str, str], list[End]] = {}  # by job and attachment
        self._said = ""
        self._hearing = ExitStack()
        self._hearing.enter_context(self._world.hub.listening(lambda event: self._say()))
        for order in running(self._world):
            if (run := self._world.registry.whereis(order.key)) is not None:
                self._running[monitor(run)] = order

    async def handle_cast(self, message: object) -> None:
        """News from the monitor and from runs, and what the user wants."""
        match message:
            case Seen(sightings):
                await self._seen(sightings)
            case RunEnded(order, WaitingForSecret() as result):
                self._secretless[order.job.name, order.attachment] = result
                self.note("waiting", result.message, order.drive.uuid, order.job.name)
            case RunEnded(order, result):
                self._secretless.pop((order.job.name, order.attachment), None)
                self._remember(order, result)
                self.note(result.outcome, result.message, order.drive.uuid, order.job.name)
            case Handled(_, _, "refused", _):
                pass  # the monitor tells it as the drive's reason to wait
            case Handled(uuid, name, what, sentence):
                story.info("drive '%s': %s", safe(name), sentence, extra={"drive": uuid})
                self.note(what, sentence, uuid)
            case "configuration":
                self.verdicts.clear()
                await self._dispatch_all()
            case "power":
                await self._dispatch_all()

    async def handle_call(self, request: object, sender: Sender) -> object:
        """Answer the control socket."""
        match request:
            case "picture":
                busy = frozenset(order.drive.uuid for order in running(self._world))
                return Picture(self.sightings, dict(self.verdicts), busy, self._locked())
            case Wish():
                return [await self._wished(request, job, uuid) for job, uuid in request.pairs]
            case CancelRuns(job):
                return self._cancel(job)
            case _:
                return await super().handle_call(request, sender)

    async def handle_info(self, message: object) -> None:
        """The time has come, a pool is gone, a run died without a word."""
        match message:
            case "due":
                self._timer = None
                await self._dispatch_all()
            case Down(ref, _, _) if ref in self._closing:
                del self._closing[ref]
                await self._open_pools()
            case Down(ref, _, reason) if ref in self._running:
                await self._run_is_gone(self._running.pop(ref), reason)

    async def terminate(self, reason: object) -> None:
        """Nobody is to be woken any more."""
        self._arm(None)
        self._hearing.close()

    # drives

    async def _seen(self, sightings: tuple[Sighting, ...]) -> None:
        before = {sighting.uuid: sighting.decision for sighting in self.sightings}
        self.sightings = sightings
        for sighting in sightings:
            if before.get(sighting.uuid) != sighting.decision:
                self._remark(sighting)
        ready = {s.uuid: s for s in sightings if isinstance(s.decision, Ready)}
        now = {s.uuid: s.decision for s in sightings}
        tried = {s.uuid for s in sightings if _is_tried(s)}  # again: whether it stays is told in a moment
        for uuid, attached in list(self.attached.items()):
            if uuid not in tried and _stay(attached.sighting) != _stay(ready.get(uuid)):
                self._leave(attached, now.get(uuid))
        for uuid, sighting in ready.items():
            await self._arrive(uuid, sighting)
        await self._open_pools()
        self._say()
        self._world.hub.tell(Event("changed"))

    def _remark(self, sighting: Sighting) -> None:
        decision, name = sighting.decision, safe(sighting.name)
        match decision:
            case Ready(notes=()):
                about = {"drive": sighting.uuid, "kind": Message.DRIVE_READY}
                story.info("drive '%s' is ready", name, extra=about)
                self.note("ready", "plugged in, mounted, enrolled and writable", sighting.uuid)
            case Ready(notes=notes):
                about = {"drive": sighting.uuid, "kind": Message.DRIVE_READY}
                story.warning("drive '%s' is ready. %s", name, " ".join(notes), extra=about)
                self.note("ready", " ".join(("plugged in, enrolled and writable.", *notes)), sighting.uuid)
            case Waiting(Why.BEING_TRIED):
                pass  # it is over in a moment, and then there is something to tell
            case Absent(reason) if sighting.uuid in self.attached:  # that it is gone is told in a moment, too
                self.note("absent", reason, sighting.uuid)
            case _:
                remedy = f" {decision.remedy}" if decision.remedy else ""
                about = {"drive": sighting.uuid, "kind": Message.DRIVE_NOT_READY}
                story.info("drive '%s': %s%s", name, decision.reason, remedy, extra=about)
                self.note(type(decision).__name__.lower(), decision.reason + remedy, sighting.uuid)

    async def _arrive(self, uuid: str, sighting: Sighting) -> None:
        if uuid in self.attached:
            self.attached[uuid].sighting = sighting
            return
        key = _stay(sighting)
        attachment = await ask(self._historian, lambda history: history.attachment(str(key), uuid), str(key))
        self.attached[uuid] = Attached(sighting, attachment)

    def _leave(self, attached: Attached, now: Decision | None) -> None:
        uuid, name = attached.sighting.uuid, safe(attached.sighting.name)
        del self.attached[uuid]
        self._ends = {key: ends for key, ends in self._ends.items() if key[1] != attached.attachment}
        story.info("drive '%s' is gone", name, extra={"drive": uuid, "kind": Message.DRIVE_GONE})
        write(self._historian, lambda history: history.end_attachment(uuid))
        for order in running(self._world, uuid):
            order.stop.set(*_parting(name, now))
        closing = self._pools.ask_to_stop_pool(uuid)
        if isinstance(closing, Ref):
            self._closing[closing] = uuid

    async def _open_pools(self) -> None:
        for uuid, attached in list(self.attached.items()):
            if uuid in self._closing.values():
                continue
            size = attached.sighting.verdict.drive.jobs_at_once
            spec = ChildSpec("worker", lambda: Worker(self._world), shutdown=WORKER_SHUTDOWN)
            started = await self._pools.start_pool(uuid, spec, size)
            if not isinstance(started, AlreadyStarted):
                await self._dispatch(uuid)

    # jobs

    async def _dispatch_all(self) -> None:
        for uuid in list(self.attached):
            await self._dispatch(uuid)

    async def _dispatch(self, uuid: str) -> None:
        attached = self.attached.get(uuid)
        if attached is None or not self._scheduled:
            return
        for job in self._jobs_of(attached.sighting):
            if self._world.registry.whereis(("run", uuid, job.name)) is None:
                await self._consider(job, attached)
        await self._let_go_if_done(attached)
        self._arm(min((v.next_due for v in self._current() if v.next_due is not None), default=None))
        self._world.hub.tell(Event("changed"))

    def _jobs_of(self, sighting: Sighting) -> list[JobConfig]:
        config, entry = self._world.config, sighting.verdict.drive
        return [job for job in config.jobs if entry.name in [drive.name for drive in config.drives_of(job)]]

    async def _consider(self, job: JobConfig, attached: Attached) -> None:
        uuid = attached.sighting.uuid
        locked = self._secretless.get((job.name, attached.attachment))
        if locked is not None:
            verdict = due.Verdict(False, f"{locked.message}; asked again at the next plug or by you")
        else:
            verdict = due.judge(job.every, await self._past(job.name, attached), self._world.clock.now())
        if verdict.due and (low := self._world.low_battery()) is not None:
            verdict = due.Verdict(False, low)
        self.verdicts[job.name, uuid] = verdict
        self.note("due" if verdict.due else "not due", verdict.reason, uuid, job.name, attached.attachment)
        if verdict.due:
            await self._start(self._order(job, attached))

    async def _let_go_if_done(self, attached: Attached) -> None:
        """`after` has its turn when this stay brought a backup and nothing is to be tried again."""
        uuid, entry = attached.sighting.uuid, attached.sighting.verdict.drive
        if entry.after == "keep" or attached.let_go or running(self._world, uuid):
            return
        pasts = [await self._past(job.name, attached) for job in self._jobs_of(attached.sighting)]
        ends = [past.outcomes[-1][0] for past in pasts if past.outcomes]
        if due.is_done(ends):
            attached.let_go = True
            cast(self._world.registry.via(MOUNTER), LetGo(uuid))

    async def _past(self, job: str, attached: Attached) -> due.Past:
        """What the history says, or what is remembered here, where it could not be written."""
        uuid, attachment = attached.sighting.uuid, attached.attachment
        ends = self._ends.get((job, attachment), [])
        good = [end.started for end in ends if end.outcome.good]
        remembered = due.Past(good[-1] if good else None, [(end.outcome, end.ended) for end in ends])
        written = await ask(
            self._historian, lambda history: _past(history, job, uuid, attachment), remembered
        )
        return remembered if len(written.outcomes) < len(remembered.outcomes) else written

    def _remember(self, order: Order, result: Result) -> None:
        if not order.dry_run:
            end = End(result.outcome, order.since, self._world.clock.now())
            self._ends.setdefault((order.job.name, order.attachment), []).append(end)

    def _current(self) -> Iterator[due.Verdict]:
        for (_, uuid), verdict in self.verdicts.items():
            if uuid in self.attached:
                yield verdict

    def _order(self, job: JobConfig, attached: Attached, wish: Wish | None = None) -> Order:
        now = self._world.clock.now()
        return Order(
            new_run_id(now),
            job,
            attached.sighting,
            attached.attachment,
            now,
            accept_source=wish is not None and wish.accept_source,
            dry_run=wish is not None and wish.dry_run,
        )

    async def _start(self, order: Order) -> None:
        spec = ChildSpec(order.run, lambda: Run(self._world, self._pools, order), "temporary", RUN_SHUTDOWN)
        started = await start_child(self._runs, spec)
        if isinstance(started, Pid):
            self._running[monitor(started)] = order
        if (attached := self.attached.get(order.drive.uuid)) is not None:
            attached.let_go = False

    async def _wished(self, wish: Wish, job: JobConfig, uuid: str) -> Order | NotFound:
        """Start a run because the user says so; the one that runs already serves as well."""
        attached = self.attached.get(uuid)
        if attached is None:
            return NotFound(uuid)
        present = self._world.registry.lookup(("run", uuid, job.name))
        if present is not None:
            return present.value  # type: ignore[no-any-return] # runs register their Order
        order = self._order(job, attached, wish)
        self.note("due", "you asked for it", uuid, job.name, attached.attachment)
        await self._start(order)
        return order

    def _cancel(self, job: str | None) -> list[Order]:
        chosen = [order for order in running(self._world) if job in (None, order.job.name)]
        for order in chosen:
            order.stop.set(Outcome.CANCELLED, "cancelled by you")
        return chosen

    async def _run_is_gone(self, order: Order, reason: object) -> None:
        if isinstance(reason, BaseException):  # else it has told its end itself
            result = Result(
                Outcome.FAILED,
                f"the run ended unexpectedly: {safe(repr(reason))}",
                "this is a bug in usbbackup; earlier snapshots are untouched",
            )
            write(self._historian, lambda history: history.end_run(order.run, result))
            order.end(result, self._world.hub)
        await self._dispatch(order.drive.uuid)
        self._say()

    def _locked(self) -> dict[str, str]:
        """The drives on which a job waits for its secret, with the reason."""
        stays = {attached.attachment: uuid for uuid, attached in self.attached.items()}
        return {
            stays[stay]: f"waiting-for-secret: job '{job}': {result.message}. {result.hint}"
            for (job, stay), result in self._secretless.items()
            if stay in stays
        }

    # what others are told, and when to look again

    def _say(self) -> None:
        """Keep the service manager's status line true."""
        now = sentence(self.sightings, running(self._world), self._world.clock.now())
        if now != self._said:
            self._said = now
            self._world.manager.tell(f"STATUS={now}")

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._world.clock.at(when, lambda: self.pid.deliver("due"))

    def note(
        self, verdict: str, reason: str, drive: str, job: str | None = None, attachment: str | None = None
    ) -> None:
        """Keep a decision for `usbbackup why`."""
        write(
            self._historian,
            lambda history: history.decide(verdict, reason, drive=drive, job=job, attachment=attachment),
        )

    @property
    def _historian(self) -> Target:
        return self._world.registry.via(HISTORIAN)


def running(world: World, uuid: str | None = None) -> list[Order]:
    """What runs or waits for its turn now, in order of asking."""
    entries = [world.registry.lookup(name) for name in world.registry.names() if _is_run(name)]
    orders = [entry.value for entry in entries if entry is not None]
    return [order for order in orders if uuid in (None, order.drive.uuid)]


def _is_run(name: object) -> bool:
    return isinstance(name, tuple) and name[0] == "run"


def _parting(name: str, now: Decision | None) -> tuple[Outcome, str, str | None]:
    """How a run ends whose drive is no longer ready, and is this now."""
    again = "plug the drive in again, and the backup goes on"
    match now:
        case Waiting(Why.READ_ONLY | Why.STOPPED, reason, remedy):
            return Outcome.FAILED, f"the drive '{name}' takes no more data: {reason}", remedy
        case Waiting(Why.NOT_MOUNTED):
            return Outcome.INTERRUPTED, f"the drive '{name}' was unmounted", again
        case Waiting(_, reason, remedy) | Refused(reason, remedy):
            return Outcome.INTERRUPTED, f"the drive '{name}' is not ready any more: {reason}", remedy
        case _:
            return Outcome.INTERRUPTED, f"the drive '{name}' was unplugged", again


def _is_tried(sighting: Sighting) -> bool:
    return isinstance(sighting.decision, Waiting) and sighting.decision.why is Why.BEING_TRIED


def _stay(sighting: Sighting | None) -> str | None:
    """What tells one stay of a drive from the next."""
    return sighting.decision.attachment if sighting and isinstance(sighting.decision, Ready) else None


def _past(history: History, job: str, uuid: str, attachment: str) -> due.Past:
    last_good = history.last_good(job, uuid)
    return due.Past(
        last_good.started if last_good else None,
        history.outcomes(job, uuid, attachment),
    )
