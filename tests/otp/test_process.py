"""Identity, mailbox, signals: what others see of a process."""

import asyncio
from typing import Any

import pytest
from otp_run import Doing, Echo, Stubborn, Trapping, exits, gone, run, settle

from usbbackup.otp import (
    CallTimeoutError,
    Down,
    ExitedError,
    Pid,
    Server,
    call,
    cast,
    demonitor,
    exit,
    link,
    monitor,
    self_pid,
    send,
    start,
    start_link,
    stop,
    unlink,
)


def test_messages_are_handled_in_the_order_in_which_they_were_sent() -> None:
    async def main() -> None:
        echo = Echo()
        pid = await start(echo)
        for n in range(300):
            (send if n % 2 else cast)(pid, n)
        await call(pid, "a call comes after all of them")
        assert list(range(300)) == echo.log
        await stop(pid)

    run(main())


def test_ten_thousand_messages_go_through_one_process() -> None:
    async def main() -> None:
        echo = Echo()
        pid = await start(echo)
        for n in range(10_000):
            send(pid, n)
        assert await call(pid, "done") == "done"
        assert len(echo.log) == 10_000
        await stop(pid)

    run(main())


def test_a_process_that_always_has_messages_lets_others_run() -> None:
    class Busy(Echo):
        async def handle_info(self, message: Any) -> None:
            send(self.pid, message + 1)

    async def main() -> None:
        pid = await start(Busy())
        send(pid, 0)
        for _ in range(10):
            await asyncio.sleep(0)
        exit(pid, "kill")
        assert await pid.join() == "killed"

    run(main())


def test_a_message_to_a_dead_process_is_dropped() -> None:
    async def main() -> None:
        echo = Echo()
        pid = await start(echo)
        await stop(pid)
        send(pid, "too late")
        cast(pid, "too late")
        exit(pid, "kill")
        assert (pid.alive, pid.reason, echo.log, len(pid.mailbox)) == (False, "normal", [], 0)

    run(main())


def test_a_message_that_is_left_in_the_mailbox_of_a_process_that_stops_is_dropped() -> None:
    async def main() -> None:
        echo = Echo()
        pid = await start(echo)
        answer = asyncio.create_task(call(pid, "stop"))
        await asyncio.sleep(0)
        send(pid, "after")
        assert await answer == "stopping"
        assert await pid.join() == "normal"
        assert (echo.log, len(pid.mailbox)) == ([], 0)

    run(main())


def test_a_call_waits_no_longer_than_its_time_limit_and_a_late_reply_is_dropped() -> None:
    async def main() -> None:
        pid = await start(Echo())
        with pytest.raises(CallTimeoutError, match=r"did not answer within 2 s"):
            await call(pid, ("wait", 3), 2)
        assert await call(pid, "next") == "next"
        await stop(pid)

    run(main())


def test_nothing_is_kept_of_calls_that_are_over() -> None:
    """Answered, too late, or given up by the caller: a process that lives long must not grow."""

    async def main() -> None:
        pid = await start(Echo())
        assert await call(pid, "first") == "first"
        with pytest.raises(CallTimeoutError):
            await call(pid, ("wait", 3), 2)
        given_up = asyncio.create_task(call(pid, "second"))
        await asyncio.sleep(0)
        assert len(pid._awaited) == 1
        given_up.cancel()
        await asyncio.wait([given_up])
        assert not pid._awaited
        await stop(pid)

    run(main())


def test_a_call_of_a_dead_process_fails_at_once() -> None:
    async def main() -> None:
        pid = await start(Echo())
        await stop(pid)
        with pytest.raises(ExitedError) as caught:
            await call(pid, "anybody there?")
        assert caught.value.reason == "noproc"

    run(main())


