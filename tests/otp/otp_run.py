"""What tests of processes share: a loop whose time jumps, a check that nothing is left, a few processes."""

import asyncio
import gc
import logging
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from usbbackup.otp import Continue, Exit, Pid, Sender, Server, stop
from usbbackup.otp import process as process_module


class JumpingSelector(selectors.DefaultSelector):
    """Where nothing is ready, time jumps to the next timer; without one, the test would hang, and fails."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("everything waits, and nothing will ever happen")
            self.now += timeout
        return events


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.jumping = JumpingSelector()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now


class Complaints(logging.Handler):
    """All that asyncio warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class World:
    """A loop on which several coroutines run one after the other, and processes live on in between."""

    def __init__(self, debug: bool | None = True) -> None:
        self.runner = asyncio.Runner(debug=debug, loop_factory=JumpingLoop)
        self.complaints = Complaints()
        logging.getLogger("asyncio").addHandler(self.complaints)

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(main)

    def check(self) -> None:
        """Fail where a task was left, or asyncio had something to complain of."""
        left = asyncio.all_tasks(self.runner.get_loop())
        assert not left, left
        gc.collect(1)  # tasks and futures complain when they are collected
        assert not self.complaints.lines, self.complaints.lines
        assert not process_module._TASKS, process_module._TASKS

    def close(self) -> None:
        self.runner.close()
        logging.getLogger("asyncio").removeHandler(self.complaints)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a test; nothing may be left of it."""
    world = World()
    try:
        value = world.run(main)
        world.check()
    finally:
        world.close()
    return value


async def settle() -> None:
    """Let everything happen that needs no time: the loop's time jumps only when nothing else is to do."""
    await asyncio.sleep(1e-6)


class Echo(Server):
    """Answers what it is asked, and keeps what it is told."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log = [] if log is None else log

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        match request:
            case "crash":
                raise ValueError("asked to crash")
            case "stop":
                self.stop()
                return "stopping"
            case ("wait", seconds):
                await asyncio.sleep(seconds)
        return request

    async def handle_cast(self, message: Any) -> None:
        if message == "crash":
            raise ValueError("asked to crash")
        self.log.append(message)

    async def handle_info(self, message: Any) -> None:
        self.log.append(message)


class Trapping(Echo):
    """As Echo, but told of exit signals."""

    trap_exits = True

    async def terminate(self, reason: Any) -> None:
        self.log.append(("terminate", reason))


class Doing(Server):
    """Runs one coroutine function inside a process, and stays until it is told to leave."""

    def __init__(self, do: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.do = do

    async def init(self) -> Continue:
        return Continue()

    async def handle_continue(self, argument: Any) -> None:
        await self.do()


class Stubborn(Server):
    """Cannot be ended: it swallows every cancellation until `free` is set."""

    def __init__(self) -> None:
        self.free = False

    async def handle_cast(self, message: Any) -> None:
        while not self.free:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue


async def gone(*pids: Pid) -> None:
    """Stop processes."""
    for pid in pids:
        await stop(pid)


def exits(messages: list[Any]) -> list[tuple[Pid | None, Any]]:
    return [(message.pid, message.reason) for message in messages if isinstance(message, Exit)]
