"""Supervisors: processes that only start others, restart those that die, and stop them in order."""

import asyncio
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from usbbackup.otp.clock import Clock, LoopClock
from usbbackup.otp.process import Exit, Pid, Reason, Target, exit, send
from usbbackup.otp.registry import AlreadyRegistered, Registry
from usbbackup.otp.server import Sender, Server, StartError, call, log, start_link
from usbbackup.otp.spec import (
    BadArgumentError,
    ChildSpec,
    Intensity,
    Kind,
    Strategy,
    check_seconds,
    check_whole,
    check_word,
    is_restarted,
)

LAST_GRACE = 5.0
"""Seconds that a killed child has to clear up; then it is left to itself: asyncio cannot end a coroutine."""


@dataclass(frozen=True)
class AlreadyStarted:
    """The child, or its name, is there already."""

    pid: Pid | None


@dataclass(frozen=True)
class NotFound:
    """There is nothing of that name."""

    name: Hashable


class Node(NamedTuple):
    """One process in a tree, as an observer sees it."""

    id: Hashable
    pid: Pid | None  # None: not running
    type: Kind
    restarts: int  # how often it was restarted, also because of others
    mailbox: int  # messages that wait to be handled
    since: float | None  # the supervisor's clock at its latest start
    children: "tuple[Node, ...]"


@dataclass(eq=False)
class Child:
    """The supervisor's own record of a child."""

    key: Hashable
    spec: ChildSpec
    pid: Pid | None = None
    restarts: int = 0
    since: float = 0.0


class Count(NamedTuple):
    """How many children a supervisor has."""

    specs: int
    active: int
    supervisors: int
    workers: int


class _Again(NamedTuple):
    """What a supervisor tells itself when a restart failed."""

    child: Child
    reason: Reason


class Supervisor(Server):
    """Starts its children in order, restarts them by strategy, stops them in reverse.

    More than `max_restarts` in `max_seconds`: it stops its children and itself with the reason `shutdown`,
    and its own supervisor decides. `registry` is where children with a `name` are registered.
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
        check_word("strategy", strategy, Strategy)
        check_whole("max_restarts", max_restarts, 0)
        check_seconds("max_seconds", max_seconds)
        self.specs = tuple(children)
        if len({spec.id for spec in self.specs}) < len(self.specs):
            raise BadArgumentError("children", "specs with different ids", [spec.id for spec in self.specs])
        self.strategy = strategy
        self.max_restarts, self.max_seconds = max_restarts, max_seconds
        self.clock, self.registry = clock or LoopClock(), registry
        self.children: dict[Hashable, Child] = {}
        self.stopping = False

    async def live(self, started: asyncio.Future[bool]) -> Reason:
        """As any Server; but it is never gone before its children are, whatever it ends of."""
        self.children, self.running, self.stopping = {}, dict[Pid, Child](), False
        self.intensity = Intensity(self.max_restarts, self.max_seconds, self.clock)
        self.since = self.clock.monotonic()
        try:
            return await super().live(started)
        finally:
            self.stopping = True
            await self._stop_all()

    async def init(self) -> None:
        """Start the children in order; the first that fails makes all of it fail."""
        for spec in self.specs:
            await self._start(self._add(spec))

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        """Answer the functions at the end of this module."""
        match request:
            case "which_children":
                return _below(self)
            case ("start_child", ChildSpec() as spec):
                return await self._start_child(spec)
            case ("terminate_child", key):
                return await self._terminate_child(key)
            case _:
                return await super().handle_call(request, sender)

    async def handle_info(self, message: Any) -> None:
        """Restart what ended; the exit of anything but a present child is stale, and ignored."""
        match message:
            case Exit(Pid() as pid, reason) if pid in self.running:
                await self._ended(self.running.pop(pid), reason)
            case _Again(child, reason) if self.children.get(child.key) is child and child.pid is None:
                await self._restart(child, reason)

    def _key(self, spec: ChildSpec) -> Hashable:
        return spec.id

    def _find(self, key: Any) -> Child | None:
        return self.children.get(key)

    def _add(self, spec: ChildSpec) -> Child:
        key = self._key(spec)
        child = self.children[key] = Child(key, spec)
        return child

    async def _start_child(self, spec: ChildSpec) -> Pid | AlreadyStarted | StartError:
        if (present := self.children.get(self._key(spec))) is not None:
            return AlreadyStarted(present.pid)
        child = self._add(spec)
        try:
            return await self._start(child)
        except StartError as error:
            del self.children[child.key]
            return AlreadyStarted(error.reason.pid) if isinstance(error.reason, AlreadyRegistered) else error

    async def _terminate_child(self, key: Any) -> NotFound | None:
        child = self._find(key)
        if child is None:
            return NotFound(key)
        del self.children[child.key]
        await self._stop(child)
        return None

    async def _ended(self, child: Child, reason: Reason) -> None:
        child.pid = None
        if is_restarted(child.spec.restart, reason):
            await self._restart(child, reason)
        elif child.spec.restart == "temporary":
            del self.children[child.key]

    async def _restart(self, child: Child, reason: Reason) -> None:
        limit = f"{self.max_restarts} restarts in {self.max_seconds:g} s"
        if self.intensity.exceeded():
            log.error("%s gives up: %s ended (%r) after %s", self.pid, child.spec.id, reason, limit)
            return self.stop("shutdown")
        nth = len(self.intensity.times)
        log.warning("%s restarts %s, which ended (%r): %d of %s", self.pid, child.spec.id, reason, nth, limit)
        group = self._group(child)
        for other in reversed(group):
            await self._stop(other)
        for other in group:
            if not await self._start_again(other):
                break
        return None

    def _group(self, child: Child) -> list[Child]:
        family = list(self.children.values())
        match self.strategy:
            case "one_for_one":
                return [child]
            case "one_for_all":
                return family
            case "rest_for_one":
                return family[family.index(child) :]

    async def _start_again(self, child: Child) -> bool:
        if child.spec.restart == "temporary":
            del self.children[child.key]
            return True
        child.restarts += 1
        try:
            await self._start(child)
        except StartError as error:
            send(self.pid, _Again(child, error))
            return False
        return True

    async def _start(self, child: Child) -> Pid:
        spec = child.spec
        try:
            server = spec.start()
        except Exception as error:
            raise StartError(spec.id, error) from error
        named = spec.name is not None and self.registry is not None
        child.pid = await start_link(
            server, spec.name if named else spec.id, self.registry if named else None
        )
        child.since = self.clock.monotonic()
        self.running[child.pid] = child
        return child.pid

    async def _stop_all(self) -> None:
        for child in reversed(self.children.values()):
            await self._stop(child)

    async def _stop(self, child: Child) -> None:
        pid, child.pid = child.pid, None
        if pid is None:
            return
        self.running.pop(pid, None)
        match child.spec.patience:
            case "brutal_kill":
                await self._kill(pid)
            case "infinity":
                exit(pid, "shutdown")
                await pid.join()
            case seconds:
                exit(pid, "shutdown")
                if await pid.join(seconds, self.clock.later) is None:
                    await self._kill(pid)

    async def _kill(self, pid: Pid) -> None:
        exit(pid, "kill")
        if await pid.join(LAST_GRACE, self.clock.later) is None:
            log.error("%s does not end though it was killed, and is left to itself", pid)
            pid.bury("killed")


class DynamicSupervisor(Supervisor):
    """A supervisor whose children come and go, any number of any spec; they are told apart by their Pid.

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

    def _find(self, key: Any) -> Child | None:
        return self.running.get(key)

    async def _stop_all(self) -> None:
        for pid, child in self.running.items():
            exit(pid, "kill" if child.spec.shutdown == "brutal_kill" else "shutdown")
        await super()._stop_all()


