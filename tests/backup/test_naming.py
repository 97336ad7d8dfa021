"""Which snapshot a word on the command line means."""

import pytest

from usbbackup.backup.naming import Candidate, Wish, choose, moment
from usbbackup.backup.opened import Snapshot
from usbbackup.clock import from_compact_utc
from usbbackup.errors import UsageError

TIMES = ["2026-11-01T100000Z", "2026-11-02T100000Z", "2026-11-03T100000Z"]


def candidate(time: str, job: str = "home", drive: str = "blue", own: bool = True) -> Candidate:
    snapshot = Snapshot(f"{job}@{time}", job, "rsync", from_compact_utc(time), None)
    return Candidate(snapshot, drive, f"uuid-{drive}", own)


THREE = [candidate(time) for time in TIMES]


def test_one_is_named_by_job_and_time() -> None:
    assert choose(Wish.of(f"home@{TIMES[1]}"), THREE) is THREE[1]


def test_the_latest_of_a_drive_is_the_one_published_last_whatever_its_clock_said() -> None:
    early = candidate("1970-01-01T000001Z")
    assert choose(Wish.of("latest"), [*THREE, early]) is early


def test_the_latest_of_several_drives_goes_by_time() -> None:
    other = candidate("2026-11-05T100000Z", drive="red")
    assert choose(Wish.of("home@latest"), [other, *THREE]) is other


def test_latest_is_said_of_one_job_only() -> None:
    other = candidate(TIMES[0], job="music")
    with pytest.raises(UsageError, match=f"home@{TIMES[2]}#blue, music@{TIMES[0]}#blue"):
        choose(Wish.of("latest"), [*THREE, other])


def test_the_same_name_on_two_drives_is_ambiguous() -> None:
    both = [candidate(TIMES[0]), candidate(TIMES[0], drive="red")]
    with pytest.raises(UsageError, match=f"home@{TIMES[0]}#blue, home@{TIMES[0]}#red"):
        choose(Wish.of(f"home@{TIMES[0]}"), both)


def test_what_other_machines_left_there_counts_only_where_there_is_nothing_of_this_one() -> None:
    foreign = candidate("2026-11-09T100000Z", own=False)
    assert choose(Wish.of("home@latest"), [*THREE, foreign]) is THREE[2]
    assert choose(Wish.of("home@2026-11-09T100000Z"), [*THREE, foreign]) is foreign


def test_as_of_takes_the_latest_that_is_not_younger() -> None:
    assert choose(Wish(as_of=moment("2026-11-02T10:00:00Z")), THREE) is THREE[1]
    assert choose(Wish(as_of=moment("2026-11-02T09:59:59Z")), THREE) is THREE[0]
    with pytest.raises(UsageError, match="no snapshot of that time"):
        choose(Wish(as_of=moment("2026-10-01")), THREE)


def test_a_day_means_its_end_in_local_time() -> None:
    assert moment("2026-11-02") - moment("2026-11-02 00:00") == pytest.approx(86400)
    assert moment(TIMES[0]) == from_compact_utc(TIMES[0])


@pytest.mark.parametrize("word", ["home", "home@", "@x", "", "#blue"])
def test_a_word_that_names_none_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="names no snapshot"):
        Wish.of(word)


@pytest.mark.parametrize("word", ["yesterday", "2026-13-01", ""])
def test_a_word_that_is_no_time_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        moment(word)


def test_a_near_miss_is_offered() -> None:
    with pytest.raises(UsageError, match=f"did you mean 'home@{TIMES[0]}'"):
        choose(Wish.of("home@2026-11-01T100001Z"), THREE)
    with pytest.raises(UsageError, match="did you mean 'home'"):
        choose(Wish.of("hom@latest"), THREE)
