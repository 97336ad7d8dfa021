"""Commands without an agent: the same tree for as long as one command needs it, or no tree at all."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from usbbackup.agent import daemon, desk
from usbbackup.agent.control import Control
from usbbackup.agent.tree import MONITOR, tree
from usbbackup.agent.world import World
from usbbackup.config import Config
from usbbackup.drives.monitor import Sighting, verdicts
from usbbackup.drives.ready import Candidate, Verdict, Waiting, Why
from usbbackup.history import History
from usbbackup.otp import start, stop

Answer = dict[str, Any]


def runs(world: World, parameters: Answer, tell: Callable[[Answer], None]) -> None:
    """Do what `Start` does of a running agent, and wait for the end. Raises what it would answer."""
    with daemon.the_only_agent(world.paths):
        asyncio.run(_runs(world, parameters, tell))


async def _runs(world: World, parameters: Answer, tell: Callable[[Answer], None]) -> None:
    root = await start(tree(world, scheduled=False, listening=False), name="usbbackup")
    try:
        control = Control(world, world.registry.via(MONITOR))
        answers: AsyncIterator[Answer] = control.start(parameters | {"wait": True})
        async for answer in answers:
            tell(answer["event"])
    finally:
        await stop(root, "shutdown")


def picture(world: World) -> desk.Picture:
    """All drives at one look; nothing is written to any of them."""
    return desk.Picture([_sighting(verdict) for verdict in verdicts(world, world.udev.devices())])


def _sighting(verdict: Verdict) -> Sighting:
    match verdict.decision:
        case Candidate():
            reason = "The drive is plugged in and mounted; no agent runs to use it."
            return Sighting(
                verdict, Waiting(Why.NO_ANSWER, reason, "Start it: systemctl --user start usbbackup")
            )
        case decision:
            return Sighting(verdict, decision)


def status(env: Mapping[str, str]) -> Answer:
    """What `Status` would answer, from the history and one look at the drives."""
    world = daemon.real_world(env, otherwise=Config(jobs=()))
    history = History.open(world.paths.history_db, world.clock, readonly=True)
    try:
        return desk.status(world, picture(world), history, pid=None, runs=[])
    finally:
        history.close()


def snapshots(env: Mapping[str, str], parameters: Answer) -> Answer:
    """What `Snapshots` would answer."""
    world = daemon.real_world(env, otherwise=Config(jobs=()))
    return asyncio.run(
        desk.snapshots(world, picture(world).sightings, parameters["drive"], parameters["job"])
    )


def drives(env: Mapping[str, str], method: str, parameters: Answer) -> Answer:
    """What `Drives`, `Enrol` and `Forget` would answer."""
    world = daemon.real_world(env, otherwise=Config(jobs=()))
    seen = picture(world)
    match method:
        case "Enrol":
            made = desk.enrol(world, seen.sightings, parameters["drive"], read_only=parameters["read_only"])
            return {"drive": made.record()}
        case "Forget":
            return {"drive": desk.forget(world, seen.sightings, parameters["drive"])}
        case _:
            return {"drives": desk.drives(seen)}
