"""The life of a process from within: init, continue, callbacks, terminate; how it is started and stopped."""

import asyncio
import logging
from typing import Any

import pytest
from otp_run import Doing, Echo, Trapping, run, settle

from usbbackup.otp import (
    NO_REPLY,
    Continue,
    ExitedError,
    Registry,
    Sender,
    Server,
    StartError,
    ask_to_stop,
    call,
    cast,
    exit,
    reply,
    self_pid,
    send,
    start,
    start_link,
    stop,
)


class Slow(Echo):
    """Takes its time in init."""

    def __init__(self, seconds: float = 1.0, error: Exception | None = None) -> None:
        super().__init__()
        self.seconds, self.error = seconds, error

    async def init(self) -> None:
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.log.append("init left")
        if self.error is not None:
            raise self.error


def test_start_returns_when_init_is_done() -> None:
    async def main() -> None:
        slow = Slow()
        pid = await start(slow)
        assert (slow.log, pid.alive, asyncio.get_running_loop().time()) == (["init left"], True, 1.0)
        await stop(pid)

    run(main())


def test_an_init_that_fails_is_told_to_the_starter_with_its_cause_and_leaves_nothing() -> None:
    async def main() -> None:
        error = OSError("no socket")
        slow = Slow(error=error)
        with pytest.raises(StartError, match="did not start: OSError") as caught:
            await start(slow)
        assert (caught.value.reason, caught.value.__cause__, slow.pid.alive) == (error, error, False)
        assert slow.log == ["init left"]

    run(main())


def test_an_init_that_fails_does_not_harm_the_parent_that_is_linked() -> None:
    async def main() -> None:
        failures: list[object] = []

        async def parent() -> None:
            try:
                await start_link(Slow(error=OSError()))
            except StartError as error:
                failures.append(error.reason)

        pid = await start(Doing(parent))
        await asyncio.sleep(2)
        assert (len(failures), pid.alive) == (1, True)
        await stop(pid)

    run(main())


def test_a_process_that_is_killed_in_init_did_not_start() -> None:
    async def main() -> None:
        slow = Slow()
        starting = asyncio.create_task(start(slow))
        await settle()
        exit(slow.pid, "kill")
        with pytest.raises(StartError, match="killed"):
            await starting

    run(main())


def test_a_start_that_is_cancelled_leaves_no_process() -> None:
    async def main() -> None:
        slow = Slow()
        starting = asyncio.create_task(start(slow))
        await settle()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert (slow.log, slow.pid.alive) == (["init left"], False)

    run(main())


def test_a_start_that_is_given_up_by_a_process_does_not_kill_that_process() -> None:
    async def main() -> None:
        async def impatient() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(start_link(Slow(9)), 1)

        pid = await start(Doing(impatient))
        await asyncio.sleep(2)
        assert pid.alive
        await stop(pid)

    run(main())


def test_a_parent_that_is_killed_while_its_child_starts_takes_it_along() -> None:
    async def main() -> None:
        slow = Slow()

        async def parent() -> None:
            await start_link(slow)

        pid = await start(Doing(parent))
        await settle()
        exit(pid, "kill")
        await pid.join()
        assert (slow.log, slow.pid.alive) == (["init left"], False)

    run(main())


def test_continue_runs_before_any_message_and_after_the_starter_went_on() -> None:
    order: list[Any] = []

    class Continuing(Echo):
        async def init(self) -> Continue:
            send(self.pid, "sent in init")
            return Continue("argument")

        async def handle_continue(self, argument: Any) -> None:
            order.append(argument)
            await asyncio.sleep(1)
            order.append("continued")

        async def handle_info(self, message: Any) -> None:
            order.append(message)

    async def main() -> None:
        server = Continuing()
        asyncio.get_running_loop().call_soon(lambda: send(server.pid, "sent before init"))
        pid = await start(server)
        order.append("starter")
        send(pid, "sent by the starter")
        assert await call(pid, "x") == "x"
        assert order == [
            "starter",
            "argument",
            "continued",
            "sent before init",
            "sent in init",
            "sent by the starter",
        ]
        await stop(pid)

    run(main())


def test_the_starter_runs_before_continue_does_anything() -> None:
    async def main() -> None:
        server = Doing(settle)
        order: list[str] = []

        async def do() -> None:
            order.append("continue")

        server.do = do
        pid = await start(server)
        order.append("starter")
        await stop(pid)
        assert order == ["starter", "continue"]

    run(main())


def test_a_process_that_fails_in_continue_has_started_and_dies() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise OSError("gone")

        pid = await start(Doing(fail))
        assert repr(await pid.join()) == "OSError('gone')"

    run(main())


def test_an_answer_can_be_given_later() -> None:
    class Later(Server):
        async def handle_call(self, request: Any, sender: Sender) -> Any:
            self.sender = sender
            return NO_REPLY

        async def handle_cast(self, message: Any) -> None:
            reply(self.sender, message)
            reply(self.sender, "a second answer is dropped")

    async def main() -> None:
        later = Later()
        pid = await start(later)
        answer = asyncio.create_task(call(pid, "question"))
        await settle()
        assert later.sender.pid is not self_pid()
        cast(pid, "answer")
        assert await answer == "answer"
        await stop(pid)

    run(main())


