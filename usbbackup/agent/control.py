"""The control socket: what the command line asks of a running agent, answered in Varlink."""

from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from usbbackup.agent import desk
from usbbackup.agent.dispatcher import CancelRuns, Wish, running
from usbbackup.agent.events import Event
from usbbackup.agent.historian import ask
from usbbackup.agent.run import DISPATCHER, HISTORIAN, Order
from usbbackup.agent.status import run_record, tree_record
from usbbackup.agent.varlink_server import Handler, VarlinkServer
from usbbackup.agent.world import World
from usbbackup.drives.monitor import LookAgain
from usbbackup.errors import NotNowError
from usbbackup.otp import Server, Target, call, cast, tree
from usbbackup.outcome import Progress

Answer = dict[str, Any]


class Control(Server):
    """Owns the socket for as long as it lives; every method asks the others and answers."""

    trap_exits = True

    def __init__(self, world: World, monitor: Target) -> None:
        self._world, self._monitor = world, monitor
        self._dispatcher = world.registry.via(DISPATCHER)

    async def init(self) -> None:
        """Listen; a socket that a dead agent left behind is replaced."""
        description = resources.files("usbbackup.agent").joinpath("io.usbbackup.Agent.varlink").read_text()
        methods: dict[str, Handler] = {
            "Status": self.status,
            "Tree": self.tree,
            "Start": self.start,
            "Cancel": self.cancel,
            "Reload": self.reload,
            "Drives": self.drives,
            "Enrol": self.enrol,
            "Forget": self.forget,
            "Snapshots": self.snapshots,
            "Watch": self.watch,
        }
        self._server = VarlinkServer(self._world.paths.socket, description, methods)
        await self._server.start()

    async def terminate(self, reason: object) -> None:
        """Listen no more."""
        await self._server.close()

    async def status(self, parameters: Answer) -> Answer:
        """Drives, jobs, what runs; a drive that waits is tried once more."""
        cast(self._monitor, LookAgain())
        picture = await self._picture()
        runs = [run_record(order) for order in running(self._world)]
        world = self._world
        told = await ask(
            world.registry.via(HISTORIAN),
            lambda history: desk.status(world, picture, history, pid=world.pid, runs=runs),
            None,
        )
        if told is None:
            raise NotNowError(
                "the history cannot be read now", "see the journal: journalctl --user -u usbbackup"
            )
        return {"status": told}

    async def start(self, parameters: Answer) -> AsyncIterator[Answer]:
        """Start runs; with `wait` tell how they go until all are over."""
        await self._settled()
        picture = await self._picture()
        pairs = desk.chosen(
            self._world.config, picture.sightings, parameters["jobs"], parameters.get("drive")
        )
        wish = Wish(tuple(pairs), parameters["accept_source"], parameters["dry_run"])
        with self._world.hub.stream() as events:
            orders = [order for order in await call(self._dispatcher, wish, None) if isinstance(order, Order)]
            if not orders:
                raise NotNowError("the drive left just now", "plug it in again")
            waiting = {order.run for order in orders}
            for order in orders:
                yield {"event": _begun(order).record()}
            async for event in events if parameters["wait"] else _nothing():
                if event.run in waiting:
                    yield {"event": event.record()}
                    if event.event == "ended":
                        waiting.discard(event.run)
                if not waiting:
                    return

    async def cancel(self, parameters: Answer) -> Answer:
        """End runs because the user says so."""
        job = parameters.get("job")
        if job is not None:
            desk.job_named(self._world.config, job)
        orders = await call(self._dispatcher, CancelRuns(job), None)
        return {"cancelled": [order.run for order in orders]}

    async def reload(self, parameters: Answer) -> Answer:
        """Read the configuration anew; a wrong one is refused and the old one stays in force."""
        reload(self._world, self._monitor)
        return {"message": "the new configuration is in force"}

    async def drives(self, parameters: Answer) -> Answer:
        """Every drive that the configuration means."""
        await self._settled()
        return {"drives": desk.drives(await self._picture())}

    async def enrol(self, parameters: Answer) -> Answer:
        """Enrol a drive."""
        await self._settled()
        picture = await self._picture()
        made = desk.enrol(
            self._world, picture.sightings, parameters.get("drive"), read_only=parameters["read_only"]
        )
        await self._settled()
        return {"drive": made.record()}

    async def forget(self, parameters: Answer) -> Answer:
        """Take an enrolment back."""
        drive = desk.forget(self._world, (await self._picture()).sightings, parameters["drive"])
        await self._settled()
        return {"drive": drive}

    async def snapshots(self, parameters: Answer) -> Answer:
        """What the drives hold that are plugged in."""
        sightings = (await self._picture()).sightings
        return await desk.snapshots(self._world, sightings, parameters.get("drive"), parameters.get("job"))

    async def watch(self, parameters: Answer) -> AsyncIterator[Answer]:
        """What happens to runs, from now on."""
        with self._world.hub.stream() as events:
            async for event in events:
                yield {"event": event.record()}

    async def tree(self, parameters: Answer) -> Answer:
        """The live supervision tree."""
        root = None if self._world.root is None else tree(self._world.root)
        return {"tree": None if root is None else tree_record(root, self._world.clock)}

    async def _picture(self) -> desk.Picture:
        picture: desk.Picture = await call(self._dispatcher, "picture", None)
        return picture

    async def _settled(self) -> None:
        """Wait until every drive that can be tried has been tried."""
        cast(self._monitor, LookAgain())
        await call(self._monitor, "settled", None)


def reload(world: World, monitor: Target) -> None:
    """Take the new configuration. Raises ConfigError and changes nothing where it is wrong."""
    world.config = world.load()
    cast(monitor, LookAgain())
    cast(world.registry.via(DISPATCHER), "configuration")


def _begun(order: Order) -> Event:
    progress: Progress = order.progress
    return Event("queued", order.run, order.job.name, order.drive.uuid, progress)


async def _nothing() -> AsyncIterator[Event]:
    return
    yield
