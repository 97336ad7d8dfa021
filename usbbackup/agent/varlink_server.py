"""A Varlink service on a Unix socket, for one user only: checks who calls and what, hands it on, and answers.

A caller that says nothing costs no task; one that says nonsense, or too much, is hung up on.
"""

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path

from usbbackup import __version__, varlink_idl
from usbbackup.errors import Exit, NotNowError, UsbbackupError
from usbbackup.varlink import (
    LIMIT,
    SERVICE,
    BadMessageError,
    Message,
    Request,
    VarlinkError,
    address,
    decode,
    encode,
    request,
)

Answers = Awaitable[Message] | AsyncIterator[Message]
Handler = Callable[[Message], Answers]

CALLERS = 256  # at the same time
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
        self.callers: set[_Caller] = set()
        self.working: set[asyncio.Task[None]] = set()  # also for callers that have left
        self._path = path
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def start(self) -> None:
        """Listen. Raises NotNowError where another agent listens already, or what is there is no socket."""
        _private_directory(self._path.parent)
        _refuse_to_replace(self._path)
        listening, self._inode = _listening(self._path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Caller(self), sock=listening, backlog=BACKLOG)

    async def close(self) -> None:
        """Hang up on everybody, end what they asked for, and take the socket away."""
        if self._server is None:
            return
        self._server.close()
        for caller in list(self.callers):
            caller.hang_up()
        for task in self.working:
            task.cancel()
        await asyncio.gather(*self.working, return_exceptions=True)
        with suppress(FileNotFoundError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()
        self._server = None

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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer only to the one user, and only to so many at a time."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio gives for a stream
        self._transport = transport
        self._server.callers.add(self)
        if _peer(transport.get_extra_info("socket")) != self._server.uid:
            self._refuse(VarlinkError(f"{SERVICE}.PermissionDenied"))
        elif max(len(self._server.callers), len(self._server.working)) > CALLERS:
            self._refuse(
                self._server.error(NotNowError("too many programs talk to the agent", "try again later"))
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there to hear more."""
        self._server.callers.discard(self)
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
        """Collect calls, up to a limit."""
        self._received += data
        self._next()
        if len(self._received) > LIMIT:
            self._transport.abort()

    def hang_up(self) -> None:
        """End the connection at once."""
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
            if self._heard_all:
                self._transport.close()
            return
        data = bytes(self._received[:end])
        del self._received[: end + 1]
        self._searched = 0
        try:
            called = request(decode(data))
        except BadMessageError as error:
            log.info("hung up on a caller: its message is %s", error)
            self._transport.abort()
            return
        self._working = asyncio.get_running_loop().create_task(self._serve(called))
        self._working.add_done_callback(self._done)
        self._server.working.add(self._working)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._working = None
        self._streaming = False
        self._server.working.discard(task)
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
    return resources.files("usbbackup.agent").joinpath("org.varlink.service.varlink").read_text()


def _check(parameters: Message, wanted: varlink_idl.Struct) -> None:
    if (wrong := varlink_idl.check(parameters, wanted)) is not None:
        raise VarlinkError(f"{SERVICE}.InvalidParameter", {"parameter": wrong[:_ECHO]})


def _peer(connection: socket.socket) -> int:
    """The user at the other end, as the kernel knows him (unix(7), SO_PEERCRED)."""
    _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def _private_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = directory.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid():
        raise NotNowError(f"{directory} is not a directory of your own", "Look at what it is, and remove it.")
    directory.chmod(0o700)


def _refuse_to_replace(path: Path) -> None:
    """Only a socket that nobody listens on is in the way of nobody."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise NotNowError(f"{path} is not a socket", "Look at what it is, and remove it.")
    with socket.socket(socket.AF_UNIX) as trial, address(path) as name:
        trial.settimeout(1.0)
        try:
            trial.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:  # a full backlog, for one, is a sign of life
            pass
    raise NotNowError(f"another agent listens on {path}", "Stop it first: `systemctl --user stop usbbackup`.")


def _listening(path: Path) -> tuple[socket.socket, int]:
    """A socket that takes its name only when it is ready, with its mode; and its inode number."""
    passing = path.with_name(f"{path.name}.{os.getpid()}")
    passing.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with address(passing) as name:
            listening.bind(name)
        passing.chmod(0o600)
        listening.listen(BACKLOG)
        passing.rename(path)
    except BaseException:
        listening.close()
        passing.unlink(missing_ok=True)
        raise
    return listening, path.lstat().st_ino
