"""Beside an agent that runs and says nothing."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.house import House
from usbbackup.errors import SilentAgentError
from usbbackup.varlink import Client


@pytest.fixture
def silent(house: House) -> Iterator[House]:
    """Somebody listens on the socket, and never answers."""
    runtime = Path(house.env["XDG_RUNTIME_DIR"], "usbbackup")
    runtime.mkdir(mode=0o700)
    (runtime / "agent.lock").write_text("4711\n")
    house.patience = 0.1
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(runtime / "control.sock"))
        listening.listen()
        yield house


def test_status_says_so_and_tells_what_can_be_seen(silent: House) -> None:
    """It does not wait for long, and ends with 0 as always."""
    code, out, err = silent("status")
    assert code == 0
    assert out.startswith("The agent (process 4711) does not answer.\n")
    assert "hello" in out
    assert "the agent does not answer; this is what can be seen without it" in err


def test_scripts_are_told_that_it_runs_and_nothing_else_of_it(silent: House) -> None:
    """What is unknown is null."""
    code, out, _ = silent("status", "--json")
    assert code == 0
    agent = json.loads(out)["agent"]
    assert agent == {"running": True, "pid": 4711, "version": None, "since": None}


def test_the_tree_cannot_be_shown(silent: House) -> None:
    """It is in the agent alone."""
    code, _, err = silent("status", "--tree")
    assert (code, "systemctl --user restart usbbackup" in err) == (69, True)


def test_a_run_that_is_not_begun_in_time_is_not_waited_for(silent: House) -> None:
    """The agent has to say that it begins; how long a run then takes is another matter."""
    socket_path = Path(silent.env["XDG_RUNTIME_DIR"], "usbbackup/control.sock")
    with Client.connect(socket_path) as agent, pytest.raises(SilentAgentError):
        next(agent.call_more("Start", 0.1))


def test_history_and_decisions_are_told(silent: House) -> None:
    """They are read from the database."""
    assert silent.json("history") == []
    assert silent.json("why") == []
    code, _, err = silent("why", "hello")  # of which nothing is known yet
    assert (code, "the agent does not answer" in err) == (69, True)
