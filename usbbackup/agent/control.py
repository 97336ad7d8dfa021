"""The control socket: what the command line asks of a running agent, answered in Varlink."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

from usbbackup.agent import desk, enrolling, shelves
from usbbackup.agent.desk import Answer, Record
from usbbackup.agent.dispatcher import CancelRuns, Wish, running
from usbbackup.agent.events import Event
from usbbackup.agent.historian import ask
from usbbackup.agent.journal import story
from usbbackup.agent.manners import MANNERS
from usbbackup.agent.messages import Message
from usbbackup.agent.messenger import MESSENGER
from usbbackup.agent.run import DISPATCHER, HISTORIAN, Order
from usbbackup.agent.stale import STALE_WATCH
from usbbackup.agent.status import agent_record, run_record, tree_record
from usbbackup.agent.varlink_server import Handler, VarlinkServer
from usbbackup.agent.world import World
from usbbackup.drives.monitor import LookAgain
from usbbackup.drives.mounter import MOUNTER, Eject
from usbbackup.errors import ConfigError, NotNowError, UsbbackupError
from usbbackup.offload import in_thread
from usbbackup.otp import CallTimeoutError, ExitedError, Server, Target, call, cast, tree

SPACE_SECONDS = 2.0  # a drive that hangs does not tell its free space, and must not hold up the answer
SETTLE_SECONDS = 5.0  # what is asked only to be shown does not wait longer for drives that are being tried
NO_HISTORY = "the run history cannot be read now; see the journal: journalctl --user -u usbbackup"


class Control(Server):
    """Owns the socket for as long as it lives; every method asks the others and answers."""

    trap_exits = True

    def __init__(self, world: World, monitor: Target) -> None:
        self._world, self._monitor = world, monitor
        self._dispatcher = world.registry.via(DISPATCHER)

    async def init(self) -> None:
        """Listen; a socket that a dead agent left behind is replaced."""
        description = Path(__file__).with_name("io.usbbackup.Agent.varlink").read_text()
        methods: dict[str, Handler] = {
            "Status": self.status,
            "Tree": self.tree,
            "Start": self.start,
            "Cancel": self.cancel,
            "Reload": self.reload,
            "Drives": self.drives,
            "About": self.about,
            "Enrol": self.enrol,
            "Forget": self.forget,
            "Eject": self.eject,
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
        return await self._status()

    async def _status(self) -> Answer:
        world, picture = self._world, await self._picture()
        runs = [run_record(order) for order in running(world)]
        lasts = await ask(
            world.registry.via(HISTORIAN),
            lambda history: desk.last_runs(world.config, picture, history),
            None,
        )
        shown = await self._shown(picture)
        told = desk.status(
            world, picture, shown, lasts or {}, agent=agent_record(world.pid, world.since), runs=runs
        )
        return {"status": told, "troubles": [NO_HISTORY] if lasts is None else []}

    async def start(self, parameters: Answer) -> AsyncIterator[Answer]:
        """Start runs; with `wait` tell how they go until all are over."""
        await self._settled()
        world, picture = self._world, await self._picture()
        pairs = desk.chosen(world.config, picture.sightings, parameters["jobs"], parameters.get("drive"))
        if (error := desk.in_the_way(running(world), pairs, parameters)) is not None:
            raise error
        wish = Wish(tuple(pairs), parameters["accept_source"], parameters["dry_run"])
        with world.hub.stream() as events:
            orders = [order for order in await call(self._dispatcher, wish, None) if isinstance(order, Order)]
            if not orders:
                raise NotNowError("the drive left just now", "plug it in again")
            for order in orders:
                yield {"event": order.event("queued", order.progress).record()}
            if parameters["wait"]:
                async for event in until_ended(events, orders):
                    yield {"event": event.record()}

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
        with suppress(CallTimeoutError):
            await self._settled(SETTLE_SECONDS)
        return {"drives": await self._shown(await self._picture())}

    async def about(self, parameters: Answer) -> Answer:
        """What a word means: a job with the drives it goes to, or one drive."""
        picture = await self._picture()
        job, meant = desk.about(self._world.config, picture.sightings, parameters["word"])
        return {"job": job, "drives": desk.drives(desk.Picture(meant), desk.nothing_known)}

    async def enrol(self, parameters: Answer) -> Answer:
        """Enrol a drive; on a thread, since the drive is written to."""
        await self._settled()
        before, word = (await self._picture()).sightings, parameters.get("drive")
        made = await in_thread(
            lambda: enrolling.enrol(self._world, before, word, read_only=parameters["read_only"])
        )
        await self._settled()
        return enrolling.enrolled(await self._picture(), made)

    async def forget(self, parameters: Answer) -> Answer:
        """Take an enrolment back."""
        sighting = enrolling.forget(self._world, (await self._picture()).sightings, parameters["drive"])
        await self._settled()
        return {"drive": enrolling.forgotten(await self._picture(), sighting)}

    async def eject(self, parameters: Answer) -> Answer:
        """Make a drive safe to unplug."""
        sighting = desk.sighting_named((await self._picture()).sightings, parameters["drive"])
        desk.refuse_while_running(running(self._world, sighting.uuid), sighting)
        try:
            told = await call(self._world.registry.via(MOUNTER), Eject(sighting.uuid), None)
        except ExitedError:
            told = NotNowError(
                "what ejects drives has ended; see the journal", "eject it in the file manager"
            )
        if isinstance(told, UsbbackupError):
            raise told
        return {"drive": desk.drive(await self._picture(), sighting), "message": told}

    async def snapshots(self, parameters: Answer) -> AsyncIterator[Answer]:
        """What the drives hold that are plugged in, in several answers."""
        sightings = (await self._picture()).sightings
        async for answer in shelves.snapshots(
            self._world, sightings, parameters.get("drive"), parameters.get("job")
        ):
            yield answer

    async def watch(self, parameters: Answer) -> AsyncIterator[Answer]:
        """What happens to runs, from now on, and all there is to see whenever more than that has changed."""
        with self._world.hub.stream() as events:
            yield {"event": Event("changed").record(), **await self._status()}
            async for event in events:
                nothing_new: Answer = {"status": None, "troubles": []}
                more = await self._status() if event.event in ("changed", "ended") else nothing_new
                yield {"event": event.record(), **more}

    async def tree(self, parameters: Answer) -> Answer:
        """The live supervision tree."""
        root = None if self._world.root is None else tree(self._world.root)
        return {"tree": None if root is None else tree_record(root, self._world.clock)}

    async def _picture(self) -> desk.Picture:
        picture: desk.Picture = await call(self._dispatcher, "picture", None)
        return picture

    async def _shown(self, picture: desk.Picture) -> list[Record]:
        try:
            async with asyncio.timeout(SPACE_SECONDS):
                return await in_thread(desk.drives, picture)
        except TimeoutError:
            return desk.drives(picture, desk.nothing_known)

    async def _settled(self, patience: float | None = None) -> None:
        """Wait until every drive that can be tried has been tried. Raises CallTimeoutError."""
        cast(self._monitor, LookAgain())
        await call(self._monitor, "settled", patience)


def reload(world: World, monitor: Target) -> None:
    """Take the new configuration. Raises ConfigError and changes nothing where it is wrong."""
    try:
        world.config = world.load()
    except ConfigError as error:
        refused = "the old configuration stays in force, the new one is wrong: %s"
        story.error(refused, error.message, extra={"kind": Message.CONFIGURATION_REFUSED})
        raise
    story.info("the new configuration is in force", extra={"kind": Message.CONFIGURATION_TAKEN})
    cast(monitor, LookAgain())
    for concerned in (DISPATCHER, STALE_WATCH, MANNERS, MESSENGER):
        cast(world.registry.via(concerned), "configuration")


async def until_ended(events: AsyncIterator[Event], orders: Sequence[Order]) -> AsyncIterator[Event]:
    """What happens to these runs, until all of them are over; one that is over already is told of at once."""
    waiting = {order.run for order in orders if order.result is None}
    for order in orders:
        if order.result is not None:
            yield order.ended
    while waiting:
        event = await anext(events)
        if event.run in waiting:
            yield event
        if event.event == "ended":
            waiting.discard(event.run)
