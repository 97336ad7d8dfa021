"""How runs go, live: on a terminal drawn anew, elsewhere line by line."""

import fcntl
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from rich.console import Console

from tests.cli.house import House
from usbbackup.cli.board import Board
from usbbackup.cli.main import Terminal
from usbbackup.clock import SystemClock
from usbbackup.errors import Exit
from usbbackup.pace import Pace

NOON = 1_800_000_000.0


class StillClock(SystemClock):
    """Stands still until it is set."""

    time = NOON

    def now(self) -> float:
        return self.time


def progress(**more: Any) -> dict[str, Any]:
    event = {"event": "progress", "run": "r1", "job": "home", "drive": "8fa2", "phase": "transfer"}
    return {**event, "percent": None, "bytes": None, "files": None, **more}


def drawn(board: Board, width: int) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, _environ={"TERM": "xterm"}
    )
    console.print(board)
    return console.file.getvalue()  # type: ignore[attr-defined] # it is the StringIO


def test_a_run_is_drawn_with_bar_rate_and_time_left_as_far_as_there_is_room(home: House) -> None:
    clock = StillClock()
    board = Board(Terminal(home.env, io.StringIO(), io.StringIO(), clock))
    board.event(progress(percent=0.0, bytes=0))
    clock.time += 10
    board.event(progress(percent=25.0, bytes=50_000_000))
    wide, narrow, slim = (drawn(board, width) for width in (120, 70, 40))
    assert "home to 8fa2" in wide
    assert "copies" in wide
    assert "━" in wide
    assert "25 %" in wide
    assert "50 MB 5.0 MB/s 30 s left" in wide
    assert "30 s left" in narrow
    assert "MB/s" not in narrow
    assert "━" in narrow
    assert "━" not in slim
    assert all(len(line) <= 40 for line in slim.splitlines())
    board.event({"event": "ended", "run": "r1"})
    assert drawn(board, 120).strip() == ""


def test_what_the_agent_says_runs_is_what_is_drawn(home: House) -> None:
    board = Board(Terminal(home.env, io.StringIO(), io.StringIO(), StillClock()))
    board.event(progress())
    board.event(progress(run="r2", job="music"))
    run = progress(run="r2", job="music", since="2027-01-15T08:00:00+00:00", phase="stage")
    board.status({"runs": [run], "drives": [{"uuid": "8fa2", "label": "backup", "name": "x"}]})
    text = drawn(board, 120)
    assert "music to backup" in text
    assert "prepares" in text
    assert "home" not in text


@pytest.mark.parametrize(
    ("heard", "now", "rate"),
    [
        ([(0, 0)], 0, None),
        ([(0, 0), (2, 4)], 2, 2.0),
        ([(0, 0), (20, 0), (25, 50), (30, 100)], 30, 10.0),  # of the last moments
        ([(0, 0), (2, 4)], 60, None),  # long ago
        ([(0, 5), (2, 4)], 2, None),  # began anew
        ([(0, None), (2, None)], 2, None),
    ],
)
def test_a_rate_is_that_of_the_last_moments(
    heard: list[tuple[float, int | None]], now: float, rate: float | None
) -> None:
    pace = Pace(0.0)
    for moment, count in heard:
        pace.note(moment, count)
    assert pace.rate(now) == rate


class Screen:
    """A command on a terminal of its own."""

    def __init__(self, house: House, *arguments: str) -> None:
        self.master, slave = os.openpty()
        self.resize(30, 100)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "usbbackup", *arguments],
            env={**house.env, "TERM": "xterm", "COLUMNS": ""},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self.master, False)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, found: Callable[[str], object]) -> str:
        """Read until the text is there, without what moves the cursor."""
        deadline = time.monotonic() + 60
        while not found(text := self.text()):
            assert time.monotonic() < deadline, text
            time.sleep(0.02)
        return text

    def text(self) -> str:
        with suppress(BlockingIOError, OSError):
            while chunk := os.read(self.master, 65536):
                self.seen += chunk
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen.decode())

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def screen(house: House, *arguments: str) -> Iterator[Screen]:
    shown = Screen(house, *arguments)
    try:
        yield shown
    finally:
        shown.process.kill()
        shown.process.wait()
        os.close(shown.master)


