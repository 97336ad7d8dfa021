"""The agent as a program: take the lock, start the tree, tell systemd, end in order."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from usbbackup.agent.control import reload
from usbbackup.agent.journal import JournalHandler, handler, output, story
from usbbackup.agent.lock import the_only_agent
from usbbackup.agent.login1 import Logind
from usbbackup.agent.machine import configured, this_machine
from usbbackup.agent.messages import Message
from usbbackup.agent.notifications import Notifications
from usbbackup.agent.systemd import Systemd, watchdog_seconds
from usbbackup.agent.tree import MONITOR, tree
from usbbackup.agent.upower import UPower
from usbbackup.agent.world import World
from usbbackup.bus import session_bus, system_bus
from usbbackup.clock import Timer
from usbbackup.config import Config
from usbbackup.drives.udisks import UDisks
from usbbackup.errors import ConfigError, Exit
from usbbackup.otp import Pid, call, start, stop
from usbbackup.programs import SystemPrograms
from usbbackup.sandbox import landlock_abi

LEAST_ABI = 2  # of Landlock: before that it cannot allow renames between directories


def real_world(env: Mapping[str, str], config: Config | None = None) -> World:
    """This machine, with the user's configuration or another one. Raises ConfigError where it is wrong."""
    here = this_machine(env, config)
    system, session = system_bus(env), session_bus(env)
    return World(
        **vars(here),
        load=lambda: configured(here.paths),
        programs=SystemPrograms(here.clock, env),
        manager=Systemd(env),
        system_bus=system,
        session_bus=session,
        disks=UDisks(system),
        desktop=Notifications(session),
        login=Logind(system),
        battery=UPower(system),
    )


def run(world: World, life: Callable[[], Coroutine[Any, Any, int]] | None = None) -> int:
    """Be the agent until told to stop; returns the exit code. Raises NotNowError where another one runs."""
    told = handler(world.env)
    logging.getLogger("usbbackup").addHandler(told)
    if isinstance(told, JournalHandler):
        output.setLevel(logging.DEBUG)
    logging.getLogger("usbbackup").setLevel(logging.INFO)
    with the_only_agent(world.paths):
        return asyncio.run(life() if life else live(world))


async def live(world: World) -> int:
    """Start, serve, stop."""
    root = world.root = await start(tree(world), name="usbbackup")
    stopping = asyncio.get_running_loop().create_future()
    with _signals(world, stopping), _watchdog(world):
        await call(world.registry.via(MONITOR), "settled", None)
        world.since = world.clock.now()
        world.manager.tell("READY=1")
        story.info("usbbackup is ready", extra={"kind": Message.READY})
        if landlock_abi() < LEAST_ABI:
            lacking = "this kernel has no Landlock: rsync and borg are not confined to the drive by it"
            story.warning(lacking, extra={"kind": Message.NO_LANDLOCK})
        await _until(root, stopping)
        world.manager.tell("STOPPING=1", "STATUS=stopping: ending runs in order")
        if not root.alive:
            gives_up = "the agent gives up: something failed too often (%r)"
            story.critical(gives_up, root.reason, extra={"kind": Message.GIVES_UP})
            return Exit.BUG
        await stop(root, "shutdown")
        await world.close()
    return Exit.DONE


async def _until(root: Pid, stopping: "asyncio.Future[None]") -> None:
    ended = asyncio.ensure_future(root.join())
    await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()


@contextlib.contextmanager
def _signals(world: World, stopping: "asyncio.Future[None]") -> Iterator[None]:
    """TERM and INT stop, HUP reloads."""
    loop = asyncio.get_running_loop()

    def asked_to_stop() -> None:
        if not stopping.done():
            stopping.set_result(None)

    handlers: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: asked_to_stop,
        signal.SIGINT: asked_to_stop,
        signal.SIGHUP: lambda: _reload(world),
    }
    for number, handle in handlers.items():
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _reload(world: World) -> None:
    world.manager.tell("RELOADING=1")
    with contextlib.suppress(ConfigError):  # told already
        reload(world, world.registry.via(MONITOR))
    world.manager.tell("READY=1")


@contextlib.contextmanager
def _watchdog(world: World) -> Iterator[None]:
    """Say that the event loop is alive, as often as systemd wants to hear it."""
    every = watchdog_seconds(world.env, world.pid)
    timers: list[Timer] = []

    def alive() -> None:
        world.manager.tell("WATCHDOG=1")
        timers[:] = [world.clock.later(every or 0, alive)]

    if every is not None:
        alive()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
