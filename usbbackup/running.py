"""A child process while it runs: what goes in and comes out, and how its whole group is brought to an end."""

import asyncio
import contextlib
import io
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import BinaryIO

from usbbackup.child import Child, one_ends
from usbbackup.clock import Clock, Timer
from usbbackup.kernel import opens_pipe, process_start_time

Sink = Callable[[bytes], None]  # gets chunks as they come, and `b""` once at the end
Feed = Callable[[BinaryIO], None]  # writes all of a program's stdin; runs in a thread
Steps = tuple[tuple[int, float], ...]  # a signal, and how many seconds it is given before the next

FIRMLY: Steps = ((signal.SIGTERM, 10.0),)
LAST: Steps = ((signal.SIGKILL, 10.0),)

_CHUNK = 1 << 16
_LAST_CHUNKS = 16  # a pipe holds no more once its writers are gone


class Running:
    """One child and its group; `trouble` is the first thing that a sink or the feed raised."""

    def __init__(self, child: Child, clock: Clock) -> None:
        self.trouble: BaseException | None = None
        self._child, self._clock = child, clock
        self._loop = asyncio.get_running_loop()
        self._given_up: asyncio.Future[None] = self._loop.create_future()
        self._over = threading.Event()
        self._timer: Timer | None = None
        self._fed = False
        self._outputs: list[Output] = []

    def begin(
        self,
        feed: Feed | None,
        on_stdout: tuple[Sink, ...],
        on_stderr: tuple[Sink, ...],
        on_start: Callable[[int, int], None] | None,
    ) -> None:
        """Connect both ends of everything, and let the program go."""
        self._outputs = [
            Output(self._child.stdout, on_stdout, self._fail),
            Output(self._child.stderr, on_stderr, self._fail),
        ]
        if on_start is not None:
            on_start(self._child.pid, process_start_time(self._child.pid) or 0)
        self._child.go()
        if feed is not None:
            self._fed = True  # from here on the pipe is the thread's to close
            threading.Thread(target=self._feed, args=(feed,), name="feed", daemon=True).start()
        else:
            self._child.stdin.close()

    def climb(self, steps: Steps) -> None:
        """Signal the group, ever harder; after the last step it is given up."""
        if self._timer is not None:
            self._timer.cancel()
        if steps:
            (number, seconds), *harder = steps
            self._child.signal(number)
            self._timer = self._clock.later(seconds, lambda: self.climb(tuple(harder)))
        elif not self._given_up.done():
            self._given_up.set_result(None)

    def opening_pipes(self) -> set[int]:
        """Those of the group that wait for the other end of a named pipe."""
        return set(filter(opens_pipe, self._child.members()))

    async def end(self) -> tuple[int, tuple[int, ...]]:
        """Wait for its end, and end what it leaves behind: the exit code, and who could not be killed."""
        code = await self._gone(FIRMLY + LAST)
        for output in self._outputs:
            output.finish()
        return code, tuple(self._child.members()) if self._given_up.done() else ()

    async def kill(self) -> None:
        """End it at once."""
        self.climb(LAST)
        await self._gone(LAST)

    def close(self) -> None:
        """Let go of everything that is still open here."""
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        for output in self._outputs:
            output.close()
        for pipe in (self._child.stdout, self._child.stderr) + (() if self._fed else (self._child.stdin,)):
            pipe.close()

    async def _gone(self, steps: Steps) -> int:
        """Wait for the leader, then end the rest of the group by `steps`."""
        await self._unless_given_up(self._child.exited())
        if self._given_up.done():
            return -signal.SIGKILL
        self.climb(steps)
        code = self._child.reap()
        while (members := self._child.members()) and not self._given_up.done():
            await self._unless_given_up(one_ends(members))
        return code

    async def _unless_given_up(self, waiting: Awaitable[None]) -> None:
        task = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait((task, self._given_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
        if task.done():
            task.result()

    def _fail(self, error: BaseException) -> None:
        if self.trouble is None:
            self.trouble = error
            if self._timer is None:  # a feed also fails because the run is being stopped, politely
                self.climb(FIRMLY + LAST)

    def _feed(self, feed: Feed) -> None:
        pipe = io.BufferedWriter(self._child.stdin, _CHUNK)
        try:
            feed(pipe)
            pipe.flush()
        except BrokenPipeError:
            pass  # it ended, or has heard enough
        except BaseException as error:  # noqa: BLE001 - it belongs to the one who runs the program
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it everyone who could care
                self._loop.call_soon_threadsafe(self._fail, error)
            self._over.wait()  # not before: the program would take half of its input for all of it
        with contextlib.suppress(BrokenPipeError):
            pipe.close()


class Output:
    """One output pipe of a program, and the sinks that it goes to."""

    def __init__(
        self, pipe: io.FileIO, sinks: tuple[Sink, ...], fail: Callable[[BaseException], None]
    ) -> None:
        self._pipe, self._sinks, self._fail = pipe, sinks, fail
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pipe.fileno(), self._readable)

    def finish(self) -> None:
        """Take what is still in the pipe, but do not wait for whoever else may hold it open."""
        for _ in range(_LAST_CHUNKS):
            if self._pipe.closed or not self._readable():
                break
        self.close()
        self._give(b"")

    def close(self) -> None:
        """Stop listening."""
        if not self._pipe.closed:
            self._loop.remove_reader(self._pipe.fileno())
            self._pipe.close()

    def _readable(self) -> bool:
        try:
            chunk = os.read(self._pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if chunk:
            self._give(chunk)
        else:
            self.close()
        return bool(chunk)

    def _give(self, chunk: bytes) -> None:
        for sink in self._sinks:
            try:
                sink(chunk)
            except Exception as error:  # noqa: BLE001 - it belongs to the one who runs the program
                self._fail(error)
