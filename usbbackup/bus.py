"""A message bus (D-Bus), reached when it is first needed; where there is none, one sentence says so.

`dbus-fast` is imported no earlier than that: who needs neither UDisks2 nor a desktop carries nothing of it.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from usbbackup.errors import UsbbackupError
from usbbackup.text import safe

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

PATIENCE = 30.0  # seconds for an answer
_ABSENT = (  # there is a bus, but nobody who offers that service and nothing that could be started for it
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Spawn.",
    "org.freedesktop.systemd1.",
)

Answer = list[Any]
Listener = Callable[[Answer], None]


@dataclass(frozen=True)
class Typed:
    """A value of the type `v`, with the type that it has inside (dbus-specification, type system)."""

    signature: str
    value: object


@dataclass(frozen=True)
class Place:
    """Where a method is called or a signal comes from."""

    service: str
    path: str
    interface: str

    def at(self, path: str, interface: str | None = None) -> "Place":
        """The same service, elsewhere."""
        return Place(self.service, path, interface or self.interface)


class BusError(UsbbackupError):
    """What was asked over a bus was answered with an error; `name` is that of D-Bus."""

    def __init__(self, name: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.name = name


class NobodyThereError(BusError):
    """There is no bus, or nobody on it who could answer."""


class Bus(Protocol):
    """Where services are asked; the system's or the session's bus, or a test."""

    async def call(self, to: Place, method: str, signature: str = "", *body: object) -> Answer:
        """The answer, with every variant unpacked and descriptors (type `h`) as open ones.

        Raises NobodyThereError where no service is there to be asked, BusError where it refuses.
        """
        ...

    async def listen(self, place: Place, signal: str, listener: Listener) -> None:
        """Have `listener` called with what each such signal carries, also after the bus was lost."""
        ...

    async def close(self) -> None:
        """Let go of the bus."""
        ...


class NoBus:
    """Where nobody can be asked."""

    async def call(self, to: Place, method: str, signature: str = "", *body: object) -> Answer:
        """Refuse."""
        raise NobodyThereError("", f"there is no message bus, so {to.service} cannot be asked")

    async def listen(self, place: Place, signal: str, listener: Listener) -> None:
        """Refuse."""
        await self.call(place, signal)

    async def close(self) -> None:
        """There is nothing to let go of."""


class MessageBusAt:
    """The bus at an address, connected to when first used, and again after it was lost."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._heard: dict[tuple[str, str, str, str], list[Listener]] = {}

    async def call(self, to: Place, method: str, signature: str = "", *body: object) -> Answer:
        """Ask and wait for the answer."""
        return await self._ask(await self._connected(), to, method, signature, body)

    async def listen(self, place: Place, signal: str, listener: Listener) -> None:
        """Ask the bus for a signal."""
        bus = await self._connected()
        key = (place.service, place.path, place.interface, signal)
        if key not in self._heard:
            await self._match(bus, key)
        self._heard.setdefault(key, []).append(listener)

    async def close(self) -> None:
        """Hang up."""
        bus, self._bus = self._bus, None
        if bus is not None and bus.connected:
            bus.disconnect()
            await asyncio.sleep(0)  # a round for the loop to let go of the socket

    async def _connected(self) -> "MessageBus":
        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                bus = await self._connect()
                for key in self._heard:
                    await self._match(bus, key)
                self._bus = bus
            return self._bus

    async def _connect(self) -> "MessageBus":
        try:
            from dbus_fast.aio import MessageBus
        except ImportError:
            raise NobodyThereError(
                "", "the library dbus-fast is not installed", "install it: pipx inject usbbackup dbus-fast"
            ) from None
        try:
            async with asyncio.timeout(PATIENCE):
                bus = await MessageBus(self._address, negotiate_unix_fd=True).connect()
        except Exception as error:  # the library raises its own, OSError, EOFError, ValueError
            why = getattr(error, "strerror", None) or safe(str(error))
            raise NobodyThereError("", f"there is no message bus at {safe(self._address)}: {why}") from error
        bus.add_message_handler(self._hear)
        return bus

    async def _match(self, bus: "MessageBus", key: tuple[str, str, str, str]) -> None:
        names = ("sender", "path", "interface", "member")
        rule = ",".join(f"{name}='{value}'" for name, value in zip(names, key, strict=True))
        await self._ask(bus, _DBUS, "AddMatch", "s", (f"type='signal',{rule}",))

    async def _ask(
        self, bus: "MessageBus", to: Place, method: str, signature: str, body: tuple[object, ...]
    ) -> Answer:
        from dbus_fast import Message, MessageType

        message = Message(
            destination=to.service,
            path=to.path,
            interface=to.interface,
            member=method,
            signature=signature,
            body=[_packed(value) for value in body],
        )
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await bus.call(message)
        except TimeoutError:
            raise BusError("", f"{to.service} does not answer") from None
        except (OSError, EOFError) as error:
            raise NobodyThereError("", f"the message bus was lost: {error}") from error
        if answer is None:
            raise NobodyThereError("", "the message bus hung up")
        if answer.message_type is MessageType.ERROR:
            raise _refusal(to, answer)
        return _unpacked(answer)

    def _hear(self, message: "Message") -> None:
        from dbus_fast import MessageType

        if message.message_type is not MessageType.SIGNAL:
            return
        for (_, *about), listeners in self._heard.items():
            if about == [message.path, message.interface, message.member]:
                for listener in list(listeners):
                    listener(_unpacked(message))


_DBUS = Place("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


def _refusal(to: Place, answer: "Message") -> BusError:
    name = answer.error_name or ""
    if name.startswith(_ABSENT):
        return NobodyThereError(name, f"{to.service} is not there")
    said = safe(str(answer.body[0])) if answer.body else name
    return BusError(name, f"{to.service} says: {said}")


def _packed(value: object) -> object:
    """Our own variants as the library's."""
    from dbus_fast import Variant

    match value:
        case Typed(signature, inner):
            return Variant(signature, _packed(inner))
        case Mapping():
            return {key: _packed(inner) for key, inner in value.items()}
        case list():
            return [_packed(inner) for inner in value]
        case _:
            return value


def _unpacked(message: "Message") -> Answer:
    from dbus_fast import unpack_variants

    body: Answer = [unpack_variants(value) for value in message.body]
    if "h" in message.signature:
        kinds = [kind.token for kind in message.signature_tree.types]
        body = [message.unix_fds[v] if k == "h" else v for k, v in zip(kinds, body, strict=True)]
    return body


def system_bus(env: Mapping[str, str]) -> Bus:
    """The bus of the machine (dbus-specification, well-known message bus instances)."""
    return MessageBusAt(env.get("DBUS_SYSTEM_BUS_ADDRESS") or "unix:path=/run/dbus/system_bus_socket")


def session_bus(env: Mapping[str, str]) -> Bus:
    """The bus of the user's session; with systemd it is the user's one bus."""
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return MessageBusAt(env.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={runtime}/bus")