def test_a_call_fails_when_the_process_dies_before_it_answers() -> None:
    async def main() -> None:
        pid = await start(Echo())
        with pytest.raises(ExitedError) as caught:
            await call(pid, "crash", None)
        assert repr(caught.value.reason) == "ValueError('asked to crash')"
        assert pid.reason is caught.value.reason

    run(main())


def test_all_calls_that_wait_fail_when_the_process_is_killed() -> None:
    async def main() -> None:
        pid = await start(Echo())
        calls = [asyncio.create_task(call(pid, ("wait", 9), None)) for _ in range(3)]
        await settle()
        exit(pid, "kill")
        failures = await asyncio.gather(*calls, return_exceptions=True)
        assert [getattr(failure, "reason", None) for failure in failures] == ["killed"] * 3

    run(main())


def test_a_process_that_calls_itself_is_told_so() -> None:
    class Narcissus(Server):
        async def handle_call(self, request: Any, sender: Any) -> Any:
            return await call(self.pid, request)

    async def main() -> None:
        pid = await start(Narcissus())
        with pytest.raises(ExitedError, match="called itself"):
            await call(pid, "who is it?")

    run(main())


def test_an_ordinary_task_cannot_be_called() -> None:
    async def main() -> None:
        with pytest.raises(ExitedError, match="noproc"):
            await call(self_pid(), "hello")
        send(self_pid(), "no mailbox")
        assert len(self_pid().mailbox) == 0

    run(main())


def test_linked_processes_die_together() -> None:
    async def main() -> None:
        other = await start(Echo())

        async def tie() -> None:
            link(other)

        one = await start(Doing(tie))
        await settle()
        cast(other, "crash")
        assert repr(await one.join()) == "ValueError('asked to crash')"

    run(main())


def test_a_link_works_both_ways() -> None:
    async def main() -> None:
        other = await start(Echo())

        async def tie() -> None:
            link(other)

        one = await start(Doing(tie))
        await settle()
        exit(one, "some reason")
        assert await other.join() == "some reason"

    run(main())


def test_a_normal_end_does_not_take_linked_processes_along() -> None:
    async def main() -> None:
        other = await start(Echo())

        async def tie() -> None:
            link(other)

        one = await start(Doing(tie))
        await settle()
        await stop(one)
        await settle()
        assert other.alive
        await stop(other)

    run(main())


def test_a_process_that_was_unlinked_lives_on() -> None:
    async def main() -> None:
        other = await start(Echo())

        async def tie_and_untie() -> None:
            link(other)
            unlink(other)

        one = await start(Doing(tie_and_untie))
        await settle()
        exit(one, "kill")
        await one.join()
        await settle()
        assert other.alive
        await stop(other)

    run(main())


def test_a_link_to_a_dead_process_is_an_exit_signal_noproc() -> None:
    async def main() -> None:
        other = await start(Echo())
        await stop(other)

        async def tie() -> None:
            link(other)
            await asyncio.sleep(9)

        one = await start(Doing(tie))
        assert await one.join() == "noproc"

    run(main())


def test_a_process_that_traps_exits_gets_them_as_messages_and_lives_on() -> None:
    async def main() -> None:
        trapping = Trapping()
        pid = await start(trapping)
        other = await start(Echo())
        link(pid, other)
        cast(other, "crash")
        await settle()
        exit(pid, "normal")
        exit(pid, "shutdown")
        await settle()
        assert exits(trapping.log) == [(other, other.reason), (None, "normal"), (None, "shutdown")]
        await stop(pid)
        assert trapping.log[-1] == ("terminate", "normal")

    run(main())


def test_kill_cannot_be_trapped_and_runs_no_terminate() -> None:
    async def main() -> None:
        trapping = Trapping()
        pid = await start(trapping)
        exit(pid, "kill")
        assert await pid.join() == "killed"
        assert trapping.log == []

    run(main())


