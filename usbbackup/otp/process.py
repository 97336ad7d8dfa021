"""A process as others see it: an identity with a mailbox, whose death is told to all who are tied to it."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from usbbackup.otp.clock import Later

if TYPE_CHECKING:
    from usbbackup.otp.server import Server

Reason = str | BaseException
"""Why a process ended: `normal`, `shutdown`, `killed`, any other word, or the exception that it died of."""


class ExitedError(Exception):
    """The process that was called is dead, or died before it answered."""

    def __init__(self, target: object, reason: Reason) -> None:
        super().__init__(f"{target} exited: {reason!r}")
        self.reason = reason


class CallTimeoutError(TimeoutError):
    """The process did not answer in time; should it still do so, the answer is dropped."""


class Ref:
    """One watch over a process; equal only to itself."""

    __slots__ = ("pid",)

    def __init__(self, pid: "Pid") -> None:
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Exit:
    """An exit signal as a message, to a process that traps exits; `pid` is None where no process sent it."""

    pid: "Pid | None"
    reason: Reason


@dataclass(frozen=True, slots=True)
class Down:
    """A monitored process is dead; told exactly once."""

    ref: Ref
    pid: "Pid"
    reason: Reason


class Target(Protocol):
    """What can be called: a Pid, or a name that leads to one."""

    def whereis(self) -> "Pid | None":
        """The process meant, or None where there is none now."""
        ...


_DEAD, _LATE = object(), object()


class Pid:
    """The identity of one process, from its start for ever; it is never given to another."""

    def __init__(self, name: Hashable, server: "Server | None" = None) -> None:
        self.name = name
        self.server = server  # None: an ordinary task, without a mailbox
        self.task: asyncio.Task[Any] | None = None
        self.reason: Reason | None = None  # None: it lives
        self.mailbox: deque[object] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._doom: Reason | None = None
        self._links: dict[Pid, None] = {}
        self._watches: dict[Ref, Callable[[Ref, Reason], None]] = {}
        self._watching: dict[Ref, None] = {}
        self._awaited: dict[asyncio.Future[Any], None] = {}

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def alive(self) -> bool:
        """Has it not ended yet?"""
        return self.reason is None

    @property
    def doomed(self) -> bool:
        """Was it told to die, whether its code has noticed or not?"""
        return self._doom is not None

    def whereis(self) -> "Pid | None":
        """Itself while it lives."""
        return self if self.reason is None else None

    def deliver(self, message: object) -> None:
        """Put a message into the mailbox; nothing happens where the process is dead."""
        if self.reason is None and self.server is not None:
            self.mailbox.append(message)
            if self._wake is not None:
                resolve(self._wake, None)

    def mail(self) -> "asyncio.Future[None]":
        """What to wait for when the mailbox is empty."""
        self._wake = asyncio.get_running_loop().create_future()
        return self._wake

    async def answer(
        self, future: "asyncio.Future[Any]", timeout: float | None, later: Later | None = None
    ) -> Any:
        """Wait for a future that this process is to resolve, while it lives and `timeout` seconds at most."""
        if self.reason is not None:
            raise ExitedError(self, self.reason)
        later = later or asyncio.get_running_loop().call_later
        timer = None if timeout is None else later(timeout, lambda: resolve(future, _LATE))
        self._awaited[future] = None
        try:
            value = await future
        finally:
            self._awaited.pop(future, None)
            if timer is not None:
                timer.cancel()
        if value is _DEAD:
            raise ExitedError(self, self.reason or "killed")
        if value is _LATE:
            raise CallTimeoutError(f"{self} did not answer within {timeout} s")
        return value

    async def join(self, timeout: float | None = None, later: Later | None = None) -> Reason | None:
        """Wait until it has ended, and return why; None where `timeout` seconds were over before."""
        with suppress(ExitedError, CallTimeoutError):
            await self.answer(asyncio.get_running_loop().create_future(), timeout, later)
        return self.reason

    def doom(self, reason: Reason) -> None:
        """End it where it stands: its code sees a cancellation."""
        self._doom = reason
        if self.task is not None:
            self.task.cancel()

    def ended(self, task: "asyncio.Task[Any]") -> None:
        """Its task is over: say why."""
        self.bury((self._doom or "killed") if task.cancelled() else task.exception() or task.result())

    def bury(self, reason: Reason) -> None:
        """Die, in one step: from here on no name, link, watch or caller holds on to it."""
        if self.reason is not None:
            return
        self.reason = reason
        self.mailbox.clear()
        for future in self._awaited:
            resolve(future, _DEAD)
        for ref in self._watching:
            ref.pid._watches.pop(ref, None)
        for other in list(self._links):
            unlink(self, other)
            _signal(other, reason, self)
        watches, self._watches = self._watches, {}
        for ref, told in watches.items():
            told(ref, reason)


def resolve(future: "asyncio.Future[Any]", value: object) -> None:
    """Give a future its value, unless it has one or nobody waits for it any more."""
    if not future.done():
        future.set_result(value)


NOBODY = Pid("nobody")
NOBODY.reason = "noproc"

_SELF: ContextVar[Pid] = ContextVar("usbbackup.otp.self")
_TASKS: dict["asyncio.Task[Any]", Pid] = {}


def self_pid() -> Pid:
    """The process that runs this code; tasks that a process made speak for it.

    A task outside any process has a Pid too: it can be monitored, but gets no messages.
    """
    pid = _SELF.get(None)
    if pid is not None:
        return pid
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("this code runs outside of any process and any task")
    return _TASKS.get(task) or _outside(task)


def _outside(task: "asyncio.Task[Any]") -> Pid:
    pid = _TASKS[task] = Pid(task.get_name())
    pid.task = task
    task.add_done_callback(lambda _: _TASKS.pop(task).bury("killed" if task.cancelled() else "normal"))
    return pid


def send(target: Target, message: object) -> None:
    """Put a message into a mailbox; one to a dead process or an unused name is dropped."""
    pid = target.whereis()
    if pid is not None:
        pid.deliver(message)


def exit(pid: Pid, reason: Reason) -> None:
    """Send an exit signal: `kill` ends any process, `normal` none, others one that does not trap exits."""
    _signal(pid, reason, _SELF.get(None))


def _signal(pid: Pid, reason: Reason, by: Pid | None) -> None:
    traps = pid.server is not None and pid.server.trap_exits
    match reason:
        case "kill":
            pid.doom("killed")
        case _ if traps:
            pid.deliver(Exit(by, reason))
        case "normal":
            pass
        case _ if not pid.doomed:  # a second cancellation would disturb its clearing up
            pid.doom(reason)


def link(pid: Pid, other: Pid | None = None) -> None:
    """Tie two processes (one of them: this): one that dies, but not of `normal`, takes the other along."""
    other = other or self_pid()
    if pid.alive:
        pid._links[other] = other._links[pid] = None
    else:
        _signal(other, "noproc", pid)


def unlink(pid: Pid, other: Pid | None = None) -> None:
    """Untie two processes."""
    other = other or self_pid()
    pid._links.pop(other, None)
    other._links.pop(pid, None)


def watch(pid: Pid, told: Callable[[Ref, Reason], None]) -> Ref:
    """Call back in the very step in which a process dies, at once if it is dead; for tables of processes."""
    ref = Ref(pid)
    if pid.alive:
        pid._watches[ref] = told
    else:
        told(ref, "noproc")
    return ref


def unwatch(ref: Ref) -> None:
    """Take a `watch` back."""
    ref.pid._watches.pop(ref, None)


def monitor(pid: Pid) -> Ref:
    """Ask for one Down when a process dies; at once, with the reason `noproc`, if it is dead."""
    me = self_pid()

    def down(ref: Ref, reason: Reason) -> None:
        me._watching.pop(ref, None)
        me.deliver(Down(ref, pid, reason))

    ref = watch(pid, down)
    if pid.alive:
        me._watching[ref] = None
    return ref


def demonitor(ref: Ref) -> None:
    """Take a `monitor` back, and its Down, should that lie in the mailbox already."""
    me = self_pid()
    me._watching.pop(ref, None)
    unwatch(ref)
    for message in [m for m in me.mailbox if isinstance(m, Down) and m.ref is ref]:
        me.mailbox.remove(message)
