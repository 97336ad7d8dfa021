"""The report: one page that needs nothing, whatever is in it."""

import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.cli.house import House
from usbbackup.cli import charts
from usbbackup.cli.page import page
from usbbackup.clock import rfc3339
from usbbackup.history import RunRecord
from usbbackup.outcome import Outcome, Phase

NOW = 1_800_000_000.0
EVIL = "<script>alert(1)</script>&\x1b"
RUN = RunRecord(
    run="r1",
    job="home",
    drive="8fa2",
    attachment="a",
    outcome=Outcome.SUCCESS,
    phase=Phase.RECORD,
    started=NOW - 3600,
    finished=NOW - 3000,
    bytes=3_100_000_000,
    files=412,
    snapshot=None,
    message="412 files (3.1 GB) backed up",
    hint=None,
    notes=(),
    log="",
    boot_id=None,
    engine_pid=None,
    engine_ticks=None,
)


def status(name: str = "backup") -> dict[str, Any]:
    drive = {"name": name, "label": name, "uuid": "8fa2", "state": "ready", "reason": name}
    room = {"last_seen": rfc3339(NOW - 60), "bytes_free": 3 * 10**11, "bytes_total": 10**12}
    on = {"uuid": "8fa2", "last_success": rfc3339(NOW - 7200), "last_outcome": "success"}
    return {
        "drives": [drive | room],
        "jobs": [{"name": "home", "drives": [on | {"last_proven": rfc3339(NOW - 3 * 86400)}]}],
    }


class Well(HTMLParser):
    """Collects tags and text, and sees to it that what is opened is closed."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_it_shows_jobs_drives_days_sizes_and_runs() -> None:
    text = " ".join(Well(page(status(), [RUN], NOW)).words)
    for shown in ("2 hours ago", "3 days ago", "300 GB of 1.0 TB", "1 minute ago", "10 min", "3.1 GB"):
        assert shown in text
    assert f"{date.fromtimestamp(RUN.started).isoformat()}: 1 success" in text


def test_it_needs_no_network_and_no_script() -> None:
    html = page(status(), [RUN], NOW)
    found = Well(html).tags
    assert {tag for tag, _ in found}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not any(
        name in ("src", "href") or name.startswith("on") for _, attributes in found for name in attributes
    )
    assert re.findall(r"https?://[^\"' ]+", html) == ["http://www.w3.org/2000/svg"] * 2
    assert "url(" not in html and "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_names_of_any_origin_are_only_text() -> None:
    evil = [replace(RUN, message=EVIL, job=EVIL, drive=EVIL)]
    html = page(status(EVIL), evil, NOW)
    assert "script" not in {tag for tag, _ in Well(html).tags}
    assert "\x1b" not in html


def test_with_nothing_yet_it_says_so() -> None:
    html = page({"drives": [], "jobs": []}, [], NOW)
    assert html.count("None yet.") == 3
    assert "<h2>Size</h2>" not in html


def test_a_day_has_the_worst_of_its_outcomes() -> None:
    runs = [replace(RUN, outcome=one) for one in (Outcome.SUCCESS, Outcome.FAILED, Outcome.SUCCESS)]
    html = page(status(), runs, NOW)
    assert "2 success, 1 failed" in html
    assert len(re.findall(r'class="day failed"', html)) == 1


@pytest.mark.parametrize("today", [date(2026, 11, 23), date(2026, 11, 29), date(2024, 2, 29)])
def test_the_calendar_ends_today_and_is_half_a_year_long(today: date) -> None:
    drawn = charts.calendar({}, today)
    days = re.findall(r"<title>(\d{4}-\d\d-\d\d): no run</title>", drawn)
    assert days[-1] == today.isoformat()
    assert 25 * 7 < len(days) <= 26 * 7


def test_a_single_backup_is_a_point_and_nothing_stands_outside_the_picture() -> None:
    drawn = charts.sizes({"home": [(NOW, 5)], "music": [(NOW + 1, 0), (NOW + 9, 10)]})
    places = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    assert len(places) == 3
    assert all(0 <= x <= 640 and 0 <= y <= 180 for x, y in places)
    assert charts.sizes({}) == ""
    assert charts.sizes({"home": [(NOW, 5)]}).count("<circle") == 1


def test_the_command_writes_the_page_where_it_is_told(living: House, tmp_path: Path) -> None:
    """For the user alone; else to standard output; a place that is not there is a sentence."""
    living.say("plug")
    living.wait_for("refused")
    assert living("drives", "enrol")[0] == 0
    assert living("start", "hello", "--wait")[0] == 0
    file = tmp_path / "report.html"
    code, out, err = living("report", "--output", str(file))
    assert (code, out, err) == (0, f"written to {file}\n", "")
    assert "hello" in Well(file.read_text()).words
    assert file.stat().st_mode & 0o777 == 0o600
    assert living("report")[1].startswith("<!doctype html>")
    code, _, err = living("report", "--output", str(tmp_path / "nowhere/report.html"))
    assert code == 1
    assert "cannot be written: No such file or directory" in err