async def start_child(supervisor: Target, spec: ChildSpec) -> Pid | AlreadyStarted:
    """Add a child and start it, or say that its id or name is taken. Raises StartError if its init fails."""
    answer: Pid | AlreadyStarted | StartError = await call(supervisor, ("start_child", spec), None)
    if isinstance(answer, StartError):
        raise answer
    return answer


async def terminate_child(supervisor: Target, key: Hashable) -> NotFound | None:
    """Stop a child in its shutdown time and forget its spec; `key` is its id, in a dynamic one its Pid."""
    answer: NotFound | None = await call(supervisor, ("terminate_child", key), None)
    return answer


async def which_children(supervisor: Target) -> tuple[Node, ...]:
    """The children, in order of start."""
    answer: tuple[Node, ...] = await call(supervisor, "which_children", None)
    return answer


async def count_children(supervisor: Target) -> Count:
    """How many children there are."""
    children = await which_children(supervisor)
    active = sum(child.pid is not None for child in children)
    supervisors = sum(child.type == "supervisor" for child in children)
    return Count(len(children), active, supervisors, len(children) - supervisors)


def tree(root: Target) -> Node | None:
    """A process and all that lives below it, seen without asking any of them; None if it does not run."""
    pid = root.whereis()
    if pid is None:
        return None
    if isinstance(server := pid.server, Supervisor):
        return Node(pid.name, pid, "supervisor", 0, len(pid.mailbox), server.since, _below(server))
    return Node(pid.name, pid, "worker", 0, len(pid.mailbox), None, ())


def _below(server: Server | None) -> tuple[Node, ...]:
    return tuple(_node(child) for child in server.children.values()) if isinstance(server, Supervisor) else ()


def _node(child: Child) -> Node:
    pid, spec = child.pid and child.pid.whereis(), child.spec
    mailbox, below = (len(pid.mailbox), _below(pid.server)) if pid is not None else (0, ())
    return Node(spec.id, pid, spec.type, child.restarts, mailbox, child.since, below)
