"""What the person at the screen is told: one notice for each stay of a drive, kept up to date."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from usbbackup.outcome import Outcome, Result
from usbbackup.text import human_bytes, human_duration, safe


class Urgency(IntEnum):
    """How a desktop shows it (Desktop Notifications Specification, urgency levels)."""

    LOW = 0
    NORMAL = 1
    CRITICAL = 2  # stays until it is put away


class Action(StrEnum):
    """What a notice offers to do."""

    ENROL = "enrol"
    EJECT = "eject"
    LOG = "log"


LABELS = {Action.ENROL: "Use it for backups", Action.EJECT: "Eject", Action.LOG: "Show log"}


@dataclass(frozen=True)
class Notice:
    """One notification."""

    summary: str
    body: str = ""
    urgency: Urgency = Urgency.NORMAL
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How the last run of a job in this stay ended."""

    run: str
    result: Result
    seconds: float


@dataclass
class Stay:
    """What there is to tell of a drive since it was plugged in."""

    name: str
    stranger: bool = False  # it only carries the label
    waits: str | None = None  # what has to be done before it can be used
    doubt: str | None = None  # what should be known of it, though it can be used
    running: dict[str, float | None] = field(default_factory=dict)  # job -> seconds that it took last time
    ended: dict[str, Ended] = field(default_factory=dict)
    safe: str | None = None
    held: str | None = None

    @property
    def last(self) -> Ended | None:
        """The run that ended last."""
        return next(reversed(self.ended.values()), None)


def notice(stay: Stay) -> Notice | None:
    """What to show now; None where there is nothing to tell."""
    name = safe(stay.name)
    worst, doubts = _worst(stay), [stay.doubt] if stay.doubt else []
    match stay:
        case Stay(running=running) if running:
            return Notice(f"Backing up to '{name}'", _lines(_begun(running)), Urgency.LOW)
        case _ if worst is not None:
            return _trouble(worst, name, stay)
        case Stay(safe=str()):
            return Notice(f"Safe to unplug '{name}'", _lines([*_done(stay), *doubts]))
        case Stay(ended=ended) if ended:
            held = [stay.held] if stay.held else []
            return Notice(
                f"Backed up to '{name}'", _lines([*_done(stay), *held, *doubts]), actions=_eject(stay)
            )
        case Stay(stranger=True):
            return Notice(
                f"Use '{name}' for backups?",
                "It was never enrolled here, so nothing is written to it.",
                actions=(Action.ENROL,),
            )
        case Stay(waits=str(reason)):
            return Notice(f"'{name}' cannot be backed up to yet", reason)
        case Stay(doubt=str(doubt)):
            return Notice(f"'{name}' is in doubt", _lines([doubt]))
        case _:
            return None


def stale(what: str, seconds: float, limit: float) -> Notice:
    """No good backup for too long, of a job on any drive or on one drive."""
    return Notice(
        f"No good backup {what} for {human_duration(seconds)}",
        f"You wanted to be told after {human_duration(limit)}. Plug the drive in; see `usbbackup status`.",
        Urgency.CRITICAL,
    )


_ORDER = (Outcome.FAILED, Outcome.INTERRUPTED, Outcome.WARNING, Outcome.SKIPPED, Outcome.CANCELLED)


def _worst(stay: Stay) -> tuple[str, Ended] | None:
    """The job that most needs to be told of; None where all went well."""
    bad = [(job, ended) for job, ended in stay.ended.items() if ended.result.outcome in _ORDER]
    return min(bad, key=lambda one: _ORDER.index(one[1].result.outcome), default=None)


def _trouble(worst: tuple[str, Ended], name: str, stay: Stay) -> Notice:
    job, ended = worst
    result = ended.result
    sentences = [f"{result.message}." if not result.message.endswith(".") else result.message, result.hint]
    match result.outcome:
        case Outcome.FAILED:
            failed = f"The backup of {job} to '{name}' failed"
            return Notice(failed, _lines(sentences), Urgency.CRITICAL, (Action.LOG,))
        case Outcome.INTERRUPTED:
            again = "Plug the drive in again: the next backup goes on from there."
            return Notice(f"The backup of {job} to '{name}' was interrupted", _lines([sentences[0], again]))
        case Outcome.WARNING:
            what = f"Safe to unplug '{name}'" if stay.safe else f"Backed up {job} to '{name}', with warnings"
            return Notice(what, _lines(sentences), actions=(Action.LOG, *_eject(stay)))
        case Outcome.SKIPPED:
            return Notice(f"{job} was not backed up to '{name}'", _lines(sentences))
        case _:
            return Notice(f"The backup of {job} to '{name}' was cancelled", "", Urgency.LOW)


def _eject(stay: Stay) -> tuple[Action, ...]:
    return () if stay.safe else (Action.EJECT,)


def _begun(running: dict[str, float | None]) -> Iterator[str]:
    for job, expected in running.items():
        yield f"{job}: about {human_duration(expected)}, as last time" if expected is not None else job


def _done(stay: Stay) -> Iterator[str]:
    for job, ended in stay.ended.items():
        result = ended.result
        counted = [
            human_bytes(result.bytes) if result.bytes is not None else "",
            f"{result.files} files" if result.files is not None else "",
            human_duration(ended.seconds),
        ]
        yield f"{job}: {', '.join(filter(None, counted))}"


def _lines(lines: "Iterator[str] | list[str | None] | list[str]") -> str:
    return "\n".join(safe(line) for line in lines if line)
