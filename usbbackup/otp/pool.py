"""Pools of workers: who may use one is decided in place, by the books; who lives is the supervisors' affair.

Pools                   one dynamic supervisor of all pools
`- <name>/pool          one_for_all
   |- <name>/workers    starts temporary workers, restarts none
   `- <name>/manager    keeps the books, and replaces a worker that died
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from usbbackup.otp.clock import Clock, Timer
from usbbackup.otp.process import (
    CallTimeoutError,
    ExitedError,
    Pid,
    Ref,
    Target,
    exit,
    monitor,
    resolve,
    self_pid,
    unwatch,
    watch,
)
from usbbackup.otp.registry import Registry
from usbbackup.otp.server import Server, ask_to_stop, cast, log, stop
from usbbackup.otp.spec import BadArgumentError, ChildSpec, Intensity, check_seconds, check_whole
from usbbackup.otp.supervisor import (
    AlreadyStarted,
    DynamicSupervisor,
    NotFound,
    Supervisor,
    start_child,
    which_children,
)

T = TypeVar("T")
WorkerSpec = type[Server] | tuple[type[Server], tuple[Any, ...]] | ChildSpec

DEATHS_PER_PLACE = 100
"""More deaths of workers, per place and in the pool's `max_seconds`, are a loop: the manager gives up."""


@dataclass(frozen=True)
class Full:
    """No worker of that pool was to be had for as long as the caller would wait."""

    name: str


@dataclass(frozen=True)
class PoolStatus:
    """A pool's books."""

    name: str
    size: int
    max_overflow: int
    idle: int  # to be had at once; overflow workers that cool down are among them
    checked_out: int
    overflow: int  # workers beyond `size`
    waiting: int  # clients in the queue


def worker_child_spec(worker_spec: object) -> ChildSpec:
    """Any worker spec as a child spec; always temporary, for the manager decides on replacements."""
    match worker_spec:
        case ChildSpec():
            return replace(worker_spec, restart="temporary")
        case type() if issubclass(worker_spec, Server):
            return ChildSpec(worker_spec.__name__, worker_spec, "temporary")
        case (type() as kind, list() | tuple() as arguments) if issubclass(kind, Server):
            return ChildSpec(kind.__name__, lambda: kind(*arguments), "temporary")
        case _:
            raise BadArgumentError("worker_spec", "a Server class, (class, args) or a ChildSpec", worker_spec)


@dataclass(frozen=True)
class PoolSpec:
    """What a pool is made of; seconds are of the pools' clock."""

    name: str
    worker: ChildSpec
    size: int
    max_overflow: int
    overflow_ttl: float
    max_restarts: int
    max_seconds: float

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise BadArgumentError("name", "a string that is not empty", self.name)
        check_whole("size", self.size, 1)
        check_whole("max_overflow", self.max_overflow, 0)
        check_seconds("overflow_ttl", self.overflow_ttl)
        check_whole("max_restarts", self.max_restarts, 0)
        check_seconds("max_seconds", self.max_seconds)

    @property
    def limit(self) -> int:
        """The most workers there may be."""
        return self.size + self.max_overflow


