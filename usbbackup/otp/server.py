"""A process from within: the callbacks of a `Server`, and the loop that runs them one at a time."""

import asyncio
import logging
from collections.abc import Hashable
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from usbbackup.otp.process import (
    _SELF,
    NOBODY,
    Exit,
    ExitedError,
    Pid,
    Reason,
    Target,
    exit,
    link,
    resolve,
    self_pid,
    send,
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


class Continue(NamedTuple):
    """Returned by `init`: `handle_continue(argument)` runs before any message; the starter does not wait."""

    argument: Any = None


class Sender(NamedTuple):
    """Who made a call, and where its answer goes."""

    pid: Pid
    future: asyncio.Future[Any]


class _Call(NamedTuple):
    request: Any
    sender: Sender


class _Cast(NamedTuple):
    message: Any


class _Stop(NamedTuple):
    reason: Reason


class Server:
    """One process: subclass it and write the callbacks that are needed.

    The constructor only stores arguments; what the process owns is made in `init`, so that the same object
    can be started again after it ended. An exception in a callback ends the process with it as the reason.
    """

    trap_exits: ClassVar[bool] = False
    """With True, exit signals other than `kill` come as Exit messages; one of the parent stops in order."""

    pid: Pid = NOBODY
    parent: Pid | None = None
    _wish: Reason | None = None

    async def init(self) -> Continue | None:
        """Be quick; raise to refuse the start."""
        return None

    async def handle_continue(self, argument: Any) -> None:
        """Do the slow part of starting."""

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

    async def live(self, started: asyncio.Future[bool]) -> Reason:
        """The life of the process, from `init` to `terminate`; returns why it ended."""
        _SELF.set(self.pid)
        more = await self.init()
        if self.parent is not None:
            link(self.parent)  # only now: an init that fails is told to the starter, not by a signal
        resolve(started, True)
        try:
            await self._serve(more)
        except Exception as error:
            log.exception("%s crashed", self.pid)
            self._wish = error
        try:
            await self.terminate(self._wish or "normal")
        except Exception as error:
            log.exception("%s crashed", self.pid)
            self._wish = error
        return self._wish or "normal"

    async def _serve(self, more: Continue | None) -> None:
        if more is not None:
            await asyncio.sleep(0)  # the starter runs first
            await self.handle_continue(more.argument)
        mailbox, turn = self.pid.mailbox, 0
        while self._wish is None and not self.pid.doomed:
            turn += 1
            if turn % 100 == 0:
                await asyncio.sleep(0)  # a process that always has mail lets others run too
            while not mailbox:
                await self.pid.mail()
            await self._handle(mailbox.popleft())
        if self.pid.doomed:  # a callback swallowed the cancellation
            raise asyncio.CancelledError

    async def _handle(self, message: Any) -> None:
        kind = type(message)
        if kind is _Call:
            value = await self.handle_call(message.request, message.sender)
            if value is not NO_REPLY:
                reply(message.sender, value)
        elif kind is _Cast:
            await self.handle_cast(message.message)
        elif kind is _Stop or (kind is Exit and message.pid is self.parent is not None):
            self.stop(message.reason)
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
    if pid is None or pid.server is None:
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
    """Have a process end after what lies in its mailbox, and do not wait for it."""
    send(target, _Stop(reason))


async def stop(target: Target, reason: Reason = "normal") -> None:
    """Have a process end after what lies in its mailbox, `terminate` included, and wait until it has."""
    pid = target.whereis()
    if pid is not None:
        ask_to_stop(pid, reason)
        await pid.join()


async def start(server: Server, name: Hashable = None, registry: "Registry | None" = None) -> Pid:
    """Start a process and wait until its `init` is done; with a registry, its name is registered there.

    Raises StartError; then, and also when the wait is cancelled, nothing of the process remains.
    """
    return await _start(server, _hatch(server, None, name, registry))


async def start_link(server: Server, name: Hashable = None, registry: "Registry | None" = None) -> Pid:
    """As `start`, with the calling process as parent, linked to the new one."""
    return await _start(server, _hatch(server, self_pid(), name, registry))


_numbers = count(1)


def _hatch(server: Server, parent: Pid | None, name: Hashable, registry: "Registry | None") -> Pid:
    if server.pid.alive:
        raise StartError(server.pid, "it runs already")
    pid = Pid(f"{type(server).__name__}.{next(_numbers)}" if name is None else name, server)
    if registry is not None and (taken := registry.register(pid.name, pid)) is not None:
        raise StartError(pid, taken)
    server.pid, server.parent, server._wish = pid, parent, None
    return pid


async def _start(server: Server, pid: Pid) -> Pid:
    started: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    pid.task = asyncio.create_task(server.live(started), name=str(pid))
    pid.task.add_done_callback(pid.ended)
    pid.task.add_done_callback(lambda _: resolve(started, False))
    try:
        if not await started:
            raise StartError(pid, pid.reason) from (pid.reason if isinstance(pid.reason, Exception) else None)
    except asyncio.CancelledError:
        exit(pid, "kill")
        await pid.join()
        raise
    return pid
