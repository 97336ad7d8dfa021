"""Time, as something that is passed in: no module asks the operating system for the time by itself."""

import ctypes
import math
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A callback that is due; `cancel` takes it back."""

    def cancel(self) -> None:
        """Forget the callback; harmless after it ran."""
        ...


class Clock(Protocol):
    """The times this program knows, all in seconds."""

    def now(self) -> float:
        """Wall time since the epoch; it may jump."""
        ...

    def monotonic(self) -> float:
        """Time that never jumps and stands still while the machine sleeps."""
        ...

    def boottime(self) -> float:
        """Time since boot, sleep included (clock_gettime(2), CLOCK_BOOTTIME)."""
        ...

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back after that many seconds, on the event loop."""
        ...

    def at(self, wall: float, callback: Callable[[], None]) -> Timer:
        """Call back once at that wall time, or earlier when the clock is set or the machine wakes."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Wall time since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()

    def boottime(self) -> float:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Ask the running event loop."""
        import asyncio  # slow to import, and `status` has no event loop

        return asyncio.get_running_loop().call_later(seconds, callback)

    def at(self, wall: float, callback: Callable[[], None]) -> Timer:
        """A timer of the kernel, since those of the event loop stand still while the machine sleeps."""
        return WallTimer(wall, callback)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class WallTimer:
    """A timerfd_create(2) on CLOCK_REALTIME that also fires at a clock jump (TFD_TIMER_CANCEL_ON_SET)."""

    def __init__(self, wall: float, callback: Callable[[], None]) -> None:
        import asyncio

        self._callback = callback
        self._loop = asyncio.get_running_loop()
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        abstime_cancel_on_set = 1 | 2
        whole = max(1, math.ceil(wall))  # zero would disarm it
        spec = _TimerSpec(value=_Timespec(seconds=whole))
        if self._fd < 0 or libc.timerfd_settime(self._fd, abstime_cancel_on_set, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd: " + os.strerror(ctypes.get_errno()))
        self._loop.add_reader(self._fd, self._fire)

    def _fire(self) -> None:
        self.cancel()
        self._callback()

    def cancel(self) -> None:
        """Close the timer; harmless after it fired."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def rfc3339(seconds: float | None) -> str | None:
    """A wall time as RFC 3339 with the local zone, to the second; null stays null.

    >>> rfc3339(None) is None
    True
    """
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")


def compact_utc(seconds: float) -> str:
    """A wall time as it stands in snapshot names.

    >>> compact_utc(0)
    '1970-01-01T000000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H%M%SZ")


def from_compact_utc(text: str) -> float | None:
    """The wall time of a snapshot name, or None where the text is none.

    >>> from_compact_utc("1970-01-01T000001Z")
    1.0
    """
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
