"""Time, as something that is passed in: no module asks the operating system for the time by itself."""

import asyncio
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
        return asyncio.get_running_loop().call_later(seconds, callback)


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
