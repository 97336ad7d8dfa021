"""Which snapshots stay: rules on their own, in local time, and never without the last one."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.backup.retention import judge, removed
from usbbackup.clock import compact_utc
from usbbackup.config import Keep

BERLIN = ZoneInfo("Europe/Berlin")
RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")

times = st.lists(st.integers(0, 2_000_000_000), unique=True, max_size=40).map(
    lambda seconds: [compact_utc(second) for second in seconds]
)
keeps = st.builds(Keep, **dict.fromkeys(RULES, st.integers(0, 6)))


def every(hours: float, count: int, start: datetime = datetime(2026, 1, 1, 12, tzinfo=UTC)) -> list[str]:
    return [compact_utc((start + timedelta(hours=hours * number)).timestamp()) for number in range(count)]


def kept(times: list[str], zone=UTC, **rules: int) -> list[str]:
    return [one.time for one in judge(times, Keep(**rules), zone) if one.reasons]


def test_each_rule_stands_by_itself() -> None:
    days = every(24, 40)  # to 9 February
    assert kept(days, last=2) == days[-2:]
    assert kept(days, daily=3) == days[-3:]
    assert kept(days, weekly=2) == ["2026-02-08T120000Z", "2026-02-09T120000Z"]
    assert kept(days, monthly=2) == ["2026-01-31T120000Z", "2026-02-09T120000Z"]
    assert kept(days, daily=2, monthly=2) == [
        "2026-01-31T120000Z",
        "2026-02-08T120000Z",
        "2026-02-09T120000Z",
    ]


def test_the_oldest_stays_while_a_rule_has_places_left() -> None:
    days = every(24, 3)
    assert kept(days, yearly=2) == [days[0], days[-1]]
    assert kept(days, yearly=1) == [days[-1]]


def test_the_newest_of_a_period_stays() -> None:
    hours = every(1, 12)
    assert kept(hours, daily=1) == hours[-1:]


def test_days_are_those_of_the_zone() -> None:
    evening = ["2026-01-01T223000Z", "2026-01-01T233000Z"]  # 23:30, and 0:30 of the next day, in Berlin
    assert kept(["2025-12-01T000000Z", *evening], BERLIN, daily=2) == evening
    assert kept(["2025-12-01T000000Z", *evening], UTC, daily=1) == evening[-1:]


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    autumn = ["2026-10-24T230000Z", "2026-10-25T001500Z", "2026-10-25T011500Z"]  # 1:00, 2:15 and 2:15 again
    assert kept(autumn, BERLIN, hourly=3) == autumn
    assert kept(["2026-10-01T000000Z", *autumn], BERLIN, hourly=2) == autumn[1:]


def test_a_clock_at_1970_removes_nothing_that_would_have_stayed() -> None:
    days = every(24, 10)
    strange = [*days, "1970-01-01T000007Z"]
    assert set(kept(days, daily=3, last=1)) - set(days[-1:]) <= set(kept(strange, daily=3, last=1))
    assert strange[-1] in kept(strange, daily=3)


def test_reasons_are_told() -> None:
    days = every(24, 3)
    assert judge(days, Keep(last=1, daily=2), UTC) == [
        (days[0], ()),
        (days[1], ("daily",)),
        (days[2], ("last", "daily")),
    ]
    assert judge(days[:1], None)[0].reasons == ("no rule says otherwise",)


def test_a_name_that_is_no_time_is_never_removed() -> None:
    assert kept(["by hand", *every(24, 3)], last=1)[0] == "by hand"


@given(times, keeps)
def test_the_last_one_stays_whatever_the_rules(times: list[str], keep: Keep) -> None:
    judged = judge(times, keep, BERLIN)
    assert [one.time for one in judged] == times
    if times:
        assert judged[-1].reasons


@given(times, keeps)
def test_more_places_never_remove_more(times: list[str], keep: Keep) -> None:
    more = Keep(**{rule: getattr(keep, rule) + 1 for rule in RULES})
    assert set(removed(judge(times, more, BERLIN))) <= set(removed(judge(times, keep, BERLIN))) or not any(
        getattr(keep, rule) for rule in RULES
    )


@given(times, keeps)
def test_what_was_pruned_once_is_not_pruned_more_the_second_time(times: list[str], keep: Keep) -> None:
    gone = set(removed(judge(times, keep, BERLIN)))
    left = [time for time in times if time not in gone]
    assert removed(judge(left, keep, BERLIN)) == []


@given(times, st.sampled_from(RULES), st.integers(1, 6))
def test_a_rule_keeps_as_many_as_it_says(times: list[str], rule: str, places: int) -> None:
    judged = judge(times, Keep(**{rule: places}), BERLIN)
    assert sum(rule in one.reasons for one in judged) <= places
    if rule == "last":
        assert [one.time for one in judged if rule in one.reasons] == times[-places:]


@pytest.mark.parametrize("keep", [Keep(), None])
def test_without_a_rule_everything_stays(keep: Keep | None) -> None:
    assert removed(judge(every(24, 5), keep)) == []
