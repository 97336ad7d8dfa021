"""How a run ends and how far it is: the values that engines return, the history keeps and scripts read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """The one end of a run."""

    SUCCESS = "success"
    WARNING = "warning"  # a good backup, with a list of what could not be read
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # the drive left, or the agent was stopped
    CANCELLED = "cancelled"  # the user said so
    SKIPPED = "skipped"  # a hook or a script said 75: not now

    @property
    def good(self) -> bool:
        """Is there a backup to rely on? Counts for `every`, for staleness, and allows retention."""
        return self in (Outcome.SUCCESS, Outcome.WARNING)

    @property
    def exit_code(self) -> int:
        """What `start --wait` exits with (errors.Exit)."""
        match self:
            case Outcome.SUCCESS | Outcome.WARNING:
                return 0
            case Outcome.FAILED:
                return 1
            case Outcome.INTERRUPTED | Outcome.CANCELLED | Outcome.SKIPPED:
                return 75


class Phase(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    PROBE = "probe"
    STAGE = "stage"
    TRANSFER = "transfer"
    SYNC = "sync"
    PUBLISH = "publish"
    PRUNE = "prune"
    VERIFY = "verify"
    RECORD = "record"


@dataclass(frozen=True)
class Progress:
    """How far a run is; None where the engine does not say."""

    phase: Phase
    percent: float | None = None
    bytes: int | None = None
    files: int | None = None


@dataclass(frozen=True)
class SourceSeen:
    """What one source was like when a run read it; the next run compares itself with this."""

    source: str  # as configured
    files: int  # entries that are no directories, excluded ones not counted
    unreadable: int  # entries of any kind
    filesystem: str  # its kind and identity, the same after a reboot


@dataclass(frozen=True)
class Result:
    """What came out of a run."""

    outcome: Outcome
    message: str  # one sentence: what happened
    hint: str | None = None  # one sentence: what it means, what to do next
    snapshot: str | None = None  # `<job>@<time>` where one was published
    bytes: int | None = None  # of the sources, as the engine counted them
    files: int | None = None
    notes: tuple[str, ...] = field(default=())  # what was not read, what changed while being read
    sources: tuple[SourceSeen, ...] = field(default=())  # for the next run to compare with; empty unless good


class Stop:
    """A wish that a run end early, with its reason; set once, seen by every step.

    `reason` is the outcome the run shall then have. Callbacks run at once, on the event loop's thread.
    """

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.message = ""
        self.hint: str | None = None
        self._callbacks: list[Callable[[], None]] = []

    def set(self, outcome: Outcome, message: str, hint: str | None = None) -> None:
        """Ask the run to end; the first wish counts."""
        if self.outcome is not None:
            return
        self.outcome, self.message, self.hint = outcome, message, hint
        for callback in list(self._callbacks):
            callback()

    def __bool__(self) -> bool:
        return self.outcome is not None

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call back when the wish comes; at once where it has come already."""
        if self:
            callback()
        else:
            self._callbacks.append(callback)

    def off(self, callback: Callable[[], None]) -> None:
        """Take a callback back."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def result(self) -> Result:
        """The result of a run that ended because of this wish."""
        assert self.outcome is not None  # noqa: S101 - asked only after `set`
        return Result(self.outcome, self.message, self.hint)
