"""Supervisors: processes that only start others, restart those that die, and stop them in order."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from usbbackup.otp.clock import Clock, LoopClock
from usbbackup.otp.process import Exit, Pid, Reason, Target, exit, send
from usbbackup.otp.registry import AlreadyRegistered, Registry
from usbbackup.otp.server import Sender, Server, StartError, call, start_link

log = logging.getLogger("usbbackup.otp")

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Shutdown = float | Literal["infinity", "brutal_kill"]
Kind = Literal["worker", "supervisor"]

LAST_GRACE = 5.0
"""Seconds that a killed child has to clear up; then it is left to itself: asyncio cannot end a coroutine."""


class BadArgumentError(ValueError):
    """An argument that cannot be used; told before anything is started."""

    def __init__(self, argument: str, wanted: str, given: object) -> None:
        super().__init__(f"{argument} must be {wanted}, not {given!r}")
        self.argument = argument


def one_of(argument: str, given: object, choices: Any) -> None:
    """Refuse what is not one of the words of a Literal."""
    if given not in get_args(choices):
        raise BadArgumentError(argument, "one of " + ", ".join(get_args(choices)), given)


def number(argument: str, given: object, least: float, *, whole: bool = False) -> None:
    """Refuse what is not a number from `least` on."""
    kinds = (int,) if whole else (int, float)
    if type(given) not in kinds or not given >= least:  # type: ignore[operator] # it is a number by then
        raise BadArgumentError(argument, f"a {'whole ' * whole}number from {least} on", given)


@dataclass(frozen=True)
class ChildSpec:
    """How one child is started, restarted and stopped.

    `shutdown`: seconds from the exit signal `shutdown` to `kill`; `infinity` waits, `brutal_kill` kills at
    once; left out, it is 5, and `infinity` for supervisors. `name`: to register in the supervisor's registry.
    """

    id: Hashable
    start: Callable[[], Server]
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    type: Kind = "worker"
    name: Hashable = None

    def __post_init__(self) -> None:
        if not callable(self.start):
            raise BadArgumentError("start", "a function that makes a Server", self.start)
        one_of("restart", self.restart, Restart)
        one_of("type", self.type, Kind)
        if self.shutdown not in (None, "infinity", "brutal_kill"):
            number("shutdown", self.shutdown, 0)

    @property
    def patience(self) -> Shutdown:
        """The shutdown in force."""
        if self.shutdown is not None:
            return self.shutdown
        return "infinity" if self.type == "supervisor" else 5.0


@dataclass(frozen=True)
class AlreadyStarted:
    """The child, or its name, is there already."""

    pid: Pid | None


@dataclass(frozen=True)
class NotFound:
    """There is nothing of that name."""

    name: Hashable


class ChildInfo(NamedTuple):
    """One child as `which_children` tells it."""

    id: Hashable
    pid: Pid | None  # None: not running
    type: Kind
    restart: Restart
    restarts: int  # how often it was restarted, by its own fault or not
    since: float  # the clock's time of its latest start


class Count(NamedTuple):
    """How many children there are."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(eq=False)
class Child:
    """The supervisor's own record of a child."""

    key: Hashable
    spec: ChildSpec
    pid: Pid | None = None
    restarts: int = 0
    since: float = 0.0


class _Again(NamedTuple):
    """What a supervisor tells itself when a restart failed."""

    child: Child
    reason: Reason


def abnormal(reason: Reason) -> bool:
    """Did it end otherwise than it was meant to?"""
    return reason not in ("normal", "shutdown")


def is_restarted(restart: Restart, reason: Reason) -> bool:
    """The decision table of the three restart kinds."""
    match restart:
        case "permanent":
            return True
        case "transient":
            return abnormal(reason)
        case "temporary":
            return False


class Intensity:
    """At most so many events in so many seconds."""

    def __init__(self, most: int, seconds: float, clock: Clock) -> None:
        self.most, self.seconds, self.clock = most, seconds, clock
        self.times: deque[float] = deque()

    def exceeded(self) -> bool:
        """Count one more event; was it one too many?"""
        now = self.clock.monotonic()
        self.times.append(now)
        while self.times[0] < now - self.seconds:
            self.times.popleft()
        return len(self.times) > self.most


