"""What an agent that was killed has left behind: engines that may still run, and runs without an end."""

import asyncio
import os
import signal
from contextlib import suppress

from usbbackup import kernel
from usbbackup.child import members, one_ends
from usbbackup.history import History, RunRecord
from usbbackup.outcome import Outcome, Result
from usbbackup.text import safe

PATIENCE = 10.0  # seconds between TERM and KILL


async def end_left_over(history: History) -> list[str]:
    """End left-over engines, mark their runs as interrupted, and return a line for each."""
    return [await _end(history, run) for run in history.unfinished()]


async def _end(history: History, run: RunRecord) -> str:
    ended = await _end_engine(run)
    message = "the agent ended before the run did"
    if ended:
        message += "; its engine was still running and was ended"
    result = Result(Outcome.INTERRUPTED, message, "the next run on this drive goes on from there")
    history.end_run(run.run, result)
    return f"run {safe(run.run)} of job '{safe(run.job)}': {message}"


async def _end_engine(run: RunRecord) -> bool:
    pid = run.engine_pid
    if pid is None or not _is_the_engine(run) or not members(pid):
        return False
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await one_ends([pid])
        os.killpg(pid, signal.SIGKILL)  # whoever of the group has not gone yet
    return True


def _is_the_engine(run: RunRecord) -> bool:
    """A process id is used again; with its start time, in one boot, it names one process for good."""
    return (
        run.engine_pid is not None
        and run.boot_id == kernel.boot_id()
        and kernel.process_start_time(run.engine_pid) == run.engine_ticks
    )
