"""Supervisors: start in order, restart by strategy, escalate, stop in reverse."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from otp_run import Echo, Stubborn, run, settle

from usbbackup.otp import (
    AlreadyStarted,
    ChildSpec,
    Count,
    DynamicSupervisor,
    Exit,
    ExitedError,
    NotFound,
    Pid,
    Registry,
    Server,
    StartError,
    Supervisor,
    call,
    cast,
    count_children,
    exit,
    send,
    start,
    start_child,
    stop,
    terminate_child,
    tree,
    which_children,
)

Log = list[tuple[str, str]]


class Member(Echo):
    """Writes its starts and ends into a common log; its init can be made to fail or to take time."""

    trap_exits = True

    def __init__(self, name: str, journal: Log, init: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self.name, self.journal, self.before = name, journal, init

    async def init(self) -> None:
        if self.before is not None:
            await self.before()
        self.journal.append(("start", self.name))

    async def terminate(self, reason: Any) -> None:
        self.journal.append(("end", self.name))


def members(journal: Log, names: str, **options: Any) -> list[ChildSpec]:
    """One child spec per letter."""
    return [ChildSpec(name, partial(Member, name, journal), **options) for name in names]


async def pids(supervisor: Pid) -> dict[Any, Pid | None]:
    return {child.id: child.pid for child in await which_children(supervisor)}


async def crash(supervisor: Pid, name: str) -> None:
    """Have one child end abnormally, and let its supervisor deal with that."""
    pid = (await pids(supervisor))[name]
    assert pid is not None
    exit(pid, "kill")
    await settle()


def words(journal: Log) -> str:
    """The log in short: +a started, -a ended in order."""
    return " ".join({"start": "+", "end": "-"}[what] + name for what, name in journal)


def test_children_start_in_order_and_stop_in_reverse() -> None:
    async def main() -> None:
        journal: Log = []
        supervisor = await start(Supervisor(members(journal, "abc")))
        assert words(journal) == "+a +b +c"
        await stop(supervisor)
        assert words(journal) == "+a +b +c -c -b -a"

    run(main())


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", "+b"),
        ("one_for_all", "-c -a +a +b +c"),
        ("rest_for_one", "-c +b +c"),
    ],
)
def test_the_strategy_decides_who_is_restarted_with_a_child_that_died(strategy: Any, expected: str) -> None:
    async def main() -> None:
        journal: Log = []
        supervisor = await start(Supervisor(members(journal, "abc"), strategy))
        before = await pids(supervisor)
        journal.clear()
        await crash(supervisor, "b")
        assert words(journal) == expected
        after = await pids(supervisor)
        assert [name for name in "abc" if before[name] is after[name]] == [
            n for n in "abc" if n not in expected
        ]
        assert all(pid and pid.alive for pid in after.values())
        await stop(supervisor)

    run(main())


@pytest.mark.parametrize(
    ("restart", "reason", "expected"),
    [
        ("permanent", "normal", 2),
        ("transient", "normal", 1),
        ("transient", "shutdown", 1),
        ("transient", "odd", 2),
        ("temporary", "odd", 1),
    ],
)
def test_the_restart_kind_decides_whether_a_child_is_restarted(
    restart: Any, reason: str, expected: int
) -> None:
    async def main() -> None:
        journal: Log = []
        supervisor = await start(Supervisor(members(journal, "a", restart=restart)))
        child = (await pids(supervisor))["a"]
        assert child is not None
        await stop(child, reason)
        await settle()
        assert words(journal).count("+a") == expected
        await stop(supervisor)

    run(main())


def test_a_temporary_child_that_ended_is_forgotten_and_a_transient_one_is_not() -> None:
    async def main() -> None:
        specs = members([], "a", restart="temporary") + members([], "b", restart="transient")
        supervisor = await start(Supervisor(specs))
        for pid in (await pids(supervisor)).values():
            assert pid is not None
            await stop(pid)
        assert await pids(supervisor) == {"b": None}
        await stop(supervisor)

    run(main())


def test_a_temporary_child_is_not_restarted_when_a_sibling_takes_it_along() -> None:
    async def main() -> None:
        journal: Log = []
        specs = members(journal, "a") + members(journal, "b", restart="temporary") + members(journal, "c")
        supervisor = await start(Supervisor(specs, "one_for_all"))
        journal.clear()
        await crash(supervisor, "a")
        assert words(journal) == "-c -b +a +c"
        assert list(await pids(supervisor)) == ["a", "c"]
        await stop(supervisor)

    run(main())


def test_more_restarts_than_allowed_end_the_supervisor_with_all_children() -> None:
    async def main() -> None:
        journal: Log = []
        supervisor = await start(Supervisor(members(journal, "ab"), max_restarts=2, max_seconds=5))
        for _ in range(2):
            await crash(supervisor, "a")
        assert supervisor.alive
        await crash(supervisor, "a")
        assert supervisor.reason == "shutdown"
        assert words(journal) == "+a +b +a +a -b"

    run(main())


def test_restarts_that_lie_further_apart_than_the_window_do_not_add_up() -> None:
    async def main() -> None:
        supervisor = await start(Supervisor(members([], "a"), max_restarts=1, max_seconds=5))
        for _ in range(9):
            await crash(supervisor, "a")
            await asyncio.sleep(5.1)
        assert supervisor.alive
        await stop(supervisor)

    run(main())


def test_a_supervisor_that_gives_up_is_restarted_by_its_own() -> None:
    async def main() -> None:
        journal: Log = []
        lower = ChildSpec(
            "lower", lambda: Supervisor(members(journal, "a"), max_restarts=0), type="supervisor"
        )
        upper = await start(Supervisor([lower, *members(journal, "b")], max_restarts=1))
        first = (await pids(upper))["lower"]
        assert first is not None
        await crash(first, "a")
        second = (await pids(upper))["lower"]
        assert second is not None
        assert (second is first, second.alive, words(journal)) == (False, True, "+a +b +a")
        await crash(second, "a")
        assert upper.reason == "shutdown"

    run(main())


def test_an_init_that_fails_makes_the_supervisor_fail_and_stops_what_had_started() -> None:
    async def main() -> None:
        journal: Log = []

        async def fail() -> None:
            raise OSError("no device")

        specs = [
            *members(journal, "ab"),
            ChildSpec("c", lambda: Member("c", journal, fail)),
            *members(journal, "d"),
        ]
        with pytest.raises(StartError, match="no device"):
            await start(Supervisor(specs))
        assert words(journal) == "+a +b -b -a"

    run(main())


def test_a_spec_whose_function_fails_did_not_start() -> None:
    async def main() -> None:
        def broken() -> Server:
            raise OSError("no device")

        with pytest.raises(StartError, match="no device"):
            await start(Supervisor([ChildSpec("a", broken)]))

    run(main())


def test_a_restart_that_fails_is_tried_again_until_the_limit() -> None:
    async def main() -> None:
        journal: Log = []
        attempts = []

        async def only_once() -> None:
            attempts.append(1)
            if len(attempts) > 1:
                raise OSError("no device")

        specs = [ChildSpec("a", lambda: Member("a", journal, only_once)), *members(journal, "b")]
        supervisor = await start(Supervisor(specs, max_restarts=3))
        await crash(supervisor, "a")
        assert (len(attempts), supervisor.reason) == (4, "shutdown")
        assert words(journal) == "+a +b -b"

    run(main())


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("one_for_all", "-c -a +a -a +a +b +c"), ("rest_for_one", "-c +b +c")],
)
def test_a_restart_of_several_that_fails_in_the_middle_starts_none_twice(
    strategy: Any, expected: str
) -> None:
    async def main() -> None:
        journal: Log = []
        attempts = []

        async def not_the_second_time() -> None:
            attempts.append(1)
            if len(attempts) == 2:
                raise OSError("no device")

        b = ChildSpec("b", lambda: Member("b", journal, not_the_second_time))
        supervisor = await start(Supervisor([*members(journal, "a"), b, *members(journal, "c")], strategy))
        journal.clear()
        await crash(supervisor, "b")
        assert words(journal) == expected
        assert len(attempts) == 3
        await stop(supervisor)

    run(main())


def test_a_restart_that_is_due_again_is_dropped_where_a_sibling_had_it_done_already() -> None:
    async def main() -> None:
        journal: Log = []
        attempts = []

        async def not_the_second_time() -> None:
            attempts.append(1)
            if len(attempts) == 2:
                raise OSError("no device")

        b = ChildSpec("b", lambda: Member("b", journal, not_the_second_time))
        supervisor = await start(Supervisor([*members(journal, "a"), b], "rest_for_one"))
        for name in "ba":
            pid = (await pids(supervisor))[name]
            assert pid is not None
            exit(pid, "kill")
        await settle()
        assert words(journal) == "+a +b +a +b"
        await stop(supervisor)

    run(main())


def test_a_child_that_dies_while_its_siblings_are_restarted_is_restarted_too() -> None:
    async def main() -> None:
        journal: Log = []

        async def slowly() -> None:
            await asyncio.sleep(1)

        a = ChildSpec("a", lambda: Member("a", journal, slowly))
        supervisor = await start(Supervisor([a, *members(journal, "b")]))
        b = (await pids(supervisor))["b"]
        assert b is not None
        await crash(supervisor, "a")
        exit(b, "kill")
        await asyncio.sleep(2)
        assert all(pid and pid.alive for pid in (await pids(supervisor)).values())
        assert words(journal) == "+a +b +a +b"
        await stop(supervisor)

    run(main())


def test_the_exit_of_an_earlier_incarnation_does_not_count() -> None:
    async def main() -> None:
        supervisor = await start(Supervisor(members([], "a"), max_restarts=1))
        first = (await pids(supervisor))["a"]
        await crash(supervisor, "a")
        second = (await pids(supervisor))["a"]
        for _ in range(5):
            send(supervisor, Exit(first, "killed"))
        await settle()
        assert (await pids(supervisor))["a"] is second
        await stop(supervisor)

    run(main())


def test_two_children_of_one_for_all_that_die_at_once_are_one_restart() -> None:
    async def main() -> None:
        supervisor = await start(Supervisor(members([], "ab"), "one_for_all", max_restarts=1))
        for pid in (await pids(supervisor)).values():
            assert pid is not None
            exit(pid, "kill")
        await settle()
        assert supervisor.alive
        await stop(supervisor)

    run(main())


def test_a_child_is_given_its_shutdown_time_and_then_killed() -> None:
    class Slow(Echo):
        trap_exits = True

        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.seconds = seconds

        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(self.seconds)

    async def main() -> None:
        quick, slow = Slow(2.9), Slow(3.1)
        specs = [ChildSpec("quick", lambda: quick, shutdown=3), ChildSpec("slow", lambda: slow, shutdown=3)]
        supervisor = await start(Supervisor(specs))
        await stop(supervisor)
        assert (quick.pid.reason, slow.pid.reason) == ("shutdown", "killed")
        assert asyncio.get_running_loop().time() == pytest.approx(2.9 + 3)

    run(main())


def test_a_child_with_brutal_kill_is_killed_at_once() -> None:
    async def main() -> None:
        journal: Log = []
        supervisor = await start(Supervisor(members(journal, "a", shutdown="brutal_kill")))
        await stop(supervisor)
        assert words(journal) == "+a"

    run(main())


def test_a_child_with_infinity_is_waited_for() -> None:
    class Patient(Echo):
        trap_exits = True

        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(3600)

    async def main() -> None:
        patient = Patient()
        supervisor = await start(Supervisor([ChildSpec("a", lambda: patient, shutdown="infinity")]))
        await stop(supervisor)
        assert patient.pid.reason == "shutdown"

    run(main())


def test_a_child_that_cannot_be_killed_is_left_to_itself_and_said_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        stubborn, registry = Stubborn(), Registry()
        spec = ChildSpec("a", lambda: stubborn, shutdown=1, name="a")
        supervisor = await start(Supervisor([spec], registry=registry))
        cast(stubborn.pid, "work")
        await settle()
        await stop(supervisor)
        assert (stubborn.pid.reason, registry.names()) == ("killed", [])
        assert asyncio.get_running_loop().time() == pytest.approx(1 + 5)
        stubborn.free = True
        await asyncio.sleep(2)

    run(main())
    assert "<a> does not end though it was killed, and is left to itself" in caplog.messages


def test_a_stop_that_lands_in_the_start_leaves_nothing() -> None:
    async def main() -> None:
        journal: Log = []

        async def slowly() -> None:
            await asyncio.sleep(9)

        specs = [*members(journal, "ab"), ChildSpec("c", lambda: Member("c", journal, slowly))]
        starting = asyncio.create_task(start(Supervisor(specs)))
        await asyncio.sleep(1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert words(journal) == "+a +b -b -a"

    run(main())


def test_a_stop_that_lands_in_a_restart_comes_after_it_and_leaves_nothing() -> None:
    async def main() -> None:
        journal: Log = []

        async def slowly() -> None:
            await asyncio.sleep(1)

        specs = [*members(journal, "a"), ChildSpec("b", lambda: Member("b", journal, slowly))]
        supervisor = await start(Supervisor(specs))
        await crash(supervisor, "b")
        await stop(supervisor)
        assert words(journal) == "+a +b +b -b -a"

    run(main())


def test_a_supervisor_that_is_killed_takes_its_children_along_before_it_is_gone() -> None:
    async def main() -> None:
        journal: Log = []
        lower = ChildSpec("lower", lambda: Supervisor(members(journal, "ab")), type="supervisor")
        upper = await start(Supervisor([lower]))
        exit(upper, "kill")
        assert await upper.join() == "killed"
        assert words(journal) == "+a +b -b -a"

    run(main())


def test_a_supervisor_that_is_killed_twice_still_takes_its_children_along() -> None:
    async def main() -> None:
        slow, quick = Stubborn(), Echo()
        specs = [ChildSpec("quick", lambda: quick), ChildSpec("slow", lambda: slow, shutdown="infinity")]
        supervisor = await start(Supervisor(specs))
        cast(slow.pid, "work")
        await settle()
        exit(supervisor, "kill")
        await settle()
        exit(supervisor, "kill")
        await supervisor.join()
        await settle()
        assert (quick.pid.reason, slow.pid.doomed) == ("killed", True)
        slow.free = True
        await slow.pid.join()

    run(main())


def test_children_come_and_go_at_run_time() -> None:
    async def main() -> None:
        journal: Log = []
        a, b, c = members(journal, "abc")
        supervisor = await start(Supervisor([a]))
        pid = await start_child(supervisor, b)
        assert (await pids(supervisor))["b"] is pid
        assert await start_child(supervisor, b) == AlreadyStarted(pid)
        assert await terminate_child(supervisor, "a") is None
        assert await terminate_child(supervisor, "a") == NotFound("a")
        await start_child(supervisor, c)
        await crash(supervisor, "b")
        assert list(await pids(supervisor)) == ["b", "c"]
        await stop(supervisor)
        assert words(journal) == "+a +b -a +c +b -c -b"

    run(main())


def test_a_child_whose_name_is_taken_is_already_started() -> None:
    async def main() -> None:
        registry = Registry()
        other = await start(Echo(), "echo", registry)
        supervisor = await start(Supervisor(registry=registry))
        assert await start_child(supervisor, ChildSpec("a", Echo, name="echo")) == AlreadyStarted(other)
        assert await which_children(supervisor) == ()
        await stop(supervisor)
        await stop(other)

    run(main())


def test_a_new_child_that_fails_in_init_is_told_to_who_asked_and_harms_nobody() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise OSError("no device")

        supervisor = await start(Supervisor(members([], "a"), max_restarts=0))
        with pytest.raises(StartError, match="no device"):
            await start_child(supervisor, ChildSpec("b", lambda: Member("b", [], fail)))
        assert list(await pids(supervisor)) == ["a"]
        await stop(supervisor)

    run(main())


def test_a_terminated_child_is_not_started_by_a_restart_that_was_still_due() -> None:
    async def main() -> None:
        attempts = []

        async def only_once() -> None:
            attempts.append(1)
            if len(attempts) > 1:
                await asyncio.sleep(1)
                raise OSError("no device")

        supervisor = await start(Supervisor([ChildSpec("a", lambda: Member("a", [], only_once))]))
        await crash(supervisor, "a")
        await terminate_child(supervisor, "a")
        await settle()
        assert (len(attempts), await which_children(supervisor)) == (2, ())
        await stop(supervisor)

    run(main())


def test_children_are_counted() -> None:
    async def main() -> None:
        specs = [*members([], "ab", restart="transient"), ChildSpec("s", Supervisor, type="supervisor")]
        supervisor = await start(Supervisor(specs))
        pid = (await pids(supervisor))["a"]
        assert pid is not None
        await stop(pid)
        assert await count_children(supervisor) == Count(specs=3, active=2, supervisors=1, workers=2)
        await stop(supervisor)

    run(main())


def test_a_dynamic_supervisor_takes_any_number_of_one_spec() -> None:
    async def main() -> None:
        supervisor = await start(DynamicSupervisor())
        (spec,) = members([], "a")
        children = [await start_child(supervisor, spec) for _ in range(3)]
        assert [child.pid for child in await which_children(supervisor)] == children
        assert await terminate_child(supervisor, children[1]) is None
        assert await terminate_child(supervisor, children[1]) == NotFound(children[1])
        assert [child.pid for child in await which_children(supervisor)] == [children[0], children[2]]
        exit(children[0], "kill")  # type: ignore[arg-type] # it was started
        await settle()
        (restarted, _) = await which_children(supervisor)
        assert (restarted.restarts, restarted.pid in children) == (1, False)
        await stop(supervisor)

    run(main())


def test_the_children_of_a_dynamic_supervisor_end_side_by_side() -> None:
    class Slow(Echo):
        trap_exits = True

        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(1)

    async def main() -> None:
        journal: Log = []
        supervisor = await start(DynamicSupervisor())
        (brutal,) = members(journal, "b", shutdown="brutal_kill")
        await start_child(supervisor, brutal)
        for _ in range(9):
            await start_child(supervisor, ChildSpec("slow", Slow))
        await stop(supervisor)
        assert words(journal) == "+b"
        assert asyncio.get_running_loop().time() == pytest.approx(1, abs=0.01)

    run(main())


def test_every_restart_is_one_line_that_says_who_why_and_which_of_how_many(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        supervisor = await start(Supervisor(members([], "ab"), "one_for_all", max_restarts=2), "root")
        for name in "aba":
            await crash(supervisor, name)

    with caplog.at_level(logging.WARNING, "usbbackup.otp"):
        run(main())
    assert caplog.messages == [
        "<root> restarts a, which ended ('killed'): 1 of 2 restarts in 5 s",
        "<root> restarts b, which ended ('killed'): 2 of 2 restarts in 5 s",
        "<root> gives up: a ended ('killed') after 2 restarts in 5 s",
    ]


def test_the_tree_shows_every_process_with_its_restarts_its_mailbox_and_its_age() -> None:
    async def main() -> None:
        lower = ChildSpec("lower", lambda: Supervisor(members([], "ab"), "one_for_all"), type="supervisor")
        root = await start(Supervisor([lower, *members([], "c", restart="transient")]), "root")
        await asyncio.sleep(10)
        lower_pid, c = (await pids(root)).values()
        assert lower_pid is not None
        assert c is not None
        await crash(lower_pid, "a")
        a = (await pids(lower_pid))["a"]
        assert a is not None
        send(a, "one")
        send(a, "two")
        node = tree(root)
        await stop(c)
        after = tree(root)
        assert node is not None
        assert after is not None
        assert (node.id, node.type, node.since) == ("root", "supervisor", 0.0)
        first, second = node.children
        assert (first.id, first.restarts, first.since, second.since) == ("lower", 0, 0.0, 0.0)
        assert [(n.id, n.restarts, n.mailbox) for n in first.children] == [("a", 1, 2), ("b", 1, 0)]
        assert [n.since for n in first.children] == [pytest.approx(10, abs=0.01)] * 2
        assert (second.pid, after.children[1].pid, after.children[1].mailbox) == (c, None, 0)
        await stop(root)
        assert tree(root) is None

    run(main())


def test_the_tree_of_a_worker_is_the_worker() -> None:
    async def main() -> None:
        pid = await start(Echo(), "echo")
        node = tree(pid)
        assert node is not None
        assert (node.type, node.children) == ("worker", ())
        await stop(pid)

    run(main())


def test_a_supervisor_does_not_understand_foreign_calls() -> None:
    async def main() -> None:
        supervisor = await start(Supervisor())
        with pytest.raises(ExitedError, match="does not understand"):
            await call(supervisor, "nonsense")

    run(main())
