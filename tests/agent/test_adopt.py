"""What a new agent finds of one that was killed."""

import asyncio
import os
import subprocess

import pytest

from usbbackup import kernel
from usbbackup.agent.adopt import end_left_over
from usbbackup.clock import SystemClock
from usbbackup.history import History
from usbbackup.outcome import Outcome


@pytest.fixture
def history(tmp_path):
    found = History.open(tmp_path / "history.db", SystemClock())
    yield found
    found.close()


def left_over(history, process):
    """A run without an end whose engine is this process; returns what is said of it."""
    history.begin_run("r1", "home", "uuid", "a1", 1.0, "")
    history.engine("r1", process.pid, kernel.process_start_time(process.pid))
    asyncio.run(end_left_over(history))
    (run,) = history.runs()
    assert run.outcome is Outcome.INTERRUPTED
    return run.message


def test_an_engine_that_still_runs_is_ended_and_this_is_told(history):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as engine:
        assert "its engine was still running and was ended" in left_over(history, engine)
        assert engine.wait() == -15


def test_an_engine_that_only_waits_to_be_reaped_is_not_said_to_run(history):
    with subprocess.Popen(["true"], start_new_session=True) as engine:
        os.waitid(os.P_PID, engine.pid, os.WEXITED | os.WNOWAIT)
        assert left_over(history, engine) == "the agent ended before the run did"


def test_a_process_that_is_not_the_engine_is_left_alone(history):
    """The number is used again: it does not run since the same moment."""
    history.begin_run("r1", "home", "uuid", "a1", 1.0, "")
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        history.engine("r1", other.pid, kernel.process_start_time(other.pid) - 1)
        asyncio.run(end_left_over(history))
        assert other.poll() is None
        other.kill()
    (run,) = history.runs()
    assert (run.outcome, run.message) == (Outcome.INTERRUPTED, "the agent ended before the run did")
