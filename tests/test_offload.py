"""Blocking work beside the event loop."""

import asyncio
import subprocess
import sys
import threading
from queue import SimpleQueue

import pytest

from usbbackup.offload import in_thread


def test_what_the_thread_returns_comes_back():
    assert asyncio.run(in_thread(lambda a, b: a + b, 2, 3)) == 5


def test_what_the_thread_raises_is_raised_to_the_one_who_waits():
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(lambda: 1 // 0))


def test_a_cancelled_wait_returns_at_once_and_what_the_thread_brings_later_is_given_away():
    release, finished = threading.Event(), threading.Event()
    late = SimpleQueue[str]()

    def stuck() -> str:
        release.wait()
        finished.set()
        return "too late"

    async def main() -> None:
        waiting = asyncio.create_task(in_thread(stuck, unwanted=late.put))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        release.set()
        await in_thread(finished.wait)

    asyncio.run(main())
    assert finished.is_set()
    assert late.get(timeout=60) == "too late"


def test_what_arrives_in_the_moment_of_the_cancellation_is_given_away_too():
    async def main() -> list[str]:
        late: list[str] = []
        waiting = asyncio.create_task(in_thread(lambda: "just in time", unwanted=late.append))
        await asyncio.sleep(0)
        for thread in threading.enumerate():
            if thread.name.startswith("offload"):
                thread.join(timeout=60)  # the loop cannot hear of it meanwhile
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return late

    assert asyncio.run(main()) == ["just in time"]


def test_a_thread_that_never_ends_does_not_keep_the_program_from_ending():
    program = """
import asyncio, threading
from usbbackup.offload import in_thread

async def main():
    waiting = asyncio.create_task(in_thread(threading.Event().wait))
    await asyncio.sleep(0)
    waiting.cancel()

asyncio.run(main())
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
