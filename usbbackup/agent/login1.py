"""Asks systemd-logind not to sleep or shut down (org.freedesktop.login1(5), systemd-inhibit(1))."""

import os
from collections.abc import Iterator
from typing import Protocol

from usbbackup.bus import Bus, BusError, NobodyThereError, Place

LOGIND = Place("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
WHAT = ("sleep", "shutdown")  # one lock for each: systemd 252 refuses to delay both by one
MODES = ("block", "delay")  # who has no session may not block, but delay


class Login(Protocol):
    """Who may be asked to keep the machine awake."""

    async def inhibit(self, why: str) -> list[int]:
        """Descriptors that keep it awake while they are open. Raises BusError where none is given."""
        ...


class Logind:
    """The logind of this machine."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def inhibit(self, why: str) -> list[int]:
        """Block, else delay, as many of sleep and shutdown as is allowed."""
        held: list[int] = []
        refused: BusError | None = None
        for what in WHAT:
            try:
                held.append(await self._one(what, why))
            except NobodyThereError:
                raise
            except BusError as error:
                refused = error
        if not held and refused is not None:
            raise refused
        return held

    async def _one(self, what: str, why: str) -> int:
        for mode in MODES:
            try:
                (lock,) = await self._bus.call(LOGIND, "Inhibit", "ssss", what, "usbbackup", why, mode)
            except BusError as error:
                if mode == MODES[-1] or isinstance(error, NobodyThereError):
                    raise
            else:
                return int(lock)
        raise AssertionError("there is a last mode")


def release(locks: list[int]) -> None:
    """Let the machine sleep again."""
    for lock in _emptied(locks):
        os.close(lock)


def _emptied(locks: list[int]) -> Iterator[int]:
    while locks:
        yield locks.pop()