class Supervisor(Server):
    """Starts its children in order, restarts them by strategy, stops them in reverse.

    More than `max_restarts` in `max_seconds`: it stops its children and itself with reason `shutdown`, and
    its own supervisor decides. `registry` is where children with a `name` are registered.
    """

    trap_exits = True

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        *,
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        one_of("strategy", strategy, Strategy)
        number("max_restarts", max_restarts, 0, whole=True)
        number("max_seconds", max_seconds, 0)
        self.specs = tuple(children)
        self.strategy = strategy
        self.max_restarts, self.max_seconds = max_restarts, max_seconds
        self.clock = clock or LoopClock()
        self.registry = registry
        ids = [spec.id for spec in self.specs]
        if len(set(ids)) < len(ids):
            raise BadArgumentError("children", "specs with different ids", ids)

    async def init(self) -> None:
        """Start the children in order; the first that fails makes all of it fail."""
        for spec in self.specs:
            await self._start(self._add(spec))

    async def run(self, started: asyncio.Future[bool]) -> Reason:
        """As any Server, but never gone before its children are, whatever it ended of."""
        self.children: dict[Hashable, Child] = {}
        self.running: dict[Pid, Child] = {}
        self.intensity = Intensity(self.max_restarts, self.max_seconds, self.clock)
        self.stopping = False
        try:
            return await super().run(started)
        finally:
            self.stopping = True
            await self._stop_all()

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        """Answer the functions below."""
        match request:
            case ("start_child", ChildSpec() as spec):
                return await self._start_child(spec)
            case ("terminate_child", key):
                return await self._terminate_child(key)
            case "which_children":
                return self.which_children()
            case _:
                return await super().handle_call(request, sender)

    async def handle_info(self, message: Any) -> None:
        """Restart what ended; an exit of anything but a present child is stale, and ignored."""
        match message:
            case Exit(Pid() as pid, reason) if pid in self.running:
                await self._ended(self.running.pop(pid), reason)
            case _Again(child, reason) if self.children.get(child.key) is child and child.pid is None:
                await self._restart(child, reason)

    def which_children(self) -> list[ChildInfo]:
        """The children, in order of start."""
        return [
            ChildInfo(c.spec.id, c.pid, c.spec.type, c.spec.restart, c.restarts, c.since)
            for c in self.children.values()
        ]

    def _key(self, spec: ChildSpec) -> Hashable:
        return spec.id

    def _add(self, spec: ChildSpec) -> Child:
        key = self._key(spec)
        child = self.children[key] = Child(key, spec)
        return child

    def _drop(self, child: Child) -> None:
        del self.children[child.key]

    async def _start(self, child: Child) -> Pid:
        spec = child.spec
        registry = self.registry if spec.name is not None else None
        try:
            server = spec.start()
        except Exception as error:
            raise StartError(spec.id, error) from error
        child.pid = await start_link(server, spec.name if registry else spec.id, registry)
        child.since = self.clock.monotonic()
        self.running[child.pid] = child
        return child.pid

    async def _start_child(self, spec: ChildSpec) -> Pid | AlreadyStarted | StartError:
        if (present := self.children.get(self._key(spec))) is not None:
            return AlreadyStarted(present.pid)
        child = self._add(spec)
        try:
            return await self._start(child)
        except StartError as error:
            self._drop(child)
            return AlreadyStarted(error.reason.pid) if isinstance(error.reason, AlreadyRegistered) else error

    async def _terminate_child(self, key: Any) -> NotFound | None:
        child = self.children.get(key)
        if child is None:
            return NotFound(key)
        self._drop(child)
        await self._stop(child)
        return None

    async def _ended(self, child: Child, reason: Reason) -> None:
        child.pid = None
        if is_restarted(child.spec.restart, reason):
            await self._restart(child, reason)
        elif child.spec.restart == "temporary":
            self._drop(child)

    async def _restart(self, child: Child, reason: Reason) -> None:
        if self.intensity.exceeded():
            log.error("%s gives up: %s ended (%r), after %s", self.pid, child.spec.id, reason, self._limit())
            return self.stop("shutdown")
        nth = len(self.intensity.times)
        log.warning(
            "%s restarts %s, which ended (%r): %d of %s", self.pid, child.spec.id, reason, nth, self._limit()
        )
        group = self._group(child)
        for other in reversed(group):
            await self._stop(other)
        for other in group:
            if other.spec.restart == "temporary":
                self._drop(other)
            elif not await self._start_again(other):
                break
        return None

    def _limit(self) -> str:
        return f"{self.max_restarts} restarts in {self.max_seconds:g} s"

    async def _start_again(self, child: Child) -> bool:
        child.restarts += 1
        try:
            await self._start(child)
        except StartError as error:
            send(self.pid, _Again(child, error))
            return False
        return True

    def _group(self, child: Child) -> list[Child]:
        family = list(self.children.values())
        match self.strategy:
            case "one_for_one":
                return [child]
            case "one_for_all":
                return family
            case "rest_for_one":
                return family[family.index(child) :]

    async def _stop_all(self) -> None:
        for child in reversed(list(self.children.values())):
            await self._stop(child)

    async def _stop(self, child: Child) -> None:
        pid, child.pid = child.pid, None
        if pid is None:
            return
        self.running.pop(pid, None)
        match child.spec.patience:
            case "infinity":
                exit(pid, "shutdown")
                await pid.join()
            case "brutal_kill":
                await self._kill(pid)
            case seconds:
                exit(pid, "shutdown")
                if not await self._gone(pid, seconds):
                    await self._kill(pid)

    async def _kill(self, pid: Pid) -> None:
        exit(pid, "kill")
        if not await self._gone(pid, LAST_GRACE):
            log.error("%s does not end though it was killed, and is left to itself", pid)
            pid.bury("killed")

    async def _gone(self, pid: Pid, seconds: float) -> bool:
        late = asyncio.get_running_loop().create_future()
        timer = self.clock.later(seconds, lambda: None if late.done() else late.set_result(None))
        try:
            await asyncio.wait((pid.task, late), return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var] # it has a task
        finally:
            timer.cancel()
        return not pid.alive


