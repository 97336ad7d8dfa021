"""A process from within: the callbacks of a `Server`, and the loop that runs them one at a time."""

import asyncio
import logging
from collections.abc import Coroutine, Hashable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from usbbackup.otp.process import (
    _SELF,
    NOBODY,
    Exit,
    ExitedError,
    Pid,
    Reason,
    Target,
    exit,
    resolve,
    self_pid,
    send,
    tie,
    untie,
)

if TYPE_CHECKING:
    from usbbackup.otp.registry import Registry

log = logging.getLogger("usbbackup.otp")

NO_REPLY: Any = object()
"""Returned by `handle_call`: the answer comes later, by `reply(sender, value)`."""


class StartError(Exception):
    """A process could not be started: its `init` failed, it was killed in it, or its name is taken."""

    def __init__(self, what: object, reason: object) -> None:
        super().__init__(f"{what} did not start: {reason!r}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Continue:
    """Returned by `init`: `handle_continue(argument)` runs before any message; the starter does not wait."""

    argument: Any = None


class Sender:
    """Who made a call, and where its answer goes."""

    __slots__ = ("future", "pid")

    def __init__(self, pid: Pid, future: asyncio.Future[Any]) -> None:
        self.pid = pid
        self.future = future


class _Call:
    __slots__ = ("request", "sender")

    def __init__(self, request: Any, sender: Sender) -> None:
        self.request = request
        self.sender = sender


class _Cast:
    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message


class _Stop:
    __slots__ = ("reason",)

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


class Server:
    """One process: subclass it and write the callbacks that are needed.

    The constructor only stores arguments; what the process owns is made in `init`, so that the same object
    can be started again after it ended. An exception in a callback ends the process with it as the reason.
    """

    trap_exits: ClassVar[bool] = False
    """With True, exit signals other than `kill` come as `Exit` messages, and `terminate` runs at shutdown."""

    pid: Pid = NOBODY
    parent: Pid | None = None
    _wish: Reason | None = None

    async def init(self) -> Continue | None:
        """Be quick; raise to refuse the start."""
        return None

    async def handle_continue(self, argument: Any) -> None:
        """Do the slow part of starting, before any message is handled."""

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        """Return the answer, or NO_REPLY and `reply` later."""
        raise TypeError(f"{self.pid} does not understand the call {request!r}")

    async def handle_cast(self, message: Any) -> None:
        """Handle a request that has no answer."""
        raise TypeError(f"{self.pid} does not understand the cast {message!r}")

    async def handle_info(self, message: Any) -> None:
        """Handle a plain message, a Down or an Exit; unknown ones are normal and harmless."""

    async def terminate(self, reason: Reason) -> None:
        """Clear up. Not run when the process is killed, nor at an exit signal that it does not trap."""

    def stop(self, reason: Reason = "normal") -> None:
        """End this process after the present callback."""
        self._wish = reason

    async def run(self, started: asyncio.Future[bool]) -> Reason:
        """Live from `init` to `terminate`; returns why it ended."""
        _SELF.set(self.pid)
        more = await self.init()
        resolve(started, True)
        reason = await self._guard(self._serve(more))
        return await self._guard(self._close(reason))

    async def _guard(self, part: Coroutine[Any, Any, Reason]) -> Reason:
        try:
            return await part
        except Exception as error:
            log.exception("%s crashed", self.pid)
            return error

    async def _serve(self, more: Continue | None) -> Reason:
        if more is not None:
            await asyncio.sleep(0)  # the starter runs first
            await self.handle_continue(more.argument)
        mailbox, turn = self.pid.mailbox, 0
        while self._wish is None and not self.pid.doomed():
            if not turn or not mailbox:
                await self.pid.wake()
                turn = len(mailbox)
            turn -= 1
            await self._handle(mailbox.popleft())
        if self.pid.doomed():  # a callback swallowed the cancellation
            raise asyncio.CancelledError
        return self._wish or "normal"

    async def _close(self, reason: Reason) -> Reason:
        await self.terminate(reason)
        return reason

    async def _handle(self, message: Any) -> None:
        kind = type(message)
        if kind is _Call:
            value = await self.handle_call(message.request, message.sender)
            if value is not NO_REPLY:
                reply(message.sender, value)
        elif kind is _Cast:
            await self.handle_cast(message.message)
        elif kind is _Stop or (kind is Exit and message.pid is self.parent is not None):
            self._wish = message.reason
        else:
            await self.handle_info(message)


def reply(sender: Sender, value: Any) -> None:
    """Answer a call; nothing happens where the caller does not wait any more."""
    resolve(sender.future, value)


async def call(target: Target, request: Any, timeout: float | None = 5.0) -> Any:
    """Ask a process and wait for its answer, `timeout` seconds at most (None: as long as it lives).

    Raises CallTimeoutError, or ExitedError where it is dead or dies before it answers.
    """
    pid = target.whereis()
    if pid is None:
        raise ExitedError(target, "noproc")
    if pid is _SELF.get(None):
        raise RuntimeError(f"{pid} called itself, and would wait for ever")
    future = asyncio.get_running_loop().create_future()
    pid.deliver(_Call(request, Sender(self_pid(), future)))
    return await pid.answer(future, timeout)


def cast(target: Target, message: Any) -> None:
    """Tell a process something, without an answer; dropped where it is dead."""
    send(target, _Cast(message))


def ask_to_stop(target: Target, reason: Reason = "normal") -> None:
    """Have a process end after what lies in its mailbox; do not wait for it."""
    send(target, _Stop(reason))


async def stop(target: Target, reason: Reason = "normal") -> None:
    """Have a process end after what lies in its mailbox, `terminate` included, and wait until it has."""
    pid = target.whereis()
    if pid is not None:
        ask_to_stop(pid, reason)
        await pid.join()


async def start(server: Server, name: Hashable = None, registry: "Registry | None" = None) -> Pid:
    """Start a process and wait until its `init` is done.

    Raises StartError; then, and also when the wait is cancelled, nothing of the process remains.
    """
    return await _start(server, None, name, registry)


async def start_link(server: Server, name: Hashable = None, registry: "Registry | None" = None) -> Pid:
    """As `start`, with the calling process as parent, linked to the new one."""
    return await _start(server, self_pid(), name, registry)


async def _start(server: Server, parent: Pid | None, name: Hashable, registry: "Registry | None") -> Pid:
    pid = _hatch(server, parent, name, registry)
    started: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def over(task: asyncio.Task[Reason]) -> None:
        if parent is not None and not started.done():
            untie(pid, parent)  # an init that fails is told to the starter, not by a signal
        pid.ended(task)
        resolve(started, False)

    pid.task = asyncio.create_task(server.run(started), name=str(pid))
    pid.task.add_done_callback(over)
    try:
        if not await started:
            raise StartError(pid, pid.reason)
    except asyncio.CancelledError:
        exit(pid, "kill")
        await pid.join()
        raise
    return pid


_numbers = count(1)


def _hatch(server: Server, parent: Pid | None, name: Hashable, registry: "Registry | None") -> Pid:
    if server.pid.alive:
        raise StartError(server.pid, "it runs already")
    pid = Pid(name or f"{type(server).__name__}.{next(_numbers)}", server)
    if registry is not None and (taken := registry.register(name, pid)) is not None:
        raise StartError(pid, taken)
    server.pid, server.parent, server._wish = pid, parent, None
    if parent is not None:
        tie(pid, parent)
    return pid
