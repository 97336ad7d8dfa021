"""A Varlink service on a Unix socket, for one user only: checks who calls and what, hands it on, and answers.

A caller that says nothing costs no task, and makes room for others; one that says nonsense is hung up on.
"""

import asyncio
import logging
import os
import socket
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from usbbackup import __version__, varlink_idl
from usbbackup.agent import unix_socket
from usbbackup.errors import Exit, NotNowError, UsbbackupError
from usbbackup.varlink import (
    LIMIT,
    SERVICE,
    BadMessageError,
    Message,
    Request,
    VarlinkError,
    decode,
    encode,
    request,
)

Answers = Awaitable[Message] | AsyncIterator[Message]
Handler = Callable[[Message], Answers]

CALLERS = 256  # at the same time
HELD = 8 * LIMIT  # bytes, of all callers, that cannot be answered yet
BACKLOG = 256
_ECHO = 200  # characters of what a caller sent that are sent back

log = logging.getLogger("usbbackup.control")


class VarlinkServer:
    """Serves one interface; `methods` maps the name of each method to what answers it.

    A coroutine function answers once. An async generator answers each time it yields, to callers that ask
    for `more`; it is closed when the caller hangs up. What they raise becomes an error of the interface.
    """

    def __init__(
        self, path: Path, description: str, methods: Mapping[str, Handler], uid: int | None = None
    ) -> None:
        self.interface = varlink_idl.parse(description)
        self.methods = methods
        self.uid = os.getuid() if uid is None else uid
        self.callers: OrderedDict[_Caller, None] = OrderedDict()  # who was served last comes last
        self.working: set[asyncio.Task[None]] = set()  # also for callers that have left
        self._path = path
        self._server: asyncio.Server | None = None
        self._listening: socket.socket
        self._inode = 0

    async def start(self) -> None:
        """Listen. Raises NotNowError where another agent listens already, or what is there is no socket."""
        self._listening, self._inode = unix_socket.listen(self._path, BACKLOG)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Caller(self), sock=self._listening, backlog=BACKLOG
        )

    async def close(self) -> None:
        """Hang up on everybody, end what they asked for, and take the socket away."""
        if self._server is None:
            return
        server, self._server = self._server, None
        asyncio.get_running_loop().remove_reader(self._listening)
        for _ in range(2):  # rounds that asyncio needs to tell of a connection that it is accepting
            await asyncio.sleep(0)
        server.close()
        callers = list(self.callers)
        for caller in callers:
            caller.hang_up()
        for task in self.working:
            task.cancel()
        gone = (caller.gone.wait() for caller in callers)
        await asyncio.gather(*gone, *self.working, return_exceptions=True)
        with suppress(FileNotFoundError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()

    def has_room(self) -> bool:
        """May one caller more come in? Who has asked nothing for longest makes room."""
        if len(self.working) >= CALLERS:
            return False
        if len(self.callers) >= CALLERS:
            next(caller for caller in self.callers if caller.idle).hang_up()
        return True

    def hold_little(self) -> None:
        """Hang up on who has sent most of what cannot be answered yet, if that is too much in all."""
        if sum(caller.held for caller in self.callers) > HELD:
            max(self.callers, key=lambda caller: caller.held).hang_up()

    def answers(self, called: Request) -> Answers:
        """What the method answers. Raises VarlinkError where it is not there or cannot be called so."""
        interface, _, method = called.method.rpartition(".")
        if interface == SERVICE:
            return _about(self, method, called.parameters)
        if interface != self.interface.name:
            raise VarlinkError(f"{SERVICE}.InterfaceNotFound", {"interface": interface[:_ECHO]})
        if method not in self.interface.methods:
            raise VarlinkError(f"{SERVICE}.MethodNotFound", {"method": called.method[:_ECHO]})
        if method not in self.methods:
            raise VarlinkError(f"{SERVICE}.MethodNotImplemented", {"method": called.method[:_ECHO]})
        _check(called.parameters, self.interface.methods[method][0])
        return self.methods[method](called.parameters)

    def error(self, error: Exception) -> VarlinkError:
        """What a caller is told of an exception."""
        match error:
            case VarlinkError():
                return error
            case UsbbackupError():
                told = {"code": int(error.code), "message": error.message, "hint": error.hint}
                return VarlinkError(f"{self.interface.name}.{self._name(error)}", told)
            case _:
                log.error("a call from the control socket ended unexpectedly", exc_info=error)
                told = {"code": int(Exit.BUG), "message": f"a bug in usbbackup: {error!r}", "hint": None}
                return VarlinkError(f"{self.interface.name}.Failed", told)

    def _name(self, error: UsbbackupError) -> str:
        """An error class that is named as one of the interface is that one; else its exit code decides."""
        own = type(error).__name__.removesuffix("Error")
        return own if own in self.interface.errors else _BY_CODE.get(error.code, "Failed")


_BY_CODE = {Exit.NOT_NOW: "NotReady", Exit.NOT_ALLOWED: "NotAllowed", Exit.CONFIG: "ConfigInvalid"}


class _Caller(asyncio.Protocol):
    """One connection. Its calls are answered one after the other; the next one is read meanwhile."""

    def __init__(self, server: VarlinkServer) -> None:
        self._server = server
        self._received = bytearray()
        self._searched = 0  # so many bytes at the front hold no NUL
        self._working: asyncio.Task[None] | None = None
        self._streaming = False
        self._heard_all = False
        self._may_write = asyncio.Event()
        self._may_write.set()
        self.gone = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Is nothing being done for it?"""
        return self._working is None

    @property
    def held(self) -> int:
        """How many bytes it has sent that are not understood yet."""
        return len(self._received)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer only to the one user, and only to so many at a time."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio gives for a stream
        self._transport = transport
        if unix_socket.peer(transport.get_extra_info("socket")) != self._server.uid:
            self._refuse(VarlinkError(f"{SERVICE}.PermissionDenied"))
        elif not self._server.has_room():
            self._refuse(
                self._server.error(NotNowError("too many programs talk to the agent", "try again later"))
            )
        self._server.callers[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there to hear more."""
        self._server.callers.pop(self, None)
        self.gone.set()
        self._may_write.set()
        if self._streaming and self._working is not None:
            self._working.cancel()

    def eof_received(self) -> bool:
        """No further calls will come; one answer may still be waited for, a row of them is not."""
        self._heard_all = True
        return self._working is not None and not self._streaming

    def pause_writing(self) -> None:
        """The caller reads too slowly."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """The caller has caught up."""
        self._may_write.set()

    def data_received(self, data: bytes) -> None:
        """Collect calls; behind one that takes its time only so many, and few behind a row of answers.

        A watcher is read from all the time, or nobody would notice that it leaves.
        """
        self._received += data
        self._next()
        if len(self._received) > LIMIT and self._streaming:
            self.hang_up()
        elif len(self._received) > LIMIT:
            self._transport.pause_reading()
        self._server.hold_little()

    def hang_up(self) -> None:
        """End the connection at once."""
        self._server.callers.pop(self, None)
        self._received.clear()
        self._transport.abort()

    def _refuse(self, error: VarlinkError) -> None:
        self._transport.write(encode({"error": error.name, "parameters": error.parameters}))
        self._transport.close()

    def _next(self) -> None:
        """Begin with the next call, if it is here in full and nothing else is being done."""
        if self._working is not None or self._transport.is_closing():
            return
        end = self._received.find(b"\0", self._searched)
        if end < 0:
            self._searched = len(self._received)
            if len(self._received) > LIMIT:
                self.hang_up()
            elif self._heard_all:
                self._transport.close()
            return
        data = self._take(end)
        try:
            called = request(decode(data))
        except BadMessageError as error:
            log.info("hung up on a caller: its message is %s", error)
            self._transport.abort()
            return
        self._working = asyncio.get_running_loop().create_task(self._serve(called))
        self._working.add_done_callback(self._done)
        self._server.working.add(self._working)

    def _take(self, end: int) -> bytes:
        data = bytes(self._received[:end])
        del self._received[: end + 1]
        self._searched = 0
        if len(self._received) <= LIMIT and not self._transport.is_reading():
            self._transport.resume_reading()
        return data

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._working = None
        self._streaming = False
        self._server.working.discard(task)
        if self in self._server.callers:
            self._server.callers.move_to_end(self)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection of the control socket ended unexpectedly", exc_info=error)
            self._transport.abort()
        self._next()

    async def _serve(self, called: Request) -> None:
        try:
            await self._answer(called)
        except Exception as error:  # noqa: BLE001 - a caller is told, whatever happened
            told = self._server.error(error)
            await self._say(called, {"error": told.name, "parameters": told.parameters})

    async def _answer(self, called: Request) -> None:
        answers = self._server.answers(called)
        if not isinstance(answers, AsyncIterator):
            await self._say(called, {"parameters": await answers})
            return
        try:
            if not called.more and not called.oneway:
                raise VarlinkError(f"{SERVICE}.ExpectedMore")
            self._streaming = True
            if self._heard_all:
                return
            async for answer in answers:
                await self._say(called, {"parameters": answer, "continues": True})
        finally:
            if isinstance(answers, AsyncGenerator):
                await answers.aclose()
        await self._say(called, {"parameters": {}})

    async def _say(self, called: Request, message: Message) -> None:
        if called.oneway:
            return
        data = encode(message)
        await self._may_write.wait()
        if not self._transport.is_closing():
            self._transport.write(data)


async def _about(server: VarlinkServer, method: str, parameters: Message) -> Message:
    """org.varlink.service: what every Varlink service tells of itself."""
    service = varlink_idl.parse(_service())
    if method not in service.methods:
        raise VarlinkError(f"{SERVICE}.MethodNotFound", {"method": f"{SERVICE}.{method[:_ECHO]}"})
    _check(parameters, service.methods[method][0])
    known = {one.name: one for one in (service, server.interface)}
    if method == "GetInfo":
        return {
            "vendor": "usbbackup",
            "product": "usbbackup",
            "version": __version__,
            "url": "",
            "interfaces": list(known),
        }
    if (wanted := parameters["interface"]) not in known:
        raise VarlinkError(f"{SERVICE}.InterfaceNotFound", {"interface": wanted[:_ECHO]})
    return {"description": known[wanted].description}


def _service() -> str:
    return Path(__file__).with_name("org.varlink.service.varlink").read_text()


def _check(parameters: Message, wanted: varlink_idl.Struct) -> None:
    if (wrong := varlink_idl.check(parameters, wanted)) is not None:
        raise VarlinkError(f"{SERVICE}.InvalidParameter", {"parameter": wrong[:_ECHO]})