class DynamicSupervisor(Supervisor):
    """A supervisor whose children come and go, any number of any spec; `terminate_child` takes their Pid.

    At its end all children are told at once, then waited for.
    """

    def __init__(
        self,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        *,
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        super().__init__((), "one_for_one", max_restarts, max_seconds, clock=clock, registry=registry)

    def _key(self, spec: ChildSpec) -> Hashable:
        return object()

    async def _terminate_child(self, key: Any) -> NotFound | None:
        child = self.running.get(key)
        if child is None:
            return NotFound(key)
        self._drop(child)
        await self._stop(child)
        return None

    async def _stop_all(self) -> None:
        for pid, child in self.running.items():
            exit(pid, "kill" if child.spec.shutdown == "brutal_kill" else "shutdown")
        await super()._stop_all()


async def start_child(supervisor: Target, spec: ChildSpec) -> Pid | AlreadyStarted:
    """Add a child and start it; or say that its id or name is taken. Raises StartError if init fails."""
    answer: Pid | AlreadyStarted | StartError = await call(supervisor, ("start_child", spec), None)
    if isinstance(answer, StartError):
        raise answer
    return answer


async def terminate_child(supervisor: Target, key: Hashable) -> NotFound | None:
    """Stop a child in its shutdown time and forget its spec; `key` is its id, in a dynamic one its Pid."""
    answer: NotFound | None = await call(supervisor, ("terminate_child", key), None)
    return answer


async def which_children(supervisor: Target) -> list[ChildInfo]:
    """The children, in order of start."""
    answer: list[ChildInfo] = await call(supervisor, "which_children", None)
    return answer


async def count_children(supervisor: Target) -> Count:
    """How many children there are."""
    children = await which_children(supervisor)
    supervisors = sum(child.type == "supervisor" for child in children)
    active = sum(child.pid is not None for child in children)
    return Count(len(children), active, supervisors, len(children) - supervisors)
