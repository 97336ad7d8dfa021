"""Names of processes."""

import pytest
from otp_run import Echo, Trapping, run, settle

from usbbackup.otp import (
    AlreadyRegistered,
    ChildSpec,
    ExitedError,
    Registry,
    Supervisor,
    call,
    cast,
    exit,
    self_pid,
    send,
    start,
    stop,
    which_children,
)


def test_a_name_leads_to_its_process_and_value() -> None:
    async def main() -> None:
        registry = Registry()
        pid = await start(Echo())
        assert registry.register("echo", pid, {"any": "value"}) is None
        entry = registry.lookup("echo")
        assert entry is not None
        assert (registry.whereis("echo"), entry.pid, entry.value) == (pid, pid, {"any": "value"})
        assert registry.names() == ["echo"]
        await stop(pid)

    run(main())


def test_an_unknown_name_is_none() -> None:
    registry = Registry()
    assert (registry.whereis("nobody"), registry.lookup("nobody"), registry.names()) == (None, None, [])


def test_a_process_registers_itself_where_no_pid_is_given() -> None:
    async def main() -> None:
        registry = Registry()
        registry.register("me")
        assert registry.whereis("me") is self_pid()

    run(main())


def test_a_name_that_is_taken_is_a_value_that_tells_by_whom() -> None:
    async def main() -> None:
        registry = Registry()
        one, other = await start(Echo()), await start(Echo())
        registry.register("echo", one)
        assert registry.register("echo", other) == AlreadyRegistered(one)
        assert registry.register("echo", one) == AlreadyRegistered(one)
        assert registry.whereis("echo") is one
        await stop(one)
        await stop(other)

    run(main())


def test_names_are_gone_in_the_step_in_which_their_process_dies() -> None:
    async def main() -> None:
        registry = Registry()
        pid = await start(Echo())
        registry.register("one", pid)
        registry.register("two", pid)
        exit(pid, "kill")
        assert registry.whereis("one") is pid
        await pid.join()
        assert registry.names() == []

    run(main())


def test_a_dead_process_gets_no_name() -> None:
    async def main() -> None:
        registry = Registry()
        pid = await start(Echo())
        await stop(pid)
        registry.register("late", pid)
        assert registry.names() == []

    run(main())


def test_a_name_can_be_freed_and_given_to_another_that_keeps_it_when_the_first_dies() -> None:
    async def main() -> None:
        registry = Registry()
        one, other = await start(Echo()), await start(Echo())
        registry.register("echo", one)
        registry.unregister("echo")
        registry.unregister("echo")
        registry.register("echo", other)
        await stop(one)
        assert registry.whereis("echo") is other
        await stop(other)

    run(main())


def test_via_reaches_whoever_has_the_name_and_drops_messages_for_nobody() -> None:
    async def main() -> None:
        registry = Registry()
        via = registry.via("echo")
        send(via, "lost")
        cast(via, "lost")
        with pytest.raises(ExitedError, match="echo exited: 'noproc'"):
            await call(via, "hello")
        echo = Echo()
        pid = await start(echo, "echo", registry)
        cast(via, "found")
        assert await call(via, "hello") == "hello"
        assert echo.log == ["found"]
        await stop(via)
        assert not pid.alive

    run(main())


def test_via_survives_the_restart_of_what_it_names() -> None:
    async def main() -> None:
        registry = Registry()
        spec = ChildSpec("echo", Echo, name="echo")
        supervisor = await start(Supervisor([spec], registry=registry))
        via = registry.via("echo")
        before = via.whereis()
        assert before is not None
        exit(before, "kill")
        await settle()
        assert await call(via, "hello") == "hello"
        assert via.whereis() is not before
        await stop(supervisor)
        assert via.whereis() is None

    run(main())


def test_a_registry_that_is_restarted_starts_empty_and_rest_for_one_fills_it_again() -> None:
    async def main() -> None:
        registry = Registry()
        stays = await start(Echo(), "stays", registry)
        children = [
            ChildSpec("before", Trapping),
            ChildSpec("registry", lambda: registry),
            ChildSpec("one", Echo, name="one"),
            ChildSpec("two", Echo, name="two"),
        ]
        supervisor = await start(Supervisor(children, "rest_for_one", registry=registry))
        assert registry.names() == ["one", "two"]
        before = await which_children(supervisor)
        exit(registry.pid, "kill")
        await settle()
        after = await which_children(supervisor)
        assert registry.names() == ["one", "two"]
        assert [a.pid is b.pid for a, b in zip(after, before, strict=True)] == [True, False, False, False]
        assert [registry.whereis("one"), registry.whereis("two")] == [after[2].pid, after[3].pid]
        await stop(supervisor)
        assert registry.names() == []
        await stop(stays)

    run(main())