def test_the_death_of_a_killed_process_can_be_trapped_by_those_linked_to_it() -> None:
    async def main() -> None:
        trapping = Trapping()
        pid, other = await start(trapping), await start(Echo())
        link(pid, other)
        exit(other, "kill")
        await settle()
        assert exits(trapping.log) == [(other, "killed")]
        await stop(pid)

    run(main())


def test_the_exit_signal_normal_ends_nobody() -> None:
    async def main() -> None:
        pid = await start(Echo())
        exit(pid, "normal")
        assert await call(pid, "alive") == "alive"
        await stop(pid)

    run(main())


def test_a_second_exit_signal_does_not_disturb_the_clearing_up_of_the_first() -> None:
    cleared = []

    class Careful(Echo):
        async def handle_cast(self, message: Any) -> None:
            try:
                await asyncio.sleep(99)
            finally:
                await asyncio.sleep(1)
                cleared.append(message)

    async def main() -> None:
        pid = await start(Careful())
        cast(pid, "work")
        await settle()
        exit(pid, "first")
        await settle()
        exit(pid, "second")
        assert await pid.join() == "first"
        assert cleared == ["work"]

    run(main())


def test_an_exit_signal_that_code_swallows_ends_the_process_after_the_callback() -> None:
    class Deaf(Echo):
        async def handle_cast(self, message: Any) -> None:
            try:
                await asyncio.sleep(99)
            except asyncio.CancelledError:
                self.log.append("swallowed")

    async def main() -> None:
        deaf = Deaf()
        pid = await start(deaf)
        cast(pid, "work")
        cast(pid, "never begun")
        await settle()
        exit(pid, "leave")
        assert await pid.join() == "leave"
        assert deaf.log == ["swallowed"]

    run(main())


def test_a_process_can_send_itself_an_exit_signal() -> None:
    async def main() -> None:
        async def leave() -> None:
            exit(self_pid(), "had enough")

        assert await (await start(Doing(leave))).join() == "had enough"

    run(main())


def test_monitor_tells_the_death_once_with_its_reason() -> None:
    async def main() -> None:
        other = await start(Echo())
        refs = []

        class Watching(Echo):
            async def init(self) -> None:
                refs.append(monitor(other))

        watcher = Watching()
        pid = await start(watcher)
        exit(other, "bye")
        await settle()
        exit(other, "bye again")
        await settle()
        assert watcher.log == [Down(refs[0], other, "bye")]
        await stop(pid)

    run(main())


def test_monitor_of_a_dead_process_tells_noproc_once() -> None:
    async def main() -> None:
        other = await start(Echo())
        await stop(other)

        class Watching(Echo):
            async def init(self) -> None:
                monitor(other)

        watcher = Watching()
        pid = await start(watcher)
        await settle()
        assert [message.reason for message in watcher.log] == ["noproc"]
        await stop(pid)

    run(main())


def test_demonitor_takes_a_down_out_of_the_mailbox() -> None:
    async def main() -> None:
        other = await start(Echo())

        class Fickle(Echo):
            async def init(self) -> None:
                self.ref = monitor(other)

            async def handle_cast(self, message: Any) -> None:
                exit(other, "bye")
                await other.join()
                assert len(self.pid.mailbox) == 3
                demonitor(self.ref)

        fickle = Fickle()
        pid = await start(fickle)
        cast(pid, "go")
        send(pid, "next")
        assert await call(pid, "end") == "end"
        await settle()
        assert fickle.log == ["next"]
        await stop(pid)

    run(main())


def test_demonitor_leaves_the_downs_of_other_monitors_in_the_mailbox() -> None:
    async def main() -> None:
        other = await start(Echo())

        class Fickle(Echo):
            async def handle_cast(self, message: Any) -> None:
                ref, self.kept = monitor(other), monitor(other)
                await stop(other)
                demonitor(ref)

        fickle = Fickle()
        pid = await start(fickle)
        cast(pid, "go")
        await settle()
        assert fickle.log == [Down(fickle.kept, other, "normal")]
        await stop(pid)

    run(main())