class Manager(Server):
    """Keeps the books of one pool; `checkout` and `checkin` change them in the client's own step."""

    def __init__(self, pool: PoolSpec, workers: Target, clock: Clock) -> None:
        self.pool, self.workers, self.clock = pool, workers, clock
        self.idle: dict[Pid, None] = {}
        self.lent: dict[Pid, Ref] = {}
        self.waiting: OrderedDict[asyncio.Future[Pid], Pid] = OrderedDict()
        self.cooling: dict[Pid, Timer] = {}
        self.deaths = Intensity(DEATHS_PER_PLACE * pool.size, pool.max_seconds, clock)

    async def init(self) -> None:
        """Start the workers; one that cannot start makes the pool fail."""
        await self._fill()

    async def handle_cast(self, lost: Pid | None) -> None:
        """Start what is missing, and say so where that is because a worker was lost."""
        with suppress(ExitedError):  # the worker supervisor is dead, and this process goes with it
            await self._fill()
            if lost is not None:
                nth, limit = len(self.deaths.times), f"{self.deaths.most} in {self.deaths.seconds:g} s"
                log.warning("%s lost %s, which ended (%r): %d of %s", self.pid, lost, lost.reason, nth, limit)

    async def checkout(self, client: Pid, wait: float | None) -> Pid | Full:
        """Hand out a worker: an idle one, one that is to be started, or after waiting for a checkin."""
        if not client.alive:
            raise RuntimeError(f"{client} is dead, and would never give a worker back")
        if self.idle:
            worker, _ = self.idle.popitem()
            self._lend(worker, client)
            return worker
        if len(self.lent) + len(self.waiting) < self.pool.limit:
            return await self._queue(client, None if wait == 0 else wait)
        return Full(self.pool.name) if wait == 0 else await self._queue(client, wait)

    def checkin(self, worker: Pid, client: Pid) -> None:
        """Take a worker back from who has it; anything else is ignored."""
        ref = self.lent.get(worker)
        if ref is not None and ref.pid is client:
            self._take_back(worker)

    def status(self) -> PoolStatus:
        """The books as they are now."""
        pool, total = self.pool, len(self.idle) + len(self.lent)
        beyond = max(0, total - pool.size)
        return PoolStatus(
            pool.name, pool.size, pool.max_overflow, len(self.idle), len(self.lent), beyond, len(self.waiting)
        )

    async def _queue(self, client: Pid, wait: float | None) -> Pid | Full:
        future: asyncio.Future[Pid] = asyncio.get_running_loop().create_future()
        self.waiting[future] = client
        self._call_for_workers()
        try:
            worker: Pid = await self.pid.answer(future, wait, self.clock.later)
        except CallTimeoutError:
            return Full(self.pool.name)
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.checkin(future.result(), client)
            raise
        finally:
            self.waiting.pop(future, None)
        return worker

    def _lend(self, worker: Pid, client: Pid) -> None:
        if self.cooling and (timer := self.cooling.pop(worker, None)) is not None:
            timer.cancel()
        self.lent[worker] = watch(client, lambda ref, reason: self._take_back(worker))

    def _take_back(self, worker: Pid) -> None:
        unwatch(self.lent.pop(worker))
        self._give(worker)

    def _give(self, worker: Pid) -> None:
        while self.waiting:
            future, client = self.waiting.popitem(last=False)
            if future.done() or not client.alive:
                future.cancel()
                continue
            self._lend(worker, client)
            resolve(future, worker)
            return
        self.idle[worker] = None
        if len(self.idle) + len(self.lent) > self.pool.size:
            self._cool(worker)

    def _cool(self, worker: Pid) -> None:
        if self.pool.overflow_ttl:
            self.cooling[worker] = self.clock.later(self.pool.overflow_ttl, lambda: self._cooled(worker))
        else:
            self._dismiss(worker)

    def _cooled(self, worker: Pid) -> None:
        del self.cooling[worker]
        if len(self.idle) + len(self.lent) > self.pool.size:
            self._dismiss(worker)

    def _dismiss(self, worker: Pid) -> None:
        del self.idle[worker]
        exit(worker, "shutdown")

    def _died(self, worker: Pid) -> None:
        if worker in self.lent:
            unwatch(self.lent.pop(worker))
        elif worker in self.idle:
            del self.idle[worker]
        else:
            return
        if (timer := self.cooling.pop(worker, None)) is not None:
            timer.cancel()
        self._count_death()
        cast(self.pid, worker)

    def _count_death(self) -> None:
        if self.deaths.exceeded():
            exit(self.pid, "its workers keep dying")

    def _missing(self) -> int:
        used = len(self.lent) + len(self.waiting)
        return max(self.pool.size, min(self.pool.limit, used)) - len(self.idle) - len(self.lent)

    def _call_for_workers(self) -> None:
        if self._missing() > 0:
            cast(self.pid, None)

    async def _fill(self) -> None:
        while self._missing() > 0:
            worker = await start_child(self.workers, self.pool.worker)
            if isinstance(worker, Pid) and worker.alive:
                watch(worker, lambda ref, reason: self._died(ref.pid))
                self._give(worker)
            else:
                self._count_death()