def slow(living: House) -> None:
    """The job runs until it is told."""
    living.say("plug")
    living.wait_for("refused")
    (living.drive / "hold").touch()
    assert living("drives", "enrol")[0] == 0


def go_on(living: House) -> None:
    (living.drive / "hold").unlink()


HOLDING = 'command: [sh, -c, "while test -e hold; do sleep 0.1; done; echo hello; test ! -e fail"]'


@pytest.fixture
def holding(house: House) -> House:
    """The first job waits for a file to go."""
    from pathlib import Path

    file = Path(house.env["HOME"], ".config/usbbackup/config.yaml")
    text = file.read_text()
    file.write_text(re.sub(r'command: \[sh, -c, "echo.*', HOLDING, text, count=1))
    return house


def test_on_a_terminal_watch_shows_all_live_and_leaves_the_run_alone(holding: House, living: House) -> None:
    slow(living)
    with screen(living, "watch") as shown:
        text = shown.wait_for(lambda text: "hello to backup" in text)
        assert "The agent runs" in text
        shown.resize(20, 50)
        shown.process.send_signal(signal.SIGWINCH)
        go_on(living)
        shown.wait_for(lambda text: "success" in text)
        assert shown.interrupt() == 0
    assert living.json("history", "--job", "hello")[0]["outcome"] == "success"


def test_left_in_mid_run_watch_says_that_it_goes_on(holding: House, living: House) -> None:
    slow(living)
    with screen(living, "watch") as shown:
        shown.wait_for(lambda text: "hello to backup" in text)
        assert shown.interrupt() == 0
        assert "the backup goes on; `usbbackup cancel` ends it" in shown.wait_for(
            lambda text: "goes on" in text
        )
    assert "hello" in [run["job"] for run in living.json("status")["runs"]]
    go_on(living)


def test_start_wait_draws_a_bar_and_tells_the_end_or_that_it_goes_on(holding: House, living: House) -> None:
    slow(living)
    with (
        screen(living, "start", "hello", "--wait") as left,
        screen(living, "start", "hello", "--wait") as stayed,
    ):
        left.wait_for(lambda text: "hello to" in text)
        stayed.wait_for(lambda text: "hello to" in text)
        assert left.interrupt() == 130
        assert "usbbackup: the backup goes on" in left.wait_for(lambda text: "goes on" in text)
        go_on(living)
        assert stayed.process.wait(60) == 0
        assert "hello: success: the command ended well" in stayed.text()


def test_elsewhere_watch_is_lines_and_json_a_document_a_line(living: House) -> None:
    for arguments in (("watch",), ("watch", "--json")):
        with subprocess.Popen(
            [sys.executable, "-m", "usbbackup", *arguments],
            env=living.env,
            stdout=subprocess.PIPE,
            text=True,
        ) as watching:
            assert watching.stdout is not None
            first = watching.stdout.readline()
            if arguments == ("watch",):
                assert first.startswith("drive 'backup' is absent: ")
                living.say("plug")
                assert any(line.startswith("drive 'backup' is refused: ") for line in watching.stdout)
            else:
                assert json.loads(first)["event"] == "changed"
                assert json.loads(first)["run"] is None
            watching.send_signal(signal.SIGINT)
            assert watching.wait(60) == 0


def test_without_an_agent_there_is_nothing_to_watch(house: House) -> None:
    assert house("watch")[0] == Exit.NO_AGENT


def test_an_agent_that_ends_ends_the_watching(living: House) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "usbbackup", "watch"],
        env=living.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        watching.stdout.readline()
        assert living.agent is not None
        living.agent.terminate()
        living.agent.wait(60)
        assert watching.wait(60) == Exit.NO_AGENT
        assert watching.stderr.read().startswith("usbbackup: the agent has ended")
