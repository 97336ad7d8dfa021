"""What the journal gets: entries with priority, kind and fields; and what `journalctl -x` says of them."""

import logging
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from usbbackup.agent.journal import JournalHandler, entry
from usbbackup.agent.logfile import MOST_LINES, RunLog
from usbbackup.agent.messages import OF_OUTCOME, Message
from usbbackup.agent.status import _left
from usbbackup.clock import SystemClock
from usbbackup.install.units import CATALOG, text
from usbbackup.outcome import Outcome


@pytest.fixture
def received(tmp_path: Path) -> Iterator[Callable[[], list[bytes]]]:
    """What a journal at the other end of the handler has got so far; the whole story goes there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as journal:
        journal.bind(str(tmp_path / "journal"))
        journal.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        handler = JournalHandler(str(tmp_path / "journal"))
        story, output = logging.getLogger("usbbackup"), logging.getLogger("usbbackup.output")
        levels = story.level, output.level
        story.addHandler(handler)
        story.setLevel(logging.INFO)
        output.setLevel(logging.DEBUG)

        def all_of_it() -> list[bytes]:
            found: list[bytes] = []
            while True:
                try:
                    found.append(journal.recv(1 << 20))
                except BlockingIOError:
                    return found

        yield all_of_it
        story.removeHandler(handler)
        handler.close()
        story.setLevel(levels[0])
        output.setLevel(levels[1])


def test_an_entry_has_its_kind_its_priority_and_what_it_is_about() -> None:
    record = logging.makeLogRecord(
        {"levelno": logging.ERROR, "kind": Message.RUN_FAILED, "job": "home", "drive": "8fa2", "run": "r1"}
    )
    assert set(entry("no", record).decode().splitlines()) == {
        "MESSAGE=no",
        "MESSAGE_ID=59d07ac206a949e093763950071c75fc",
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=usbbackup",
        "USBBACKUP_JOB=home",
        "USBBACKUP_DRIVE=8fa2",
        "USBBACKUP_RUN=r1",
    }


def test_what_an_engine_says_goes_to_the_runs_log_and_its_beginning_to_the_journal(
    tmp_path: Path, received: Callable[[], list[bytes]]
) -> None:
    """Quietest priority, found by its run; the story of the agent must not drown in it."""
    with RunLog(tmp_path, "r1", SystemClock(), {"run": "r1", "job": "home"}) as log:
        log.line("not of the engine")
        entries = []
        for number in range(MOST_LINES + 50):
            log.output(f"line {number}")
            entries += received()
    assert len((tmp_path / "r1.log").read_text().splitlines()) == MOST_LINES + 51
    assert len(entries) == MOST_LINES + 1
    assert all(b"PRIORITY=7\n" in one and b"USBBACKUP_RUN=r1\n" in one for one in entries)
    assert b"MESSAGE=line 0\n" in entries[0]
    assert b"usbbackup history r1" in entries[-1]


def test_every_kind_of_entry_is_explained_and_nothing_else_is() -> None:
    explained = re.findall(r"^-- ([0-9a-f]{32})$", text(CATALOG), re.MULTILINE)
    assert sorted(explained) == sorted(Message)
    assert len(set(Message)) == len(list(Message.__members__))


def test_every_outcome_has_a_kind() -> None:
    assert set(OF_OUTCOME) == set(Outcome)
    assert len({kind for _, kind in OF_OUTCOME.values()}) == len(Outcome)


def test_systemd_takes_the_catalogue(tmp_path: Path) -> None:
    """journalctl builds a database of it without a word."""
    place = tmp_path / "usr/lib/systemd/catalog"
    place.mkdir(parents=True)
    (place / CATALOG).write_text(text(CATALOG))
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    try:
        done = subprocess.run(
            ["journalctl", f"--root={tmp_path}", "--update-catalog"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("journalctl is not installed")
    assert (done.returncode, done.stderr) == (0, "")
    listed = ["journalctl", f"--root={tmp_path}", "--list-catalog"]
    shown = subprocess.run(listed, capture_output=True, text=True, check=True)
    assert f"{Message.RUN_FAILED} usbbackup: A backup has failed" in shown.stdout


@pytest.mark.parametrize(
    ("percent", "elapsed", "left"),
    [
        (41, 125, "2 min"),
        (25, 62, "3 min"),
        (99.9, 600, "10 s"),
        (1, 30, ""),
        (50, 3, ""),
        (50, 7300, "2 h 1 min"),
    ],
)
def test_how_long_it_takes_is_told_once_it_can_be_told(percent: float, elapsed: float, left: str) -> None:
    assert _left(percent, elapsed) == left
