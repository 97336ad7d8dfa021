"""What a supervisor is told: child specs, the words in them, and the rules they stand for."""

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from usbbackup.otp.clock import Clock
from usbbackup.otp.process import Reason
from usbbackup.otp.server import Server

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Shutdown = float | Literal["infinity", "brutal_kill"]
Kind = Literal["worker", "supervisor"]


class BadArgumentError(ValueError):
    """An argument that cannot be used; told before anything is started."""

    def __init__(self, argument: str, wanted: str, given: object) -> None:
        super().__init__(f"{argument} must be {wanted}, not {given!r}")
        self.argument = argument


def check_word(argument: str, given: object, words: Any) -> None:
    """Refuse what is not one of the words of a Literal."""
    if given not in get_args(words):
        raise BadArgumentError(argument, "one of " + ", ".join(get_args(words)), given)


def check_whole(argument: str, given: object, least: int) -> None:
    """Refuse what is not a whole number from `least` on."""
    if type(given) is not int or given < least:
        raise BadArgumentError(argument, f"a whole number from {least} on", given)


def check_seconds(argument: str, given: object) -> None:
    """Refuse what is not a number of seconds."""
    if type(given) not in (int, float) or not given >= 0:  # type: ignore[operator] # a number by then
        raise BadArgumentError(argument, "a number of seconds", given)


@dataclass(frozen=True)
class ChildSpec:
    """How one child is started, restarted and stopped.

    `start` makes its Server. `shutdown`: seconds from the exit signal `shutdown` to `kill`; `infinity` waits,
    `brutal_kill` kills at once; left out, it is 5, and `infinity` for supervisors. `name` is registered in
    the supervisor's registry.
    """

    id: Hashable
    start: Callable[[], Server]
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    type: Kind = "worker"
    name: Hashable = None

    def __post_init__(self) -> None:
        if not callable(self.start):
            raise BadArgumentError("start", "a function that makes a Server", self.start)
        check_word("restart", self.restart, Restart)
        check_word("type", self.type, Kind)
        if self.shutdown not in (None, "infinity", "brutal_kill"):
            check_seconds("shutdown", self.shutdown)

    @property
    def patience(self) -> Shutdown:
        """The shutdown in force."""
        if self.shutdown is not None:
            return self.shutdown
        return "infinity" if self.type == "supervisor" else 5.0


def is_restarted(restart: Restart, reason: Reason) -> bool:
    """The decision table of the three restart kinds."""
    match restart:
        case "permanent":
            return True
        case "transient":
            return reason not in ("normal", "shutdown")
        case "temporary":
            return False


class Intensity:
    """At most so many events in so many seconds."""

    def __init__(self, most: int, seconds: float, clock: Clock) -> None:
        self.most, self.seconds, self.clock = most, seconds, clock
        self.times: deque[float] = deque()

    def exceeded(self) -> bool:
        """Count one more event; was it one too many?"""
        now = self.clock.monotonic()
        self.times.append(now)
        while self.times[0] < now - self.seconds:
            self.times.popleft()
        return len(self.times) > self.most