def test_demonitor_before_the_death_tells_nothing_and_spares_other_monitors() -> None:
    async def main() -> None:
        other = await start(Echo())

        class Fickle(Echo):
            async def init(self) -> None:
                demonitor(monitor(other))
                self.kept = monitor(other)

        fickle = Fickle()
        pid = await start(fickle)
        await stop(other)
        await settle()
        assert fickle.log == [Down(fickle.kept, other, "normal")]
        await stop(pid)

    run(main())


def test_a_process_whose_only_message_is_taken_back_before_it_wakes_sleeps_on() -> None:
    async def main() -> None:
        other = await start(Echo())

        async def monitor_and_regret() -> None:
            ref = monitor(other)
            await other.join()
            demonitor(ref)

        class Helped(Echo):
            async def init(self) -> None:
                self.helper = asyncio.create_task(monitor_and_regret())

        helped = Helped()
        pid = await start(helped)
        await stop(other)
        await settle()
        assert await call(pid, "awake") == "awake"
        assert (helped.helper.done(), helped.log) == (True, [])
        await stop(pid)

    run(main())


def test_monitors_of_a_process_go_with_it() -> None:
    async def main() -> None:
        other = await start(Echo())

        async def observe() -> None:
            monitor(other)

        for _ in range(3):
            pid = await start(Doing(observe))
            await settle()
            await gone(pid)
        assert not other._watches
        await stop(other)

    run(main())


def test_code_in_a_process_and_in_tasks_that_it_made_speaks_for_the_process() -> None:
    async def main() -> None:
        seen: list[Pid] = []

        async def look() -> None:
            seen.append(self_pid())

        async def look_twice() -> None:
            await look()
            await asyncio.create_task(look())

        pid = await start(Doing(look_twice))
        await settle()
        assert seen == [pid, pid]
        await stop(pid)

    run(main())


def test_an_ordinary_task_has_one_pid_that_dies_with_it() -> None:
    async def main() -> None:
        async def ordinary() -> Pid:
            assert self_pid() is self_pid()
            return self_pid()

        pid = await asyncio.create_task(ordinary())
        assert (await pid.join(), pid is self_pid()) == ("normal", False)

    run(main())


def test_code_outside_of_any_task_has_no_pid() -> None:
    async def main() -> None:
        failed: asyncio.Future[RuntimeError] = asyncio.get_running_loop().create_future()

        def callback() -> None:
            try:
                self_pid()
            except RuntimeError as error:
                failed.set_result(error)

        asyncio.get_running_loop().call_soon(callback)
        assert "outside" in str(await failed)

    run(main())


def test_an_ordinary_task_can_be_linked_and_is_cancelled_with_the_process() -> None:
    async def main() -> None:
        async def ordinary() -> None:
            cast(await start_link(Echo()), "crash")
            await asyncio.sleep(9)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(ordinary())

    run(main())


def test_a_cancelled_task_counts_as_killed() -> None:
    async def main() -> None:
        pid = await start(Echo())
        assert pid.task is not None
        pid.task.cancel()
        assert await pid.join() == "killed"

    run(main())


def test_a_coroutine_that_cannot_be_ended_stays_doomed_until_it_yields() -> None:
    async def main() -> None:
        stubborn = Stubborn()
        pid = await start(stubborn)
        cast(pid, "work")
        await settle()
        exit(pid, "kill")
        await asyncio.sleep(5)
        assert (pid.alive, pid.doomed) == (True, True)
        stubborn.free = True
        assert await pid.join() == "killed"

    run(main())


def test_a_process_shows_itself_by_name() -> None:
    async def main() -> None:
        named, unnamed = await start(Echo(), "dispatcher"), await start(Echo())
        assert repr(named) == "<dispatcher>"
        assert repr(unnamed).startswith("<Echo.")
        await gone(named, unnamed)

    run(main())
