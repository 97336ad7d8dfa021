"""One run: borrow a worker of the drive's pool, have the engine run on the pinned drive, record its end."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from usbbackup.agent.events import Event, Hub
from usbbackup.agent.historian import ask, write
from usbbackup.agent.journal import story
from usbbackup.agent.logfile import RunLog
from usbbackup.agent.messages import OF_OUTCOME, Message
from usbbackup.agent.unending import Remembering
from usbbackup.agent.world import World
from usbbackup.backup.engine import Request
from usbbackup.backup.perform import perform
from usbbackup.backup.secret import WaitingForSecret
from usbbackup.config import JobConfig
from usbbackup.drives.pin import Pin
from usbbackup.drives.sighting import Sighting
from usbbackup.errors import UsbbackupError
from usbbackup.history import History
from usbbackup.offload import in_thread
from usbbackup.otp import (
    Continue,
    Exit,
    ExitedError,
    Pid,
    Pools,
    Sender,
    Server,
    Target,
    call,
    cast,
    exit,
)
from usbbackup.outcome import Outcome, Phase, Progress, Result, SourceSeen, Stop
from usbbackup.text import safe

_READING = (Phase.QUEUED, Phase.PROBE, Phase.STAGE)  # a run that ended there has added nothing to its drive
DISPATCHER = "dispatcher"
HISTORIAN = "history"


@dataclass
class Order:
    """What one run shall do, and how far it is; kept in the registry for as long as the run lives."""

    run: str
    job: JobConfig
    drive: Sighting
    attachment: str
    since: float  # wall time at which it was queued, later at which it began
    accept_source: bool = False
    dry_run: bool = False
    stop: Stop = field(default_factory=Stop)
    progress: Progress = field(default_factory=lambda: Progress(Phase.QUEUED))
    result: Result | None = None  # once it is over; its name is in the registry for a moment longer

    @property
    def key(self) -> tuple[str, str, str]:
        """Its name in the registry: there is never a second run of this job on this drive."""
        return ("run", self.drive.uuid, self.job.name)

    def end(self, result: Result, hub: Hub) -> None:
        """It is over; whoever listens is told."""
        self.result = result
        hub.tell(self.ended)

    @property
    def ended(self) -> Event:
        """What is told of its end."""
        return self.event("ended", result=self.result)

    def event(self, what: str, progress: Progress | None = None, result: Result | None = None) -> Event:
        """Something that happened to it."""
        return Event(what, self.run, self.job.name, self.drive.uuid, progress, result, self.dry_run)


@dataclass(frozen=True)
class RunEnded:
    """Told to the dispatcher when a run is over and recorded."""

    order: Order
    result: Result


@dataclass(frozen=True)
class Perform:
    """Asked of a worker: run this order, and answer with its Result."""

    order: Order
    request_log: RunLog
    before: "Before"


@dataclass(frozen=True)
class Before:
    """What the history knows of earlier runs of a job."""

    sources: Mapping[str, SourceSeen] = field(default_factory=dict)
    ended_well: bool | None = None  # of the last run that wrote to this drive
    snapshot: str | None = None  # of the last good one there
    proven: float | None = None  # when files were last restored from there and compared

    @classmethod
    def of(cls, order: Order, history: History) -> "Before":
        """Ask for it; `order` itself may have begun."""
        job, drive = order.job.name, order.drive.uuid
        good = history.last_good(job, drive)
        earlier = (run for run in history.runs(job=job, drive=drive) if run.run != order.run)
        ends = (run.outcome is not None and run.outcome.good for run in earlier if run.phase not in _READING)
        return cls(
            history.sources(job),
            next(ends, None),
            good.snapshot if good else None,
            history.last_proven(job, drive),
        )


class Worker(Server):
    """Does one run at a time: pins the drive, runs the engine, lets go of the drive.

    Told to end, as when its drive has left, it first ends its run in order: what was published stays a
    success, and `after` is run.
    """

    trap_exits = True

    def __init__(self, world: World) -> None:
        self._world = world

    async def handle_call(self, request: Perform, sender: Sender) -> Result:
        """Answer with the one result of the run; whatever is expected to go wrong is in it."""
        world, order = self._world, request.order
        pin, programs = order.drive.pin(world), Remembering(world.programs)
        try:
            with closing(await in_thread(pin.__enter__, unwanted=Pin.close)) as target:
                result = await perform(
                    Request(
                        job=order.job,
                        target=target,
                        run=order.run,
                        programs=programs,
                        clock=world.clock,
                        paths=world.paths,
                        stop=order.stop,
                        report=lambda progress: self._report(order, progress),
                        log=request.request_log.output,
                        last=request.before.sources,
                        last_ended_well=request.before.ended_well,
                        last_snapshot=request.before.snapshot,
                        last_proven=request.before.proven,
                        on_proven=lambda snapshot: self._proven(order, snapshot),
                        accept_source=order.accept_source,
                        dry_run=order.dry_run,
                        repository=self._repository(order),
                        on_repository=lambda identity: self._keep_repository(order, identity),
                        on_start=lambda pid, ticks: self._engine(order, pid, ticks),
                    )
                )
        except UsbbackupError as error:
            return _not_begun(order, error)
        return programs.told(result)

    async def handle_info(self, message: object) -> None:
        """Nobody has a use for it any more, as a pool that has too many."""
        if isinstance(message, Exit):
            self.stop(message.reason)

    def _repository(self, order: Order) -> str | None:
        record = self._world.records.read().get(order.drive.uuid)
        return record.repositories.get(order.job.name) if record else None

    def _keep_repository(self, order: Order, identity: str) -> None:
        self._world.records.repository(order.drive.uuid, order.job.name, identity)

    def _report(self, order: Order, progress: Progress) -> None:
        if progress.phase is not order.progress.phase and not order.dry_run:
            write(self._historian, lambda history: history.phase(order.run, progress.phase))
        order.progress = progress
        self._world.hub.tell(order.event("progress", progress))

    def _proven(self, order: Order, snapshot: str) -> None:
        job, drive = order.job.name, order.drive.uuid
        write(self._historian, lambda history: history.proven(job, drive, snapshot))

    def _engine(self, order: Order, pid: int, ticks: int) -> None:
        if not order.dry_run:
            write(self._historian, lambda history: history.engine(order.run, pid, ticks))

    @property
    def _historian(self) -> Target:
        return self._world.registry.via(HISTORIAN)


def _not_begun(order: Order, error: UsbbackupError) -> Result:
    """The drive was not what it had been a moment ago."""
    if order.stop:
        return order.stop.result()
    return Result(Outcome.INTERRUPTED, error.message, error.hint)


class Run(Server):
    """Lives from the order to its recorded outcome."""

    def __init__(self, world: World, pools: Pools, order: Order) -> None:
        self._world, self._pools, self._order = world, pools, order

    async def init(self) -> Continue:
        """Take the name of this job on this drive; fails where it is taken."""
        order = self._order
        if (taken := self._world.registry.register(order.key, value=order)) is not None:
            raise UsbbackupError(f"job '{order.job.name}' is running on this drive already ({taken.pid})")
        order.stop.on_set(self._stop_waiting)
        return Continue()

    async def handle_continue(self, argument: object) -> None:
        """The whole run."""
        result = await self._pools.transaction(self._order.drive.uuid, self._work)
        if not isinstance(result, Result):
            result = Result(Outcome.INTERRUPTED, "the drive left before the run could begin")
        self._tell(result)
        self.stop()

    async def _work(self, worker: Pid) -> Result:
        order, world = self._order, self._world
        order.stop.off(self._stop_waiting)
        order.since = world.clock.now()
        with RunLog(world.paths.logs, order.run, world.clock, _fields(order)) as log:
            self._begin(log)
            working = asyncio.create_task(self._ask(worker, log))
            try:
                result = await asyncio.shield(working)
            except asyncio.CancelledError:
                order.stop.set(Outcome.INTERRUPTED, "the agent was stopped")
                result = await working
                self._end(result, log)
                raise
            self._end(result, log)
        return result

    async def _ask(self, worker: Pid, log: RunLog) -> Result:
        order = self._order
        before = await ask(self._historian, lambda history: Before.of(order, history), Before())
        try:
            result: Result = await call(worker, Perform(order, log, before), timeout=None)
        except ExitedError as died:
            result = _worker_died(order, died)
        return result

    def _begin(self, log: RunLog) -> None:
        order = self._order
        story.info("%s", _sentence(order, "begins"), extra=_fields(order, Message.RUN_BEGINS))
        log.line(_sentence(order, "begins"))
        if not order.dry_run:
            write(self._historian, self._begun(str(log.path)))

    def _begun(self, log: str) -> Callable[[History], None]:
        order = self._order
        return lambda history: history.begin_run(
            order.run, order.job.name, order.drive.uuid, order.attachment, order.since, log
        )

    def _end(self, result: Result, log: RunLog) -> None:
        order = self._order
        for note in result.notes:
            log.line(note)
        said = f"{result.outcome}: {result.message}" + (f" ({result.hint})" if result.hint else "")
        log.line(said)
        if isinstance(result, WaitingForSecret):
            write(self._historian, lambda history: history.drop_run(order.run))
        elif not order.dry_run:
            ended = self._world.clock.now()
            write(self._historian, lambda history: history.end_run(order.run, result, ended))
        if result.outcome.good and not order.dry_run:
            write(self._historian, lambda history: history.sources_seen(order.job.name, result.sources))
        level, kind = OF_OUTCOME[result.outcome]
        story.log(level, "%s", _sentence(order, said), extra=_fields(order, kind))

    def _tell(self, result: Result) -> None:
        order = self._order
        order.end(result, self._world.hub)
        cast(self._world.registry.via(DISPATCHER), RunEnded(order, result))

    def _stop_waiting(self) -> None:
        """Asked to stop while queued: nothing has begun; that the user did not want it is kept."""
        order, result = self._order, self._order.stop.result()
        if result.outcome is Outcome.CANCELLED and not order.dry_run:
            write(self._historian, self._begun(""))
            write(self._historian, lambda history: history.end_run(order.run, result))
        self._tell(result)
        exit(self.pid, "shutdown")

    @property
    def _historian(self) -> Target:
        return self._world.registry.via(HISTORIAN)


def _worker_died(order: Order, died: ExitedError) -> Result:
    """The pool was stopped because the drive left, or a bug of ours ended the worker."""
    if order.stop:
        return order.stop.result()
    return Result(
        Outcome.FAILED,
        f"the worker of this run ended unexpectedly: {safe(repr(died.reason))}",
        "this is a bug in usbbackup; earlier snapshots are untouched",
    )


def _sentence(order: Order, what: str) -> str:
    return f"job '{order.job.name}' on drive '{safe(order.drive.name)}': {what}"


def _fields(order: Order, kind: Message | None = None) -> dict[str, str]:
    about = {"job": order.job.name, "drive": order.drive.uuid, "run": order.run}
    return about | ({"kind": kind} if kind else {})
