"""Which snapshot a user means: `<job>@<time>`, with `#<drive>` where that is ambiguous, or `latest`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from usbbackup.backup.opened import Snapshot
from usbbackup.clock import from_compact_utc
from usbbackup.errors import UsageError
from usbbackup.text import did_you_mean, safe

LATEST = "latest"
_SHOWN = 10  # candidates in a sentence


class Candidate(NamedTuple):
    """A snapshot that could be meant."""

    snapshot: Snapshot
    drive: str  # as people call it
    uuid: str
    own: bool = True  # of this machine and user

    @property
    def name(self) -> str:
        """What names it without doubt."""
        return f"{self.snapshot.snapshot}#{self.uuid}"


@dataclass(frozen=True)
class Wish:
    """What a user asks for; what is None is left open."""

    job: str | None = None
    time: str | None = None  # None: the latest
    drive: str | None = None
    as_of: float | None = None  # wall seconds; the latest that is not younger

    @classmethod
    def of(cls, word: str) -> Self:
        """Read a word of the command line. Raises UsageError.

        >>> Wish.of("home@2026-11-23T101500Z#blue")
        Wish(job='home', time='2026-11-23T101500Z', drive='blue', as_of=None)
        >>> Wish.of("latest"), Wish.of("home@latest").job
        (Wish(job=None, time=None, drive=None, as_of=None), 'home')
        """
        name, _, drive = word.partition("#")
        if name == LATEST:
            return cls(drive=drive or None)
        job, at, time = name.partition("@")
        if not (job and at and time):
            raise UsageError(
                f"'{safe(word)}' names no snapshot",
                "name it as `usbbackup snapshots` does: JOB@TIME, or JOB@latest, or latest",
            )
        return cls(job, None if time == LATEST else time, drive or None)

    def __str__(self) -> str:
        return f"{self.job}@{self.time or LATEST}" if self.job else LATEST


def moment(word: str) -> float:
    """The wall time that `--as-of` means: of a day its end, and local time where no zone is named.

    Raises UsageError.
    """
    if (seconds := from_compact_utc(word)) is not None:
        return seconds
    try:
        found = datetime.fromisoformat(word)
    except ValueError:
        raise UsageError(
            f"'{safe(word)}' is no time", "write it as 2026-11-01, or '2026-11-01 18:30'"
        ) from None
    if len(word) == len("2026-11-01"):
        found += timedelta(days=1) - timedelta(microseconds=1)
    return found.timestamp()  # in local time where it has no zone (datetime documentation)


def choose(wish: Wish, candidates: Sequence[Candidate]) -> Candidate:
    """The one snapshot that is meant; `candidates` of one job on one drive are in order of publishing.

    Raises UsageError with those that could be meant, or with the nearest where there is none.
    """
    found = [one for one in candidates if _fits(wish, one)]
    if any(one.own for one in found):  # of other machines only where there is nothing of this one
        found = [one for one in found if one.own]
    if wish.time is None:
        found = _latest(wish, found)
    match found:
        case [one]:
            return one
        case []:
            raise _none(wish, candidates)
        case _:
            names = ", ".join(f"{one.snapshot.snapshot}#{safe(one.drive)}" for one in found[:_SHOWN])
            raise UsageError(f"'{safe(str(wish))}' could be any of {names}", "say which")


def _fits(wish: Wish, one: Candidate) -> bool:
    if wish.job not in (None, one.snapshot.job):
        return False
    if wish.as_of is not None and (one.snapshot.time is None or one.snapshot.time > wish.as_of):
        return False
    return wish.time is None or one.snapshot.snapshot == f"{wish.job}@{wish.time}"


def _latest(wish: Wish, found: Sequence[Candidate]) -> list[Candidate]:
    """The newest of each job: on one drive by order of publishing, between drives by time."""
    last: dict[tuple[str, str], Candidate] = {}
    for one in found:
        key = (one.snapshot.job, one.uuid)
        if wish.as_of is None or key not in last or _time(one) >= _time(last[key]):
            last[key] = one
    newest: dict[str, Candidate] = {}
    for one in last.values():
        if one.snapshot.job not in newest or _time(one) > _time(newest[one.snapshot.job]):
            newest[one.snapshot.job] = one
    return list(newest.values())


def _time(one: Candidate) -> float:
    return one.snapshot.time or 0.0


def _none(wish: Wish, candidates: Sequence[Candidate]) -> UsageError:
    names = [one.snapshot.snapshot for one in candidates]
    jobs = sorted({one.snapshot.job for one in candidates})
    if wish.job is not None and wish.job not in jobs:
        held = f"there are snapshots of {', '.join(jobs)}" if jobs else "there is none at all"
        return UsageError(
            f"there is no snapshot of a job '{safe(wish.job)}' on the drives that are plugged in"
            f"{did_you_mean(wish.job, jobs)}",
            held,
        )
    if wish.time is None:
        return UsageError("there is no snapshot of that time", "see what there is: usbbackup snapshots")
    return UsageError(
        f"there is no snapshot '{safe(str(wish))}' on the drives that are plugged in"
        f"{did_you_mean(str(wish), names)}",
        "see what there is: usbbackup snapshots",
    )
