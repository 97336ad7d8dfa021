"""When a job is due."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.agent.due import HOUR, MINUTE, RETRY_AFTER, Past, judge
from usbbackup.outcome import Outcome

NOW = 1_800_000_000.0
DAY = 24 * HOUR
S, W, F, INT, C, K = (
    Outcome.SUCCESS,
    Outcome.WARNING,
    Outcome.FAILED,
    Outcome.INTERRUPTED,
    Outcome.CANCELLED,
    Outcome.SKIPPED,
)


@pytest.mark.parametrize(
    ("every", "past", "due", "next_in"),
    [
        (None, Past(), True, None),
        (None, Past(last_good=NOW - 10), True, None),  # plugged again within a minute: runs again
        (None, Past(NOW - 10, [(S, NOW - 5)]), False, None),
        (None, Past(NOW - 10, [(W, NOW - 5)]), False, None),
        (DAY, Past(), True, None),
        (DAY, Past(NOW - DAY), True, None),
        (DAY, Past(NOW - HOUR), False, 23 * HOUR),
        (DAY, Past(NOW - HOUR, [(S, NOW - HOUR)]), False, 23 * HOUR),
        (DAY, Past(NOW - 2 * DAY, [(S, NOW - 2 * DAY)]), True, None),  # stays attached, falls due again
        (DAY, Past(NOW + 90 * DAY), True, None),  # the clock was wrong when it was made
        (None, Past(None, [(F, NOW - MINUTE)]), False, 14 * MINUTE),
        (None, Past(None, [(F, NOW - 15 * MINUTE)]), True, None),
        (None, Past(None, [(INT, NOW - MINUTE)]), False, 14 * MINUTE),
        (None, Past(None, [(F, NOW - 2 * HOUR), (F, NOW - MINUTE)]), False, 59 * MINUTE),
        (None, Past(None, [(F, 0.0), (F, 0.0), (INT, NOW - HOUR)]), False, 3 * HOUR),
        (None, Past(None, [(F, 0.0)] * 9 + [(INT, NOW - HOUR)]), False, 3 * HOUR),  # never given up
        (None, Past(None, [(F, 0.0), (S, 1.0), (F, NOW)]), False, 15 * MINUTE),  # a success starts anew
        (None, Past(None, [(F, NOW + DAY)]), True, None),  # failed "tomorrow": the clock was set back
        (DAY, Past(NOW - 3 * DAY, [(F, NOW - MINUTE)]), False, 14 * MINUTE),
        (None, Past(None, [(C, NOW - DAY)]), False, None),
        (DAY, Past(None, [(C, NOW - 2 * DAY)]), False, None),
        (None, Past(None, [(K, NOW)]), False, None),
        (DAY, Past(None, [(K, NOW - HOUR)]), False, 23 * HOUR),
        (DAY, Past(None, [(K, NOW - DAY)]), True, None),
    ],
)
def test_verdicts(every: float | None, past: Past, due: bool, next_in: float | None) -> None:
    """Each row of the rules: once per attachment, `every`, retries, a cancelled and a skipped run."""
    verdict = judge(every, past, NOW)
    assert verdict.due is due
    assert verdict.next_due == (None if next_in is None else NOW + next_in)
    assert verdict.reason


ENDS = st.tuples(st.sampled_from(list(Outcome)), st.floats(NOW - 30 * DAY, NOW + 30 * DAY))


@given(
    every=st.none() | st.floats(1, 30 * DAY),
    last_good=st.none() | st.floats(0, NOW + 30 * DAY),
    outcomes=st.lists(ENDS, max_size=6),
)
def test_a_promised_time_is_kept(
    every: float | None, last_good: float | None, outcomes: list[tuple[Outcome, float]]
) -> None:
    """A verdict that names the next time names one that lies ahead, and at that time the job is due."""
    past = Past(last_good, outcomes)
    verdict = judge(every, past, NOW)
    if verdict.next_due is not None:
        assert not verdict.due
        assert verdict.next_due > NOW
        assert judge(every, past, verdict.next_due + 1e-3).due


@given(count=st.integers(1, 40))
def test_a_failing_job_is_tried_for_ever(count: int) -> None:
    """However often it failed, four hours later it is tried again."""
    past = Past(None, [(F, NOW)] * count)
    assert judge(None, past, NOW + RETRY_AFTER[-1]).due
