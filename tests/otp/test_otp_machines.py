"""Random lives of registries, supervisors and pools, held against plain models of them."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from otp_run import Echo, World, settle

from usbbackup.otp import (
    AlreadyRegistered,
    AlreadyStarted,
    ChildSpec,
    Entry,
    NotFound,
    Pid,
    Pools,
    PoolStatus,
    Registry,
    Server,
    StartError,
    Supervisor,
    ask_to_stop,
    cast,
    exit,
    start,
    start_child,
    stop,
    terminate_child,
    tree,
    which_children,
)

NAMES = st.sampled_from("abcd")
REASONS = st.sampled_from(["normal", "shutdown", "odd", "kill"])


def end(pid: Pid, reason: str) -> None:
    """Have a process end for a reason: killed, or of its own."""
    if reason == "kill":
        exit(pid, "kill")
    else:
        ask_to_stop(pid, reason)


class Machine(RuleBasedStateMachine):
    """Keeps a loop alive between the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(debug=None)  # as PYTHONASYNCIODEBUG says: it costs much time

    def run(self, main: Any) -> Any:
        return self.world.run(main)

    async def finish(self) -> None:
        """Stop whatever runs."""

    def teardown(self) -> None:
        try:
            self.run(self.finish())
            self.world.check()
        finally:
            self.world.close()


class RegistryMachine(Machine):
    """The model is a dictionary."""

    processes = Bundle("processes")

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.model: dict[str, tuple[Pid, int]] = {}
        self.alive: set[Pid] = set()

    @rule(target=processes)
    def spawn(self) -> Pid:
        pid: Pid = self.run(start(Echo()))
        self.alive.add(pid)
        return pid

    @rule(name=NAMES, pid=processes, value=st.integers())
    def register(self, name: str, pid: Pid, value: int) -> None:
        answer = self.registry.register(name, pid, value)
        if name in self.model:
            assert answer == AlreadyRegistered(self.model[name][0])
        else:
            assert answer is None
            if pid in self.alive:
                self.model[name] = (pid, value)

    @rule(name=NAMES)
    def unregister(self, name: str) -> None:
        self.registry.unregister(name)
        self.model.pop(name, None)

    @rule(pid=processes, reason=REASONS)
    def die(self, pid: Pid, reason: str) -> None:
        async def main() -> None:
            end(pid, reason)
            await pid.join()

        self.run(main())
        self.alive.discard(pid)
        self.model = {name: entry for name, entry in self.model.items() if entry[0] is not pid}

    @rule()
    def restart_the_registry(self) -> None:
        async def main() -> None:
            await stop(await start(self.registry))

        self.run(main())
        self.model = {}

    @invariant()
    def the_registry_is_as_the_dictionary(self) -> None:
        assert self.registry.names() == list(self.model)
        for name in "abcd":
            entry = self.registry.lookup(name)
            assert self.model.get(name) == (entry if entry is None else (entry.pid, entry.value))
            assert self.registry.via(name).whereis() is (entry and entry.pid)
            assert entry is None or isinstance(entry, Entry)

    @invariant()
    def no_process_is_watched_for_a_name_it_does_not_have(self) -> None:
        for pid in self.alive:
            assert len(pid._watches) == sum(entry[0] is pid for entry in self.model.values())

    async def finish(self) -> None:
        for pid in self.alive:
            await stop(pid)
        assert self.registry.names() == []


@dataclass
class ModelChild:
    """What the plain supervisor knows of a child."""

    restart: str
    running: bool = False
    life: int = 0


@dataclass
class PlainSupervisor:
    """A supervisor without processes: what must happen, in which order."""

    strategy: str
    most: int
    seconds: float
    children: dict[str, ModelChild] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)  # how many of its next starts shall fail
    times: list[float] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    given_up: bool = False

    def start(self, name: str) -> bool:
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            return False
        self.children[name].running = True
        self.children[name].life += 1
        self.log.append("+" + name)
        return True

    def stop(self, name: str) -> None:
        if self.children[name].running:
            self.children[name].running = False
            self.log.append("-" + name)

    def die(self, deaths: list[tuple[str, str]], now: float) -> None:
        """Children end at once; then the news are dealt with one after the other."""
        news: deque[tuple[str, str, int]] = deque()
        for name, reason in deaths:
            if reason != "kill":
                self.log.append("-" + name)
            self.children[name].running = False
            news.append((name, reason, self.children[name].life))
        while news and not self.given_up:
            name, reason, life = news.popleft()
            child = self.children.get(name)
            if child is None or child.running or (child.life != life and reason != "again"):
                continue
            if reason == "again" or child.restart == "permanent":
                self.restart(name, now, news)
            elif child.restart == "transient":
                if reason not in ("normal", "shutdown"):
                    self.restart(name, now, news)
            else:
                del self.children[name]

    def restart(self, name: str, now: float, news: deque[tuple[str, str, int]]) -> None:
        self.times = [time for time in self.times if time >= now - self.seconds] + [now]
        if len(self.times) > self.most:
            self.given_up = True
            for other in reversed(self.children):
                self.stop(other)
            return
        names = list(self.children)
        group = {
            "one_for_one": [name],
            "one_for_all": names,
            "rest_for_one": names[names.index(name) :],
        }[self.strategy]
        for other in reversed(group):
            self.stop(other)
            self.children[other].life += 1  # news of its earlier life are stale
        for other in group:
            if self.children[other].restart == "temporary":
                del self.children[other]
            elif not self.start(other):
                news.append((other, "again", self.children[other].life))
                return


