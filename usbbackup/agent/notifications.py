"""The desktop's notifications (Desktop Notifications Specification 1.2)."""

from collections.abc import Callable
from html import escape
from typing import Protocol

from usbbackup.agent.notices import LABELS, Action, Notice
from usbbackup.bus import Bus, Place, Typed

APP = "usbbackup"
DESKTOP_ENTRY = "io.usbbackup.usbbackup"  # the name of our .desktop file, without its ending
ICON = "drive-removable-media"  # of the freedesktop icon naming specification, where ours is not installed
SERVER = Place(
    "org.freedesktop.Notifications", "/org/freedesktop/Notifications", "org.freedesktop.Notifications"
)

Chosen = Callable[[int, Action], None]


class Desktop(Protocol):
    """Where notices are shown. All verbs raise BusError where that is not possible now."""

    async def show(self, notice: Notice, replaces: int = 0) -> int:
        """Show a notice, in the place of an earlier one that it `replaces`; returns its number."""
        ...

    async def withdraw(self, number: int) -> None:
        """Take one back."""
        ...

    async def listen(self, chosen: Chosen) -> None:
        """Be told the number and the action when somebody chooses one."""
        ...


class Notifications:
    """The notification server of the session, whichever it is."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def show(self, notice: Notice, replaces: int = 0) -> int:
        """Notify; what the server cannot do is left out."""
        (able,) = await self._bus.call(SERVER, "GetCapabilities")
        actions = [word for a in notice.actions for word in (a.value, LABELS[a])] if "actions" in able else []
        body = escape(notice.body, quote=False) if "body-markup" in able else notice.body
        hints = {
            "urgency": Typed("y", int(notice.urgency)),
            "desktop-entry": Typed("s", DESKTOP_ENTRY),
            "category": Typed("s", "device"),
        }
        arguments = (APP, replaces, ICON, notice.summary, body, actions, hints, -1)
        (number,) = await self._bus.call(SERVER, "Notify", "susssasa{sv}i", *arguments)
        return int(number)

    async def withdraw(self, number: int) -> None:
        """CloseNotification; one that is gone already is no trouble."""
        await self._bus.call(SERVER, "CloseNotification", "u", number)

    async def listen(self, chosen: Chosen) -> None:
        """ActionInvoked, for our own actions."""

        def invoked(answer: list[object]) -> None:
            match answer:
                case [int(number), str(word), *_] if word in LABELS:
                    chosen(number, Action(word))

        await self._bus.listen(SERVER, "ActionInvoked", invoked)
