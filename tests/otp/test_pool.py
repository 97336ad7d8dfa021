"""Pools: lending and taking back, deaths of clients, workers and managers, overflow, waiting, many pools."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from otp_run import Doing, Echo, Stubborn, run, settle

from usbbackup.otp import (
    AlreadyStarted,
    BadArgumentError,
    ChildSpec,
    Continue,
    Down,
    ExitedError,
    Full,
    NotFound,
    Pid,
    Pools,
    PoolStatus,
    Ref,
    Server,
    StartError,
    Supervisor,
    call,
    cast,
    exit,
    monitor,
    self_pid,
    start,
    start_link,
    stop,
    tree,
    which_children,
)


@contextlib.asynccontextmanager
async def pools_of(*names: str, worker: Any = Echo, size: int = 2, **options: Any) -> AsyncIterator[Pools]:
    """Pools by these names; at the end no name is left."""
    pools = Pools()
    pid = await start(pools, "pools")
    for name in names:
        assert isinstance(await pools.start_pool(name, worker, size, **options), Pid)
    yield pools
    await stop(pid)
    assert pools._names.names() == []


async def checked_out(pools: Pools, name: str = "p", wait: float | None = 0.0) -> Pid:
    """A worker, for sure."""
    worker = await pools.checkout(name, wait)
    assert isinstance(worker, Pid), worker
    return worker


def part(pools: Pools, kind: str, name: str = "p") -> Pid:
    """The manager, the worker supervisor or the supervisor of a pool."""
    pid = pools._names.whereis(f"{name}/{kind}")
    assert pid is not None
    return pid


def books(pools: Pools, name: str = "p") -> tuple[int, int, int, int]:
    """Idle, checked out, overflow, waiting."""
    status = pools.status(name)
    assert isinstance(status, PoolStatus)
    return status.idle, status.checked_out, status.overflow, status.waiting


def workers(pools: Pools, name: str = "p") -> int:
    """How many worker processes there really are."""
    node = tree(part(pools, "workers", name))
    assert node is not None
    return len(node.children)


class Client(Server):
    """A process that checks out when told to, and waits for as long as it takes."""

    def __init__(self, pools: Pools, name: str = "p") -> None:
        self.pools, self.name = pools, name
        self.has: list[Any] = []

    async def handle_call(self, request: Any, sender: Any) -> Any:
        self.pools.checkin(self.name, request)

    async def handle_cast(self, message: Any) -> None:
        self.has.append(await self.pools.checkout(self.name, message))


async def client_with(pools: Pools, wait: float | None = None) -> Client:
    client = Client(pools)
    cast(await start(client), wait)
    await settle()
    return client


def test_a_worker_is_checked_out_used_and_checked_in() -> None:
    async def main() -> None:
        async with pools_of("p") as pools:
            worker = await checked_out(pools)
            assert await call(worker, "work") == "work"
            assert books(pools) == (1, 1, 0, 0)
            pools.checkin("p", worker)
            assert books(pools) == (2, 0, 0, 0)

    run(main())


def test_no_worker_is_lent_twice_and_a_pool_without_idle_workers_is_full() -> None:
    async def main() -> None:
        async with pools_of("p", size=3) as pools:
            held = {await checked_out(pools) for _ in range(3)}
            assert len(held) == 3
            assert await pools.checkout("p") == Full("p")
            for worker in held:
                pools.checkin("p", worker)
            assert await checked_out(pools) in held

    run(main())


def test_status_is_a_named_record() -> None:
    async def main() -> None:
        async with pools_of("p", size=2, max_overflow=1) as pools:
            for _ in range(3):
                await checked_out(pools)
            waiting = await client_with(pools)
            assert pools.status("p") == PoolStatus(
                name="p", size=2, max_overflow=1, idle=0, checked_out=3, overflow=1, waiting=1
            )
            await kill(waiting.pid)

    run(main())


async def kill(pid: Pid) -> None:
    exit(pid, "kill")
    await pid.join()
    await settle()


def test_an_unknown_pool_is_not_found() -> None:
    async def main() -> None:
        async with pools_of() as pools:
            assert await pools.checkout("x") == NotFound("x")
            assert await pools.transaction("x", lambda worker: call(worker, 1)) == NotFound("x")
            assert pools.status("x") == NotFound("x")
            assert await pools.stop_pool("x") == NotFound("x")
            assert pools.ask_to_stop_pool("x") == NotFound("x")
            assert pools.whereis("x") is None
            pools.checkin("x", self_pid())

    run(main())


def test_a_client_that_dies_gives_its_worker_back() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            client = await client_with(pools)
            (worker,) = client.has
            await kill(client.pid)
            assert books(pools) == (1, 0, 0, 0)
            assert await checked_out(pools) is worker

    run(main())


def test_an_ordinary_task_that_ends_gives_its_worker_back_too() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            await asyncio.create_task(checked_out(pools))
            await settle()
            assert books(pools) == (1, 0, 0, 0)

    run(main())


def test_a_client_that_dies_after_its_checkin_changes_nothing() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            client = await client_with(pools)
            (worker,) = client.has
            await call(client.pid, worker)
            assert await checked_out(pools) is worker
            await kill(client.pid)
            assert books(pools) == (0, 1, 0, 0)

    run(main())


def test_a_client_that_dies_in_the_same_step_as_its_checkin_changes_nothing() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            client = await client_with(pools)
            (worker,) = client.has
            exit(client.pid, "kill")
            part(pools, "manager").server.checkin(worker, client.pid)  # type: ignore[union-attr] # the manager
            mine = await checked_out(pools)
            await client.pid.join()
            await settle()
            assert (mine, books(pools)) == (worker, (0, 1, 0, 0))

    run(main())


def test_a_client_that_dies_while_it_waits_is_dropped_from_the_queue() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            first, second = await client_with(pools), await client_with(pools)
            await kill(first.pid)
            assert books(pools) == (0, 1, 0, 1)
            pools.checkin("p", worker)
            await settle()
            assert (first.has, second.has) == ([], [worker])
            await stop(second.pid)

    run(main())


def test_a_client_that_is_killed_in_the_step_in_which_it_is_served_gives_the_worker_back() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            client = await client_with(pools)
            pools.checkin("p", worker)
            assert books(pools) == (0, 1, 0, 0)
            await kill(client.pid)
            assert (client.has, books(pools)) == ([], (1, 0, 0, 0))

    run(main())


def test_a_wait_that_is_cancelled_in_the_step_in_which_it_is_served_gives_the_worker_back() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            helpers: list[asyncio.Task[Any]] = []

            async def delegate() -> None:
                helpers.append(asyncio.create_task(pools.checkout("p", None)))

            client = await start(Doing(delegate))
            await settle()
            pools.checkin("p", worker)
            helpers[0].cancel()
            await settle()
            assert (client.alive, books(pools)) == (True, (1, 0, 0, 0))
            await stop(client)

    run(main())


def test_a_helper_of_a_dead_client_is_not_served() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            helpers: list[asyncio.Task[Any]] = []

            async def delegate() -> None:
                helpers.append(asyncio.create_task(pools.checkout("p", None)))

            client = await start(Doing(delegate))
            await settle()
            await kill(client)
            pools.checkin("p", worker)
            assert books(pools) == (1, 0, 0, 0)
            with pytest.raises(asyncio.CancelledError):
                await helpers[0]

    run(main())


def test_a_dead_client_gets_no_worker() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            go = asyncio.Event()
            helpers: list[asyncio.Task[Any]] = []

            async def late() -> Any:
                await go.wait()
                return await pools.checkout("p")

            async def delegate() -> None:
                helpers.append(asyncio.create_task(late()))

            client = await start(Doing(delegate))
            await settle()
            await kill(client)
            go.set()
            with pytest.raises(RuntimeError, match="is dead"):
                await helpers[0]
            assert books(pools) == (1, 0, 0, 0)

    run(main())


@pytest.mark.parametrize("reason", ["kill", "shutdown", "odd"])
def test_an_idle_worker_that_dies_is_replaced(reason: str) -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            pools.checkin("p", worker)
            exit(worker, reason)
            await settle()
            assert (books(pools), workers(pools)) == ((1, 0, 0, 0), 1)
            assert await checked_out(pools) is not worker

    run(main())


def test_a_worker_that_dies_checked_out_is_replaced_and_its_client_lives_on() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            client = await client_with(pools)
            await kill(client.has[0])
            assert (books(pools), workers(pools), client.pid.alive) == ((1, 0, 0, 0), 1, True)
            await stop(client.pid)
            assert books(pools) == (1, 0, 0, 0)

    run(main())


def test_every_worker_that_is_lost_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            for _ in range(2):
                await kill(await checked_out(pools))

    run(main())
    assert caplog.messages == [
        "<p/manager> lost <Echo>, which ended ('killed'): 1 of 100 in 5 s",
        "<p/manager> lost <Echo>, which ended ('killed'): 2 of 100 in 5 s",
    ]


def test_a_worker_that_stops_of_its_own_is_replaced() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            assert await call(await checked_out(pools), "stop") == "stopping"
            await settle()
            assert (books(pools), workers(pools)) == ((1, 0, 0, 0), 1)

    run(main())


def test_workers_that_die_at_once_are_replaced_one_for_one() -> None:
    async def main() -> None:
        async with pools_of("p", size=4) as pools:
            lent = [await checked_out(pools) for _ in range(2)]
            for child in await which_children(part(pools, "workers")):
                assert child.pid is not None
                exit(child.pid, "kill")
            await settle()
            assert (books(pools), workers(pools)) == ((4, 0, 0, 0), 4)
            assert not any(worker.alive for worker in lent)

    run(main())


def test_a_checkout_just_after_a_worker_died_waits_for_its_replacement() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            pools.checkin("p", worker)
            exit(worker, "kill")
            await worker.join()
            assert books(pools) == (0, 0, 0, 0)
            fresh, full = await asyncio.gather(pools.checkout("p"), pools.checkout("p"))
            assert (isinstance(fresh, Pid), fresh is worker, full) == (True, False, Full("p"))

    run(main())


def test_what_was_not_checked_out_by_the_caller_is_ignored_at_checkin() -> None:
    async def main() -> None:
        async with pools_of("p", "q", size=1) as pools:
            stranger = await start(Echo())
            client = await client_with(pools)
            (worker,) = client.has
            foreign = await checked_out(pools, "q")
            for pid in (stranger, worker, foreign, self_pid(), part(pools, "manager")):
                pools.checkin("p", pid)
            assert (books(pools), books(pools, "q")) == ((0, 1, 0, 0), (0, 1, 0, 0))
            await stop(stranger)
            await stop(client.pid)

    run(main())


def test_a_worker_that_is_checked_in_twice_stays_with_its_next_client() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            pools.checkin("p", worker)
            client = await client_with(pools)
            pools.checkin("p", worker)
            assert (client.has, books(pools)) == ([worker], (0, 1, 0, 0))
            await stop(client.pid)

    run(main())


def test_a_dead_worker_is_ignored_at_checkin() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            exit(worker, "kill")
            await worker.join()
            pools.checkin("p", worker)
            await settle()
            pools.checkin("p", worker)
            assert (books(pools), workers(pools)) == ((1, 0, 0, 0), 1)

    run(main())


def test_waiting_clients_are_served_in_the_order_in_which_they_came() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            clients = [await client_with(pools) for _ in range(3)]
            pools.checkin("p", worker)
            for nth, client in enumerate(clients):
                await settle()
                assert [bool(c.has) for c in clients] == [True] * (nth + 1) + [False] * (2 - nth)
                await stop(client.pid)
            assert books(pools) == (1, 0, 0, 0)

    run(main())


def test_a_wait_ends_with_full_at_its_time_limit() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            assert await pools.checkout("p", 3) == Full("p")
            assert asyncio.get_running_loop().time() == pytest.approx(3)
            assert books(pools) == (0, 1, 0, 0)
            pools.checkin("p", worker)
            assert await pools.checkout("p", 3) is worker

    run(main())


def test_a_transaction_gives_the_worker_back_whatever_happens() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            assert await pools.transaction("p", lambda worker: call(worker, "work")) == "work"
            assert books(pools) == (1, 0, 0, 0)

            async def fail(worker: Pid) -> None:
                assert books(pools) == (0, 1, 0, 0)
                raise OSError("no space")

            with pytest.raises(OSError, match="no space"):
                await pools.transaction("p", fail)
            assert books(pools) == (1, 0, 0, 0)
            await checked_out(pools)
            assert await pools.transaction("p", fail, wait=0) == Full("p")

    run(main())


def test_overflow_workers_are_started_for_clients_beyond_the_size_and_leave_at_checkin() -> None:
    async def main() -> None:
        async with pools_of("p", size=1, max_overflow=2) as pools:
            held = [await checked_out(pools) for _ in range(3)]
            assert (books(pools), workers(pools)) == ((0, 3, 2, 0), 3)
            assert await pools.checkout("p") == Full("p")
            for expected in [(0, 2, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0)]:
                pools.checkin("p", held.pop())
                await settle()
                assert (books(pools), workers(pools)) == (expected, expected[0] + expected[1])

    run(main())


def test_an_overflow_worker_cools_down_before_it_leaves() -> None:
    async def main() -> None:
        async with pools_of("p", size=1, max_overflow=1, overflow_ttl=10.0) as pools:
            first, second = await checked_out(pools), await checked_out(pools)
            pools.checkin("p", second)
            await asyncio.sleep(9)
            assert books(pools) == (1, 1, 1, 0)
            assert await checked_out(pools) is second
            pools.checkin("p", second)
            await asyncio.sleep(9)
            assert books(pools) == (1, 1, 1, 0)
            await asyncio.sleep(2)
            assert (books(pools), second.alive) == ((0, 1, 0, 0), False)
            pools.checkin("p", first)
            await asyncio.sleep(20)
            assert (books(pools), workers(pools)) == ((1, 0, 0, 0), 1)

    run(main())


def test_a_pool_never_cools_down_below_its_size() -> None:
    async def main() -> None:
        async with pools_of("p", size=1, max_overflow=1, overflow_ttl=10.0) as pools:
            for worker in [await checked_out(pools), await checked_out(pools)]:
                pools.checkin("p", worker)
            assert books(pools) == (2, 0, 1, 0)
            await asyncio.sleep(20)
            assert (books(pools), workers(pools)) == ((1, 0, 0, 0), 1)

    run(main())


def test_an_overflow_worker_that_dies_is_replaced_only_where_a_client_waits_for_it() -> None:
    async def main() -> None:
        async with pools_of("p", size=1, max_overflow=1) as pools:
            held = [await checked_out(pools), await checked_out(pools)]
            await kill(held[1])
            assert (books(pools), workers(pools)) == ((0, 1, 0, 0), 1)
            held[1] = await checked_out(pools)
            client = await client_with(pools)
            await kill(held[1])
            assert (books(pools), len(client.has)) == ((0, 2, 1, 0), 1)
            await stop(client.pid)

    run(main())


def test_a_cooling_overflow_worker_that_dies_leaves_no_trace() -> None:
    async def main() -> None:
        async with pools_of("p", size=1, max_overflow=2, overflow_ttl=10.0) as pools:
            held = [await checked_out(pools) for _ in range(3)]
            pools.checkin("p", held[2])
            await kill(held.pop())
            assert books(pools) == (0, 2, 1, 0)
            await asyncio.sleep(20)
            for worker in held:
                pools.checkin("p", worker)
            assert books(pools) == (2, 0, 1, 0)
            await asyncio.sleep(20)
            assert (books(pools), workers(pools)) == ((1, 0, 0, 0), 1)

    run(main())


def test_an_overflow_worker_whose_client_left_meanwhile_goes_to_the_next_or_leaves() -> None:
    class Slow(Echo):
        async def init(self) -> None:
            await asyncio.sleep(1)

    async def main() -> None:
        async with pools_of("p", worker=Slow, size=1, max_overflow=1) as pools:
            await checked_out(pools)
            client = await client_with(pools, 0)
            assert books(pools) == (0, 1, 0, 1)
            await kill(client.pid)
            await asyncio.sleep(2)
            assert (books(pools), workers(pools)) == ((0, 1, 0, 0), 1)

    run(main())


@pytest.mark.parametrize("kind", ["manager", "workers"])
def test_when_manager_or_worker_supervisor_dies_both_and_all_workers_start_fresh(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with pools_of("p") as pools:
            before = [part(pools, "manager"), part(pools, "workers"), await checked_out(pools)]
            pool = part(pools, "pool")
            await kill(part(pools, kind))
            assert not any(pid.alive for pid in before)
            assert (part(pools, "pool"), books(pools), workers(pools)) == (pool, (2, 0, 0, 0), 2)
            pools.checkin("p", before[2])
            assert books(pools) == (2, 0, 0, 0)

    run(main())
    assert not any("crashed" in message for message in caplog.messages)


def test_a_checkout_during_a_restart_waits_for_the_fresh_manager() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            manager = part(pools, "manager")
            exit(manager, "kill")
            await manager.join()
            assert pools.status("p") == NotFound("p")
            worker = await checked_out(pools)
            assert worker.alive

    run(main())


def test_a_checkout_during_a_restart_of_a_pool_that_is_then_stopped_is_not_found() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            manager = part(pools, "manager")
            exit(manager, "kill")
            await manager.join()
            stopping = asyncio.create_task(pools.stop_pool("p"))
            await asyncio.sleep(0)
            assert await pools.checkout("p") == NotFound("p")
            await stopping

    run(main())


def test_a_client_that_waits_is_served_by_the_manager_that_comes_after() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            client = await client_with(pools)
            await kill(part(pools, "manager"))
            assert (len(client.has), worker.alive, client.has[0].alive) == (1, False, True)
            await stop(client.pid)

    run(main())


def test_a_client_that_waits_gets_not_found_when_the_pool_is_stopped() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            client = await client_with(pools)
            assert await pools.stop_pool("p") is None
            await settle()
            assert (client.has, worker.alive) == ([NotFound("p")], False)
            await stop(client.pid)

    run(main())


def test_a_checkout_from_a_pool_that_is_being_stopped_is_not_found_at_once() -> None:
    class Slow(Echo):
        trap_exits = True

        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(3)

    async def main() -> None:
        async with pools_of("p", worker=Slow) as pools:
            stopping = asyncio.create_task(pools.stop_pool("p"))
            await settle()
            assert await pools.checkout("p", None) == NotFound("p")
            assert isinstance(await pools.start_pool("p", Slow, 1), AlreadyStarted)
            assert asyncio.get_running_loop().time() < 1
            await stopping
            assert isinstance(await pools.start_pool("p", Echo, 1), Pid)

    run(main())


class Broken(Server):
    """Cannot start."""

    async def init(self) -> None:
        raise OSError("no such program")


def test_a_worker_that_cannot_start_makes_the_start_of_its_pool_fail() -> None:
    async def main() -> None:
        async with pools_of("q") as pools:
            with pytest.raises(StartError, match="no such program"):
                await pools.start_pool("p", Broken, 2)
            assert await pools.checkout("p") == NotFound("p")
            assert await pools.stop_pool("p") == NotFound("p")
            assert books(pools, "q") == (2, 0, 0, 0)

    run(main())


def test_a_worker_that_can_no_longer_start_ends_its_pool_at_the_restart_limit() -> None:
    working = True

    class Once(Server):
        async def init(self) -> None:
            if not working:
                raise OSError("no such program")

    async def main() -> None:
        nonlocal working
        async with pools_of("p", "q", worker=Once, size=1) as pools:
            pool = part(pools, "pool")
            working = False
            await kill(await checked_out(pools))
            assert pool.reason == "shutdown"
            assert await pools.checkout("p") == NotFound("p")
            assert books(pools, "q") == (1, 0, 0, 0)

    run(main())


@pytest.mark.parametrize("at_once", [True, False])
def test_workers_that_die_as_soon_as_they_live_end_their_pool_and_do_not_loop(at_once: bool) -> None:
    started = []

    class Mayfly(Server):
        async def init(self) -> Continue | None:
            started.append(self)
            if at_once:
                self.stop("no will to live")
                return None
            return Continue()

        async def handle_continue(self, argument: Any) -> None:
            await asyncio.sleep(0.001)
            self.stop("no will to live")

    async def main() -> None:
        async with pools_of() as pools:
            with contextlib.suppress(StartError):
                pool = await pools.start_pool("p", Mayfly, 1)
                assert isinstance(pool, Pid)
                assert await pool.join() == "shutdown"
            assert pools.status("p") == NotFound("p")
            assert 100 <= len(started) <= 500

    run(main())


@pytest.mark.parametrize(
    "worker_spec",
    [
        Echo,
        (Echo, ()),
        (Echo, (["told"],)),
        (Echo, [["told"]]),
        ChildSpec("worker", Echo),
        ChildSpec("worker", lambda: Echo(), restart="permanent", shutdown=1),
    ],
)
def test_any_worker_spec_is_run_as_temporary(worker_spec: Any) -> None:
    async def main() -> None:
        async with pools_of("p", worker=worker_spec, size=1) as pools:
            worker = await checked_out(pools)
            assert await call(worker, 1) == 1
            await kill(worker)
            (child,) = await which_children(part(pools, "workers"))
            assert (child.restarts, child.pid is worker, books(pools)) == (0, False, (1, 0, 0, 0))

    run(main())


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("name", {"name": ""}),
        ("name", {"name": None}),
        ("size", {"size": 0}),
        ("size", {"size": "3"}),
        ("size", {"size": True}),
        ("size", {"size": 2.0}),
        ("max_overflow", {"max_overflow": -1}),
        ("overflow_ttl", {"overflow_ttl": "1"}),
        ("max_restarts", {"max_restarts": None}),
        ("max_seconds", {"max_seconds": -1}),
        ("worker_spec", {"worker_spec": None}),
        ("worker_spec", {"worker_spec": "Echo"}),
        ("worker_spec", {"worker_spec": int}),
        ("worker_spec", {"worker_spec": Echo()}),
        ("worker_spec", {"worker_spec": (Echo, 3)}),
        ("worker_spec", {"worker_spec": (int, ())}),
    ],
)
def test_a_bad_argument_is_named_before_anything_is_started(argument: str, options: dict[str, Any]) -> None:
    async def main() -> None:
        async with pools_of() as pools:
            with pytest.raises(BadArgumentError, match=f"^{argument} must be") as caught:
                await pools.start_pool(**{"name": "p", "worker_spec": Echo, "size": 1, **options})
            assert (caught.value.argument, await which_children(pools.pid)) == (argument, ())

    run(main())


@pytest.mark.parametrize("missing", ["name", "worker_spec", "size"])
def test_a_missing_argument_is_named(missing: str) -> None:
    arguments: dict[str, Any] = {"name": "p", "worker_spec": Echo, "size": 1}
    del arguments[missing]
    with pytest.raises(TypeError, match=f"'{missing}'"):
        run(Pools().start_pool(**arguments))


def test_the_same_name_twice_is_already_started() -> None:
    async def main() -> None:
        async with pools_of("p") as pools:
            assert await pools.start_pool("p", Echo, 9) == AlreadyStarted(part(pools, "pool"))
            assert books(pools) == (2, 0, 0, 0)

    run(main())


def test_pools_of_any_name_do_not_get_in_each_others_way() -> None:
    async def main() -> None:
        names = ["p", "p/pool", "p/manager", "/", "a b", "ü"]
        async with pools_of(*names, size=1) as pools:
            for name in names:
                await checked_out(pools, name)
            assert [books(pools, name) for name in names] == [(0, 1, 0, 0)] * 6
            assert await pools.stop_pool("p") is None
            assert [isinstance(pools.status(name), PoolStatus) for name in names] == [False] + [True] * 5

    run(main())


def test_a_pool_can_be_stopped_and_started_again_with_another_size_and_worker() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:
            worker = await checked_out(pools)
            assert await pools.stop_pool("p") is None
            assert (worker.alive, await pools.stop_pool("p")) == (False, NotFound("p"))
            assert isinstance(await pools.start_pool("p", (Echo, (["x"],)), 3), Pid)
            assert books(pools) == (3, 0, 0, 0)

    run(main())


def test_a_pool_beyond_its_restart_limit_is_removed_and_others_are_untouched() -> None:
    async def main() -> None:
        async with pools_of("p", "q") as pools:
            worker = await checked_out(pools, "q")
            for _ in range(4):
                await kill(part(pools, "manager"))
            assert await pools.checkout("p") == NotFound("p")
            assert await pools.stop_pool("p") == NotFound("p")
            assert (books(pools, "q"), worker.alive) == ((1, 1, 0, 0), True)
            assert isinstance(await pools.start_pool("p", Echo, 1), Pid)

    run(main())


def test_a_pool_can_be_stopped_by_name_after_fifteen_kills_of_its_manager() -> None:
    async def main() -> None:
        async with pools_of("p", "q", max_restarts=15) as pools:
            for _ in range(15):
                await kill(part(pools, "manager"))
            assert books(pools) == (2, 0, 0, 0)
            assert await pools.stop_pool("p") is None
            assert await pools.checkout("p") == NotFound("p")
            assert books(pools, "q") == (2, 0, 0, 0)

    run(main())


def test_kills_that_lie_apart_never_exceed_the_limit() -> None:
    async def main() -> None:
        async with pools_of("p") as pools:
            for _ in range(15):
                await kill(part(pools, "manager"))
                await asyncio.sleep(2)
            assert await pools.stop_pool("p") is None

    run(main())


def test_a_stop_can_be_asked_for_and_is_answered_by_a_down() -> None:
    class Asking(Echo):
        def __init__(self, pools: Pools) -> None:
            super().__init__()
            self.pools = pools

        async def handle_call(self, request: Any, sender: Any) -> Any:
            return self.pools.ask_to_stop_pool(request)

    async def main() -> None:
        async with pools_of("p", worker=Stubborn) as pools:
            worker = await checked_out(pools)
            cast(worker, "work")
            asking, pool = Asking(pools), part(pools, "pool")
            pid = await start(asking)
            ref = await call(pid, "p")
            assert isinstance(ref, Ref)
            assert (asking.log, worker.alive) == ([], True)
            worker.server.free = True  # type: ignore[union-attr] # it is Stubborn
            await pool.join()
            await settle()
            assert asking.log == [Down(ref, pool, "shutdown")]
            await stop(pid)

    run(main())


def test_a_slow_stop_of_one_pool_does_not_keep_another_from_starting() -> None:
    class Slow(Echo):
        trap_exits = True

        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(3)

    async def main() -> None:
        async with pools_of("p", worker=Slow) as pools:
            stopping = asyncio.create_task(pools.stop_pool("p"))
            await settle()
            await pools.start_pool("q", Echo, 1)
            assert asyncio.get_running_loop().time() < 1
            await stopping

    run(main())


def test_the_pools_object_works_on_after_its_process_was_restarted() -> None:
    async def main() -> None:
        pools = Pools()
        root = await start(Supervisor([ChildSpec("pools", lambda: pools, type="supervisor")]))
        await pools.start_pool("p", Echo, 1)
        worker = await checked_out(pools)
        await kill(pools.pid)
        assert (worker.alive, await pools.checkout("p")) == (False, NotFound("p"))
        await pools.start_pool("p", Echo, 1)
        assert books(pools) == (1, 0, 0, 0)
        await stop(root)
        with pytest.raises(ExitedError):
            await pools.start_pool("p", Echo, 1)

    run(main())


def test_a_start_of_a_pool_that_its_caller_gives_up_still_leaves_a_whole_pool_or_none() -> None:
    class Slow(Echo):
        async def init(self) -> None:
            await asyncio.sleep(1)

    async def main() -> None:
        async with pools_of() as pools:
            starting = asyncio.create_task(pools.start_pool("p", Slow, 2))
            await asyncio.sleep(0.5)
            early = asyncio.create_task(pools.checkout("p"))
            starting.cancel()
            await asyncio.sleep(5)
            assert isinstance(early.result(), Pid)
            assert books(pools) == (2, 0, 0, 0)

    run(main())


def test_a_client_can_watch_its_worker() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:

            class Watchful(Echo):
                async def init(self) -> None:
                    worker = await checked_out(pools)
                    monitor(worker)
                    exit(worker, "odd")

            client = Watchful()
            pid = await start(client)
            await settle()
            assert [message.reason for message in client.log] == ["odd"]
            await stop(pid)

    run(main())


def test_a_client_that_is_linked_into_the_tree_uses_a_pool_in_its_init() -> None:
    async def main() -> None:
        async with pools_of("p", size=1) as pools:

            class Early(Echo):
                async def init(self) -> None:
                    self.worker = await checked_out(pools)

            async def parent() -> None:
                await start_link(Early())

            pid = await start(Doing(parent))
            await settle()
            assert books(pools) == (0, 1, 0, 0)
            await kill(pid)
            assert books(pools) == (1, 0, 0, 0)

    run(main())