def test_a_late_answer_is_not_taken_for_that_of_the_next_call() -> None:
    class Collecting(Server):
        async def init(self) -> None:
            self.senders: list[Sender] = []

        async def handle_call(self, request: Any, sender: Sender) -> Any:
            self.senders.append(sender)
            return NO_REPLY

    async def main() -> None:
        server = Collecting()
        pid = await start(server)
        with pytest.raises(TimeoutError):
            await call(pid, "first", 1)
        second = asyncio.create_task(call(pid, "second"))
        await settle()
        reply(server.senders[0], "answer to the first")
        reply(server.senders[1], "answer to the second")
        assert await second == "answer to the second"
        await stop(pid)

    run(main())


def test_an_exception_in_a_callback_ends_the_process_after_terminate_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        trapping = Trapping()
        pid = await start(trapping, "worker")
        cast(pid, "crash")
        reason = await pid.join()
        assert trapping.log == [("terminate", reason)]
        assert repr(reason) == "ValueError('asked to crash')"

    run(main())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "<worker> crashed"
    ]


def test_an_exception_in_terminate_becomes_the_reason() -> None:
    class Clumsy(Server):
        async def terminate(self, reason: Any) -> None:
            raise OSError("dropped it")

    async def main() -> None:
        pid = await start(Clumsy())
        await stop(pid)
        assert repr(pid.reason) == "OSError('dropped it')"

    run(main())


def test_a_process_stops_itself_after_its_callback_and_its_answer() -> None:
    async def main() -> None:
        pid = await start(Echo())
        assert await call(pid, "stop") == "stopping"
        assert await pid.join() == "normal"

    run(main())


def test_a_process_that_wants_to_stop_in_init_starts_and_ends() -> None:
    class Brief(Server):
        async def init(self) -> None:
            self.stop("had nothing to do")

    async def main() -> None:
        assert await (await start(Brief())).join() == "had nothing to do"

    run(main())


def test_stop_comes_after_what_lies_in_the_mailbox_and_waits_for_terminate() -> None:
    async def main() -> None:
        trapping = Trapping()
        pid = await start(trapping)
        send(pid, "before")
        await stop(pid, "enough")
        assert (pid.reason, trapping.log) == ("enough", ["before", ("terminate", "enough")])
        await stop(pid)

    run(main())


def test_ask_to_stop_does_not_wait() -> None:
    async def main() -> None:
        pid = await start(Echo())
        ask_to_stop(pid)
        assert pid.alive
        assert await pid.join() == "normal"

    run(main())


def test_the_exit_signal_of_the_parent_stops_a_trapping_process_in_order() -> None:
    async def main() -> None:
        trapping = Trapping()

        async def parent() -> None:
            await start_link(trapping)

        pid = await start(Doing(parent))
        await settle()
        exit(pid, "time to go")
        assert await trapping.pid.join() == "time to go"
        assert trapping.log == [("terminate", "time to go")]

    run(main())


def test_the_same_object_can_be_started_again_after_its_end_but_not_before() -> None:
    async def main() -> None:
        echo = Echo()
        first = await start(echo)
        with pytest.raises(StartError, match="runs already"):
            await start(echo)
        await stop(first)
        second = await start(echo)
        assert await call(second, "alive") == "alive"
        assert (first.alive, second.alive) == (False, True)
        await stop(second)

    run(main())


def test_a_process_that_was_not_started_cannot_be_called() -> None:
    async def main() -> None:
        with pytest.raises(ExitedError, match="nobody"):
            await call(Echo().pid, "hello")

    run(main())


def test_calls_and_casts_that_a_server_does_not_know_end_it_and_messages_do_not() -> None:
    async def main() -> None:
        pid = await start(Server())
        send(pid, "whatever")
        with pytest.raises(ExitedError, match="does not understand the call 'what'"):
            await call(pid, "what")
        other = await start(Server())
        cast(other, "what")
        assert "does not understand the cast 'what'" in repr(await other.join())

    run(main())


def test_a_process_can_be_started_with_a_name_that_is_registered_before_its_init() -> None:
    async def main() -> None:
        registry = Registry()
        slow = Slow()
        starting = asyncio.create_task(start(slow, "slow", registry))
        await settle()
        assert registry.whereis("slow") is slow.pid
        with pytest.raises(StartError, match="AlreadyRegistered"):
            await start(Echo(), "slow", registry)
        pid = await starting
        await stop(pid)
        assert registry.names() == []

    run(main())


def test_the_name_of_a_process_whose_init_failed_is_free() -> None:
    async def main() -> None:
        registry = Registry()
        with pytest.raises(StartError):
            await start(Slow(error=OSError()), "slow", registry)
        assert registry.names() == []

    run(main())


def test_a_parent_that_died_before_its_child_was_up_ends_the_child() -> None:
    async def main() -> None:
        children: list[asyncio.Task[Any]] = []
        slow = Slow()

        async def start_on_the_side() -> None:
            children.append(asyncio.create_task(start_link(slow)))

        pid = await start(Doing(start_on_the_side))
        await settle()
        await stop(pid)
        await asyncio.wait(children)
        assert await slow.pid.join() == "noproc"

    run(main())
