"""When is a job due on a drive? A pure decision from the configuration, the history and the time."""

from collections.abc import Sequence
from dataclasses import dataclass

from usbbackup.outcome import Outcome
from usbbackup.text import human_duration

MINUTE = 60.0
HOUR = 60 * MINUTE
RETRY_AFTER = (15 * MINUTE, 1 * HOUR, 4 * HOUR)  # after the first, second, third and every further failure
CLOCK_SLACK = 60.0  # a last backup this far in the future is a clock that was corrected, not one that jumped


@dataclass(frozen=True)
class Past:
    """What the history says of one job on one drive; times are wall seconds."""

    last_good: float | None = None  # start of the last success or warning
    outcomes: Sequence[tuple[Outcome, float]] = ()  # (outcome, end) in this attachment, oldest first


@dataclass(frozen=True)
class Verdict:
    """Due or not, why, and when to ask again (wall seconds; None: not in this attachment)."""

    due: bool
    reason: str
    next_due: float | None = None


def judge(every: float | None, past: Past, now: float) -> Verdict:
    """Decide for one job on one drive that is ready; `every` in seconds, None for once per attachment."""
    match past.outcomes[-1] if past.outcomes else None:
        case (Outcome.FAILED | Outcome.INTERRUPTED as outcome, ended):
            return _retry(outcome, ended, _failures(past.outcomes), now)
        case (Outcome.CANCELLED, _):
            return Verdict(False, "cancelled by you; it runs again at the next plug or when you start it")
        case (Outcome.SKIPPED, ended):
            return _after_skip(every, ended, now)
        case (_, _) if every is None:
            return Verdict(False, "already done since the drive was plugged in")
    if every is None:
        return Verdict(True, "the drive was plugged in")
    return _periodic(every, past.last_good, now)


def is_done(ends: Sequence[Outcome]) -> bool:
    """Is a drive done with, for now, from how the last run of each job in this stay ended?

    Where nothing was backed up it may have been plugged in for another reason, as to get a file back.
    """
    tried_again = (Outcome.FAILED, Outcome.INTERRUPTED)
    return any(end.good for end in ends) and not any(end in tried_again for end in ends)


def _periodic(every: float, last_good: float | None, now: float) -> Verdict:
    if last_good is None:
        return Verdict(True, "there is no backup on this drive yet")
    if last_good > now + CLOCK_SLACK:
        return Verdict(True, "the last backup is dated in the future: the clock was changed")
    if now - last_good >= every:
        return Verdict(True, f"the last backup is {human_duration(now - last_good)} old")
    return Verdict(
        False,
        f"the last backup is {human_duration(max(0.0, now - last_good))} old, "
        f"one is due every {human_duration(every)}",
        last_good + every,
    )


def _retry(outcome: Outcome, ended: float, failures: int, now: float) -> Verdict:
    wait = RETRY_AFTER[min(failures, len(RETRY_AFTER)) - 1]
    if now >= ended + wait or ended > now + CLOCK_SLACK:
        return Verdict(True, f"the last run {_ended(outcome)}; trying again")
    return Verdict(
        False, f"the last run {_ended(outcome)}; tried again {human_duration(wait)} after it", ended + wait
    )


def _after_skip(every: float | None, ended: float, now: float) -> Verdict:
    if every is None:
        return Verdict(False, "skipped by its own command; it runs again at the next plug")
    if now >= ended + every:
        return Verdict(True, "skipped by its own command last time; trying again")
    return Verdict(False, "skipped by its own command; asked again when it falls due", ended + every)


def _failures(outcomes: Sequence[tuple[Outcome, float]]) -> int:
    count = 0
    for outcome, _ in reversed(outcomes):
        if outcome not in (Outcome.FAILED, Outcome.INTERRUPTED):
            break
        count += 1
    return count


def _ended(outcome: Outcome) -> str:
    return "failed" if outcome is Outcome.FAILED else "was interrupted"