class Pools(DynamicSupervisor):
    """All pools, by name. The object stays valid when its process is restarted, without pools then.

    Expected failures are values: Full, NotFound, AlreadyStarted. A pool that exceeds its restart limit is
    gone, its name is free, and other pools are not touched.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._names = Registry()
        super().__init__(clock=clock, registry=self._names)

    async def start_pool(
        self,
        name: str,
        worker_spec: WorkerSpec,
        size: int,
        max_overflow: int = 0,
        overflow_ttl: float = 0.0,
        *,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
    ) -> Pid | AlreadyStarted:
        """Start a pool of `size` workers, and up to `max_overflow` more while clients wait.

        An overflow worker leaves when it was idle for `overflow_ttl` seconds. Raises BadArgumentError before
        anything is started, StartError where a worker cannot start.
        """
        worker = worker_child_spec(worker_spec)
        pool = PoolSpec(name, worker, size, max_overflow, overflow_ttl, max_restarts, max_seconds)
        return await start_child(self.pid, self._child_spec(pool))

    def _child_spec(self, pool: PoolSpec) -> ChildSpec:
        workers, manager = f"{pool.name}/workers", f"{pool.name}/manager"
        clock, names = self.clock, self._names
        children = [
            ChildSpec("workers", lambda: DynamicSupervisor(clock=clock), type="supervisor", name=workers),
            ChildSpec("manager", lambda: Manager(pool, names.via(workers), clock), name=manager),
        ]
        limits = pool.max_restarts, pool.max_seconds
        whole = Supervisor(children, "one_for_all", *limits, clock=clock, registry=names)
        return ChildSpec(pool.name, lambda: whole, "temporary", type="supervisor", name=f"{pool.name}/pool")

    def whereis(self, name: str) -> Pid | None:
        """The supervisor of that pool, to monitor it."""
        return self._names.whereis(f"{name}/pool")

    async def stop_pool(self, name: str) -> NotFound | None:
        """Stop a pool, its manager first, then its workers, and wait until all of it is gone."""
        pool = self.whereis(name)
        if pool is None:
            return NotFound(name)
        await stop(pool, "shutdown")
        return None

    def ask_to_stop_pool(self, name: str) -> Ref | NotFound:
        """As `stop_pool`, without waiting: a Down with this Ref tells the calling process that it is gone."""
        pool = self.whereis(name)
        if pool is None:
            return NotFound(name)
        ask_to_stop(pool, "shutdown")
        return monitor(pool)

    async def checkout(self, name: str, wait: float | None = 0.0) -> Pid | Full | NotFound:
        """Borrow a worker for the calling process: at once, or after up to `wait` seconds (None: no limit).

        First come, first served. A client that waits when the pool is restarted goes on to wait, and gets
        NotFound when it is stopped.
        """
        while (manager := self._manager(name) or await self._restarted(name)) is not None:
            with suppress(ExitedError):
                return await manager.checkout(self_pid(), wait)
        return NotFound(name)

    def checkin(self, name: str, worker: Pid) -> None:
        """Give a worker back; ignored where the calling process does not have it checked out."""
        if (manager := self._manager(name)) is not None:
            manager.checkin(worker, self_pid())

    async def transaction(
        self, name: str, use: Callable[[Pid], Awaitable[T]], wait: float | None = None
    ) -> T | Full | NotFound:
        """Borrow a worker, use it, give it back whatever happens; returns what `use` returns."""
        worker = await self.checkout(name, wait)
        if not isinstance(worker, Pid):
            return worker
        try:
            return await use(worker)
        finally:
            self.checkin(name, worker)

    def status(self, name: str) -> PoolStatus | NotFound:
        """The books of a pool."""
        manager = self._manager(name)
        return NotFound(name) if manager is None else manager.status()

    def _manager(self, name: str) -> Manager | None:
        pid = self._names.whereis(f"{name}/manager")
        return pid.server if pid is not None and isinstance(pid.server, Manager) else None

    async def _restarted(self, name: str) -> Manager | None:
        pool = self.whereis(name)
        if pool is not None and isinstance(pool.server, Supervisor) and not pool.server.stopping:
            with suppress(ExitedError):
                await which_children(pool)  # it answers when the restart is over
        return self._manager(name)
