"""Which snapshots of a job stay, and why: one pure function for every engine."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from usbbackup.clock import from_compact_utc
from usbbackup.config import Keep

LAST_ONE = "the last one"
UNKNOWN = "its time is unknown"
NO_RULE = "no rule says otherwise"

_Bucket = Callable[[datetime], tuple[object, ...]]

# The newest of each period stays. An hour that comes twice, as when summer time ends, is two hours.
_PERIODS: dict[str, _Bucket] = {
    "hourly": lambda time: (time.date(), time.hour, time.utcoffset()),
    "daily": lambda time: (time.date(),),
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: (time.year, time.month),
    "yearly": lambda time: (time.year,),
}


class Judged(NamedTuple):
    """One snapshot, and why it stays; without a reason it goes."""

    time: str
    reasons: tuple[str, ...]


def judge(times: Sequence[str], keep: Keep | None, zone: tzinfo | None = None) -> list[Judged]:
    """Judge snapshots by the times in their names, which come, and are returned, in order of publishing.

    As restic does it ("Removing backup snapshots" in its documentation): each rule on its own, periods in
    local time (`zone`; None: the machine's), the newest of each period, and the very oldest for as long as a
    rule has places left. But `last` goes by order of publishing, so that a clock that was wrong removes
    nothing; and the last one always stays, as does everything where no rule is on.
    """
    reasons: dict[str, list[str]] = {time: [] for time in times}
    if keep is None or not any(getattr(keep, rule) for rule in ("last", *_PERIODS)):
        return [Judged(time, (NO_RULE,)) for time in reasons]
    for time in list(reasons)[-keep.last :] if keep.last else []:
        reasons[time].append("last")
    known = {time: moment for time in reasons if (moment := _moment(time, zone)) is not None}
    newest_first = sorted(known, key=lambda time: known[time].astimezone(UTC), reverse=True)
    for rule, bucket in _PERIODS.items():
        for time in _newest(newest_first, known, bucket, getattr(keep, rule)):
            reasons[time].append(rule)
    for time in reasons.keys() - known.keys():
        reasons[time].append(UNKNOWN)
    if reasons:
        last = list(reasons)[-1]
        reasons[last] = reasons[last] or [LAST_ONE]
    return [Judged(time, tuple(why)) for time, why in reasons.items()]


def _newest(
    newest_first: Sequence[str], known: dict[str, datetime], bucket: _Bucket, places: int
) -> list[str]:
    found: list[str] = []
    seen: set[tuple[object, ...]] = set()
    for time in newest_first:
        if len(found) == places:
            break
        if (period := bucket(known[time])) not in seen or time == newest_first[-1]:
            seen.add(period)
            found.append(time)
    return found


def _moment(time: str, zone: tzinfo | None) -> datetime | None:
    seconds = from_compact_utc(time)
    if seconds is None:
        return None
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(zone)


def removed(judged: Sequence[Judged]) -> list[str]:
    """The times of those that go, in order of publishing."""
    return [one.time for one in judged if not one.reasons]