class SupervisorMachine(Machine):
    """Deaths, failing starts, additions and removals, against the plain supervisor."""

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        most=st.integers(0, 6),
        kinds=st.lists(st.sampled_from(["permanent", "transient", "temporary"]), max_size=4),
    )
    def begin(self, strategy: Any, most: int, kinds: list[str]) -> None:
        self.model = PlainSupervisor(strategy, most, 5.0)
        self.log: list[str] = []
        self.failures: dict[str, int] = {}
        specs = [self.spec(name, kind) for name, kind in zip("abcd", kinds, strict=False)]
        for spec in specs:
            self.model.children[str(spec.id)] = ModelChild(spec.restart)
            self.model.start(str(spec.id))
        self.supervisor: Pid = self.run(start(Supervisor(specs, strategy, most, 5.0)))

    def spec(self, name: str, restart: Any) -> ChildSpec:
        machine = self

        class Child(Server):
            trap_exits = True

            async def init(self) -> None:
                if machine.failures.get(name, 0) > 0:
                    machine.failures[name] -= 1
                    raise OSError("not this time")
                await asyncio.sleep(0)
                machine.log.append("+" + name)

            async def terminate(self, reason: Any) -> None:
                await asyncio.sleep(0)
                machine.log.append("-" + name)

        return ChildSpec(name, Child, restart)

    def living(self) -> list[str]:
        return [name for name, child in self.model.children.items() if child.running]

    @precondition(lambda self: self.living())
    @rule(data=st.data(), reason=REASONS, failures=st.dictionaries(NAMES, st.integers(1, 3), max_size=2))
    def one_ends(self, data: st.DataObject, reason: str, failures: dict[str, int]) -> None:
        self.die([data.draw(st.sampled_from(self.living()))], reason, failures)

    @precondition(lambda self: self.living())
    @rule(data=st.data(), failures=st.dictionaries(NAMES, st.integers(1, 3), max_size=2))
    def some_are_killed_at_once(self, data: st.DataObject, failures: dict[str, int]) -> None:
        names = st.lists(st.sampled_from(self.living()), min_size=1, max_size=3, unique=True)
        self.die(data.draw(names), "kill", failures)

    def die(self, names: list[str], reason: str, failures: dict[str, int]) -> None:
        self.failures, self.model.failures = dict(failures), dict(failures)
        for name in names:
            pid = self.pids[name]
            assert pid is not None
            end(pid, reason)
        self.model.die([(name, reason) for name in names], self.run(self.settled()))
        self.failures, self.model.failures = {}, {}

    @precondition(lambda self: not self.model.given_up)
    @rule(name=NAMES, restart=st.sampled_from(["permanent", "transient", "temporary"]), fails=st.booleans())
    def add(self, name: str, restart: str, fails: bool) -> None:
        async def main() -> Any:
            try:
                return await start_child(self.supervisor, self.spec(name, restart))
            except StartError:
                return "failed"

        self.failures = {name: int(fails)}
        answer = self.run(main())
        self.failures = {}
        if name in self.model.children:
            assert answer == AlreadyStarted(self.pids[name])
        elif fails:
            assert answer == "failed"
        else:
            assert isinstance(answer, Pid)
            self.model.children[name] = ModelChild(restart)
            self.model.start(name)

    @precondition(lambda self: not self.model.given_up)
    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        answer = self.run(terminate_child(self.supervisor, name))
        if name not in self.model.children:
            assert answer == NotFound(name)
        else:
            assert answer is None
            self.model.stop(name)
            del self.model.children[name]

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        self.run(self.settled())
        assert self.log == self.model.log
        assert self.supervisor.alive is not self.model.given_up
        self.pids = {child.id: child.pid for child in self.run(self.children())}
        assert {name: pid is not None for name, pid in self.pids.items()} == {
            name: child.running for name, child in self.model.children.items() if not self.model.given_up
        }
        tasks = len(asyncio.all_tasks(self.world.runner.get_loop()))
        assert tasks == self.supervisor.alive + len(self.living())

    async def settled(self) -> float:
        await settle()
        return asyncio.get_running_loop().time()

    async def children(self) -> Any:
        return await which_children(self.supervisor) if self.supervisor.alive else ()

    async def finish(self) -> None:
        if hasattr(self, "supervisor"):
            await stop(self.supervisor)


