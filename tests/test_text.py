"""What people read is harmless, and short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup import text


@given(
    st.one_of(st.binary(), st.text(st.characters(exclude_categories=())), st.text("\x1b\u202e\udc80\n\ta"))
)
def test_a_safe_name_has_nothing_that_moves_the_cursor_or_turns_the_text_around(name: str | bytes) -> None:
    shown = text.safe(name)
    assert all(char.isprintable() or char in text._ORDINARY for char in shown)
    assert text.safe(shown) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Grüße 日本 🙂.txt", "Grüße 日本 🙂.txt"),
        ("क\u200dष", "क\u200dष"),
        ("\u202eexe.txt", "\\u202eexe.txt"),
        ("a\u2028b", "a\\u2028b"),
        ("a\x9bb", "a\\x9bb"),
        (b"\xff\x00", "\\xff\\x00"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_ordinary_names_stay_and_dangerous_ones_are_spelled_out(name: str | bytes, shown: str) -> None:
    assert text.safe(name) == shown


def test_a_guess_is_made_only_when_one_comes_close() -> None:
    assert text.nearest("Home", ["home", "work"]) == "home"
    assert text.nearest("zebra", ["home", "work"]) is None
    assert text.nearest("x", []) is None
    assert text.did_you_mean("zebra", ["home"]) == ""


@given(st.floats(min_value=0, max_value=1e19))
def test_a_size_is_at_most_seven_characters_wide(count: float) -> None:
    assert len(text.human_bytes(count)) <= 7


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_960, "10 kB"),
        (999_600, "1.0 MB"),
        (2e12, "2.0 TB"),
    ],
)
def test_sizes_change_unit_where_they_should(count: float, shown: str) -> None:
    assert text.human_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (86400 * 400, "400 d")],
)
def test_durations_have_two_units_at_most(seconds: float, shown: str) -> None:
    assert text.human_duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "just now"), (60, "1 minute ago"), (-5, "in a moment"), (-86400, "in 1 day")]
)
def test_ages_read_like_speech(seconds: float, shown: str) -> None:
    assert text.human_age(seconds) == shown
