"""The time that supervisors and pools know: seconds that never jump, and a call back later."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that is due."""

    def cancel(self) -> None:
        """Take it back; harmless after it ran."""
        ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls back after so many seconds."""


class Clock(Protocol):
    """What a clock must offer to be passed in."""

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back after that many seconds, on the event loop."""
        ...


class LoopClock:
    """The event loop's own clock, the default everywhere."""

    def monotonic(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """The loop's timer."""
        return asyncio.get_running_loop().call_later(seconds, callback)
