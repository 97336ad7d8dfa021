"""Varlink as it goes over the wire, and a client that waits for its answers.

A message is a JSON object and a NUL byte (varlink.org/Method-Call). Nothing here needs asyncio, so that a
command which only asks starts quickly.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from usbbackup.errors import BY_CODE, Exit, NoAgentError, SilentAgentError, UsbbackupError
from usbbackup.text import safe

INTERFACE = "io.usbbackup.Agent"
SERVICE = "org.varlink.service"
LIMIT = 1024 * 1024  # bytes of one message
PATIENCE = 90.0  # seconds for one answer: longer than the agent tries a drive (drives/monitor)
_SOCKET_PATH = 107  # bytes, unix(7)

Message = dict[str, Any]


class BadMessageError(ValueError):
    """What came, or should go, is no Varlink message; says why."""


class VarlinkError(UsbbackupError):
    """The error that a method answers with: its full name, its parameters, and what they mean to a person."""

    def __init__(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        self.name, self.parameters = name, dict(parameters or {})
        message, hint, code = (self.parameters.get(key) for key in ("message", "hint", "code"))
        if name == f"{SERVICE}.PermissionDenied":
            message, code = "the agent talks only to the user it belongs to", Exit.NOT_ALLOWED
        if not isinstance(message, str):
            details = ", ".join(f"{key} {value}" for key, value in self.parameters.items())
            message = f"the agent answered {name}" + (f" ({details})" if details else "")
        super().__init__(safe(message), safe(hint) if isinstance(hint, str) else None)
        self.code = BY_CODE[code].code if isinstance(code, int) and code in BY_CODE else Exit.BUG


@dataclass(frozen=True)
class Request:
    """A method that is called."""

    method: str
    parameters: Message
    more: bool = False
    oneway: bool = False


def encode(message: Mapping[str, Any]) -> bytes:
    """The bytes of a message with its NUL. Raises BadMessageError."""
    try:
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadMessageError(f"cannot be said in JSON: {error}") from None
    if len(data) >= LIMIT:
        raise BadMessageError(f"larger than {LIMIT} bytes")
    return data + b"\0"


def decode(data: bytes) -> Message:
    """The message in some bytes without their NUL. Raises BadMessageError."""
    if len(data) >= LIMIT:
        raise BadMessageError(f"larger than {LIMIT} bytes")
    try:
        message = json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadMessageError(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise BadMessageError("not a JSON object")
    return message


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def request(message: Message) -> Request:
    """Understand a message as a call. Raises BadMessageError."""
    method, parameters = message.get("method"), message.get("parameters")
    more, oneway = message.get("more") or False, message.get("oneway") or False
    if not isinstance(method, str):
        raise BadMessageError("names no method")
    if not isinstance(parameters, dict | None):
        raise BadMessageError("its parameters are no object")
    if not isinstance(more, bool) or not isinstance(oneway, bool):
        raise BadMessageError("more and oneway are true or false")
    return Request(method, parameters or {}, more, oneway)


@contextmanager
def address(path: Path) -> Iterator[str]:
    """A name for a socket that fits into 107 bytes, however long its path is."""
    if len(os.fsencode(path)) <= _SOCKET_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class Client:
    """A connection to the agent; one call at a time. Every trouble on the way is a NoAgentError."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._received = bytearray()

    @classmethod
    def connect(cls, path: Path, timeout: float = PATIENCE) -> Self:
        """Reach the agent that listens there, within `timeout` seconds. Raises NoAgentError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout)
        try:
            with address(path) as name:
                connection.connect(name)
        except TimeoutError:
            connection.close()
            raise _silent() from None
        except OSError as error:
            connection.close()
            raise _no_agent(f"no agent answers at {safe(str(path))}: {error.strerror or error}") from None
        return cls(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(self, method: str, timeout: float = PATIENCE, /, **parameters: Any) -> Message:
        """Ask and wait for the one answer, for `timeout` seconds. Raises VarlinkError or NoAgentError."""
        self._socket.settimeout(timeout)
        self._send({"method": _full(method), "parameters": parameters})
        return _answer(self._receive())

    def call_more(self, method: str, first: float | None = None, /, **parameters: Any) -> Iterator[Message]:
        """Ask now, and yield each answer as it comes: the first within so many seconds, if that is said.

        The agent ends the answers with an empty one, which is not yielded. Raises as `call` does.
        """
        self._send({"method": _full(method), "parameters": parameters, "more": True})
        return self._answers(first)

    def _answers(self, first: float | None) -> Iterator[Message]:
        self._socket.settimeout(first)
        while True:
            message = self._receive()
            self._socket.settimeout(None)
            answer = _answer(message)
            if answer:
                yield answer
            if not message.get("continues"):
                return

    def _send(self, message: Message) -> None:
        data = encode(message)
        try:
            self._socket.sendall(data)
        except OSError as error:
            if not _hung_up_with_a_word(error):
                raise _no_agent(f"the agent cannot be asked: {error.strerror or error}") from None

    def _receive(self) -> Message:
        while (end := self._received.find(b"\0")) < 0:
            if len(self._received) > LIMIT:
                raise _no_agent(f"the agent's answer is larger than {LIMIT} bytes")
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise _silent() from None
            except OSError as error:
                raise _no_agent(f"the agent cannot be heard: {error.strerror}") from None
            if not data:
                raise _no_agent("the agent hung up before it had answered")
            self._received += data
        data = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            return decode(data)
        except BadMessageError as error:
            raise _no_agent(f"the agent's answer is no message: {safe(str(error))}") from None


def _hung_up_with_a_word(error: OSError) -> bool:
    """An agent that refuses a caller says why before it hangs up; that can be read still."""
    return isinstance(error, (BrokenPipeError, ConnectionResetError))


def _full(method: str) -> str:
    return method if "." in method else f"{INTERFACE}.{method}"


def _answer(message: Message) -> Message:
    parameters = message.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _no_agent("the agent's answer has no parameters")
    if isinstance(name := message.get("error"), str):
        raise VarlinkError(name, parameters)
    return parameters


def _silent() -> SilentAgentError:
    return SilentAgentError("the agent does not answer", "Start it anew: systemctl --user restart usbbackup")


def _no_agent(message: str) -> NoAgentError:
    return NoAgentError(message, "Start it with `systemctl --user start usbbackup`.")
