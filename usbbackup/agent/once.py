"""Commands without an agent: the same tree for as long as one command needs it, or no tree at all."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping

from usbbackup.agent import daemon, desk, due, enrolling, shelves
from usbbackup.agent.control import Control
from usbbackup.agent.desk import Answer
from usbbackup.agent.glance import NO_JOBS, picture
from usbbackup.agent.journal import only_errors
from usbbackup.agent.lock import the_only_agent
from usbbackup.agent.tree import MONITOR, tree
from usbbackup.agent.world import World
from usbbackup.backup.snapshots import Ask
from usbbackup.drives.mounter import ejected
from usbbackup.drives.sighting import Sighting
from usbbackup.errors import ConfigError, NotNowError
from usbbackup.otp import start, stop
from usbbackup.outcome import Outcome
from usbbackup.paths import Paths


def runs(world: World, parameters: Answer, tell: Callable[[Answer], None]) -> list[str]:
    """Do what `Start` does of a running agent, and wait for the end. Raises what it would answer.

    Returns what became of the drives that the configuration says to let go of, a sentence each.

    Raises NotNowError where this process is told to end meanwhile, after its runs have ended in order.
    """
    with only_errors(), the_only_agent(world.paths):  # how runs go is told by `tell`
        try:
            return asyncio.run(_runs(world, parameters, tell))
        except asyncio.CancelledError:
            raise NotNowError("told to stop", "the next backup goes on from there") from None


async def _runs(world: World, parameters: Answer, tell: Callable[[Answer], None]) -> list[str]:
    _end_with_the_process()
    ends: dict[str, list[Outcome]] = {}
    root = await start(tree(world, scheduled=False, listening=False), name="usbbackup")
    try:
        control = Control(world, world.registry.via(MONITOR))
        answers: AsyncIterator[Answer] = control.start(parameters | {"wait": True})
        async for answer in answers:
            event = answer["event"]
            tell(event)
            if event["event"] == "ended" and not parameters["dry_run"]:
                ends.setdefault(event["drive"], []).append(event["outcome"])
    finally:
        await stop(root, "shutdown")
    try:
        seen = picture(world).sightings
        return [await _let_go(world, sighting) for sighting in seen if _is_done(sighting, ends)]
    finally:
        await world.close()


def _is_done(sighting: Sighting, ends: Mapping[str, list[Outcome]]) -> bool:
    return sighting.verdict.drive.after != "keep" and due.is_done(ends.get(sighting.uuid, []))


async def _let_go(world: World, sighting: Sighting) -> str:
    """Do what the drive's `after` says, as the agent does; tried once, since the user is there."""
    try:
        power_off = sighting.verdict.drive.after == "power-off"
        told = await ejected(sighting, world, power_off=power_off, lock=False)
    except NotNowError as error:
        told = " ".join(filter(None, (error.message, error.hint)))
    return f"drive '{sighting.name}': {told}"


def _end_with_the_process() -> None:
    """TERM and HUP cancel what goes on, as INT does by itself (asyncio.Runner): no run is merely dropped."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - called from a coroutine
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def answer(env: Mapping[str, str], method: str, parameters: Answer) -> Answer:
    """What an agent would answer to a method about drives. Raises ConfigError for a wrong configuration."""
    world = here(env)
    seen = picture(world)
    match method:
        case "Drives":
            return {"drives": desk.drives(seen)}
        case "About":
            job, meant = desk.about(world.config, seen.sightings, parameters["word"])
            return {"job": job, "drives": desk.drives(desk.Picture(meant))}
        case "Enrol":
            made = enrolling.enrol(
                world, seen.sightings, parameters["drive"], read_only=parameters["read_only"]
            )
            return enrolling.enrolled(picture(world), made)
        case "Forget":
            sighting = enrolling.forget(world, seen.sightings, parameters["drive"])
            return {"drive": enrolling.forgotten(picture(world), sighting)}
        case "Eject":
            return asyncio.run(_eject(world, desk.sighting_named(seen.sightings, parameters["drive"])))
        case _:
            raise ValueError(f"{method} needs an agent")


async def _eject(world: World, sighting: Sighting) -> Answer:
    try:
        message = await ejected(sighting, world, power_off=True, lock=True)
    finally:
        await world.close()
    return {"drive": desk.drive(picture(world), sighting), "message": message}


def snapshots(env: Mapping[str, str], parameters: Answer, ask: Ask | None) -> list[Answer]:
    """What `Snapshots` would answer; `ask` knows passphrases that no passcommand tells."""

    async def all_answers() -> list[Answer]:
        world = here(env)
        found = shelves.snapshots(
            world, picture(world).sightings, parameters["drive"], parameters["job"], ask
        )
        return [answer async for answer in found]

    return asyncio.run(all_answers())


def here(env: Mapping[str, str]) -> World:
    """This machine; without a configuration its defaults hold. Raises ConfigError for a wrong one."""
    try:
        return daemon.real_world(env)
    except ConfigError:
        if Paths.of(env).config_file.exists():
            raise
        return daemon.real_world(env, NO_JOBS)