class Client(Server):
    """Asks for workers, waits for them, keeps them."""

    def __init__(self, pools: Pools) -> None:
        self.pools = pools
        self.has: list[tuple[str, Pid]] = []
        self.waits_for: str | None = None
        self.served = False

    async def handle_cast(self, message: Any) -> None:
        name, wait = message
        worker = await self.pools.checkout(name, wait)
        self.waits_for = None
        self.served = isinstance(worker, Pid)
        if isinstance(worker, Pid):
            self.has.append((name, worker))


@dataclass
class PlainPool:
    """What must be true of a pool."""

    size: int
    max_overflow: int
    ttl: float
    deaths: list[float] = field(default_factory=list)
    queue: list[Client] = field(default_factory=list)

    @property
    def limit(self) -> int:
        return self.size + self.max_overflow


class PoolMachine(Machine):
    """Clients come, ask, wait, give back and die; workers, managers and supervisors die; pools come and go.

    What the living clients hold is the model of what is lent.
    """

    @initialize()
    def begin(self) -> None:
        self.pools = Pools()
        self.run(start(self.pools, "pools"))
        self.model: dict[str, PlainPool] = {}
        self.clients: list[Client] = []
        self.start_pool("a", 2, 1, 0.0)
        for _ in range(3):
            self.spawn()

    # pools

    @rule(
        name=st.sampled_from("ab"),
        size=st.integers(1, 3),
        more=st.integers(0, 2),
        ttl=st.sampled_from([0.0, 2.0]),
    )
    def start_pool(self, name: str, size: int, more: int, ttl: float) -> None:
        answer = self.run(self.pools.start_pool(name, Echo, size, more, ttl))
        if name in self.model:
            assert answer == AlreadyStarted(self.pools.whereis(name))
        else:
            assert isinstance(answer, Pid)
            self.model[name] = PlainPool(size, more, ttl)

    @rule(name=st.sampled_from("ab"))
    def stop_pool(self, name: str) -> None:
        answer = self.run(self.pools.stop_pool(name))
        assert answer == (None if name in self.model else NotFound(name))
        self.model.pop(name, None)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), parts=st.sampled_from([["manager"], ["workers"], ["workers", "manager"]]))
    def kill_a_part(self, data: st.DataObject, parts: list[str]) -> None:
        async def main() -> float:
            await settle()
            for part in parts:
                exit(self.part(name, part), "kill")
            await settle()
            return asyncio.get_running_loop().time()

        name = data.draw(st.sampled_from(sorted(self.model)))
        now, pool = self.run(main()), self.model[name]
        pool.deaths = [time for time in pool.deaths if time >= now - 5.0] + [now]
        if len(pool.deaths) > 3:
            del self.model[name]

    def part(self, name: str, kind: str) -> Pid:
        pid = self.pools._names.whereis(f"{name}/{kind}")
        assert pid is not None
        return pid

    # clients

    @rule()
    def spawn(self) -> None:
        client = Client(self.pools)
        self.run(start(client))
        self.clients.append(client)

    @precondition(lambda self: self.idle_clients())
    @rule(data=st.data(), name=st.sampled_from("ab"), wait=st.sampled_from([0.0, 2.0, None, None]))
    def ask(self, data: st.DataObject, name: str, wait: float | None) -> None:
        client = data.draw(st.sampled_from(self.idle_clients()))
        client.waits_for = name
        for pool in self.model.values():
            pool.queue = [other for other in pool.queue if other is not client]
        if name in self.model:
            self.model[name].queue.append(client)
        cast(client.pid, (name, wait))

    @precondition(lambda self: self.holdings())
    @rule(data=st.data(), again=st.booleans())
    def give_back(self, data: st.DataObject, again: bool) -> None:
        client, name, worker = data.draw(st.sampled_from(self.holdings()))
        client.has.remove((name, worker))
        again = again and client.waits_for is None  # else it may have the same worker again, rightly
        self.check_in([(name, worker, client)] * (1 + again))

    @precondition(lambda self: self.holdings())
    @rule(data=st.data())
    def strangers_give_back(self, data: st.DataObject) -> None:
        client, name, worker = data.draw(st.sampled_from(self.holdings()))
        strangers = [other for other in [*self.clients, None] if other is not client]
        elsewhere = ("b" if name == "a" else "a", worker, client)
        self.check_in([(name, worker, stranger) for stranger in strangers] + [elsewhere])

    def check_in(self, all_at_once: list[tuple[str, Pid, Client | None]]) -> None:
        """Give workers back in one step, as clients, or as the task of this test."""

        async def main() -> None:
            for name, worker, client in all_at_once:
                manager = self.pools._manager(name)
                if client is None:
                    self.pools.checkin(name, worker)
                elif manager is not None:
                    manager.checkin(worker, client.pid)

        self.run(main())

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), reason=REASONS)
    def kill_a_client(self, data: st.DataObject, reason: str) -> None:
        client = data.draw(st.sampled_from(self.clients))
        if reason == "normal":
            ask_to_stop(client.pid)
        else:
            exit(client.pid, reason)

    # workers

    @precondition(lambda self: self.workers())
    @rule(data=st.data(), reason=REASONS)
    def kill_workers(self, data: st.DataObject, reason: str) -> None:
        for worker in data.draw(
            st.lists(st.sampled_from(self.workers()), min_size=1, max_size=3, unique=True)
        ):
            end(worker, reason)

    def workers(self) -> list[Pid]:
        managers = [
            manager for name in sorted(self.model) if (manager := self.pools._manager(name)) is not None
        ]
        return [worker for manager in managers for worker in [*manager.lent, *manager.idle]]

    @rule(seconds=st.sampled_from([0.5, 1.5, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    # what the model knows, and what must hold

    def idle_clients(self) -> list[Client]:
        return [client for client in self.clients if client.pid.alive and client.waits_for is None]

    def holdings(self) -> list[tuple[Client, str, Pid]]:
        living = [client for client in self.clients if client.pid.alive]
        return [(c, name, worker) for c in living for name, worker in c.has if worker.alive]

    @invariant()
    def no_worker_is_held_twice(self) -> None:
        held = [worker for _, _, worker in self.holdings()]
        assert len(set(held)) == len(held)

    @rule()
    def when_all_has_settled_the_books_are_right(self) -> None:
        self.run(settle())
        self.clients = [client for client in self.clients if client.pid.alive]
        for client in self.clients:
            client.has = [(name, worker) for name, worker in client.has if worker.alive]
        for name in "ab":
            if name in self.model:
                self.check_pool(name, self.model[name])
            else:
                assert self.pools.status(name) == NotFound(name)
                assert not any(client.waits_for == name for client in self.clients)
        self.check_for_leaks()

    def check_pool(self, name: str, pool: PlainPool) -> None:
        status, manager = self.pools.status(name), self.pools._manager(name)
        assert isinstance(status, PoolStatus)
        assert manager is not None
        waiting = [client for client in self.clients if client.waits_for == name]
        assert set(manager.lent) == {worker for _, of, worker in self.holdings() if of == name}
        assert status.waiting == len(waiting)
        total, used = status.idle + status.checked_out, status.checked_out + status.waiting
        assert total >= max(pool.size, min(pool.limit, used))
        assert total <= (pool.limit if pool.ttl else max(pool.size, status.checked_out))
        assert status.overflow == max(0, total - pool.size)
        assert not waiting or (status.idle, status.checked_out) == (0, pool.limit)
        node = tree(self.part(name, "workers"))
        assert node is not None
        assert {child.pid for child in node.children} == {*manager.idle, *manager.lent}
        self.check_order(pool, waiting)

    def check_order(self, pool: PlainPool, waiting: list[Client]) -> None:
        """Nobody who came later was served while one who came earlier still waits."""
        still = [client for client in pool.queue if client in waiting]
        later = pool.queue[pool.queue.index(still[0]) :] if still else []
        assert not any(client.served for client in later if client.pid.alive and client not in still)
        pool.queue = still

    def check_for_leaks(self) -> None:
        managers = [self.pools._manager(name) for name in self.model]
        workers = sum(len(m.idle) + len(m.lent) for m in managers if m is not None)
        tasks = asyncio.all_tasks(self.world.runner.get_loop())
        assert len(tasks) == 1 + 3 * len(self.model) + workers + len(self.clients)
        assert len(self.pools._names.names()) == 3 * len(self.model)
        for client in self.clients:
            assert len(client.pid._watches) == len(client.has)

    async def finish(self) -> None:
        for client in getattr(self, "clients", ()):
            exit(client.pid, "kill")
        await stop(self.pools.pid)
        await settle()
        assert self.pools._names.names() == []


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=60, stateful_step_count=40)
TestSupervisor = SupervisorMachine.TestCase
TestSupervisor.settings = settings(max_examples=150, stateful_step_count=30)
TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=200, stateful_step_count=50)
