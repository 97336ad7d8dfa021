"""Who is alive: the supervision tree of the agent, as one list.

`rest_for_one`: what comes later leans on what came before, and is started anew with it.
"""

from usbbackup.agent.control import Control
from usbbackup.agent.dispatcher import Dispatcher
from usbbackup.agent.historian import Historian
from usbbackup.agent.manners import MANNERS, Manners
from usbbackup.agent.messenger import MESSENGER, Messenger
from usbbackup.agent.notifier import NOTIFIER, Notifier
from usbbackup.agent.run import DISPATCHER, HISTORIAN
from usbbackup.agent.stale import STALE_WATCH, StaleWatch
from usbbackup.agent.world import World
from usbbackup.drives.monitor import Monitor
from usbbackup.drives.mounter import MOUNTER, Mounter
from usbbackup.otp import ChildSpec, DynamicSupervisor, Pools, Supervisor

MONITOR = "monitor"
RUNS = "runs"
AUDIENCE = (DISPATCHER, MOUNTER, NOTIFIER)  # who is told of drives


def tree(world: World, *, scheduled: bool = True, listening: bool = True) -> Supervisor:
    """The whole agent. Without `scheduled` nothing runs unless asked for; without `listening` no socket."""
    registry, pools = world.registry, Pools(clock=world.clock)
    runs = registry.via(RUNS)

    children = [
        ChildSpec("registry", lambda: registry),
        ChildSpec(HISTORIAN, lambda: Historian(world), name=HISTORIAN),
        ChildSpec("pools", lambda: pools, type="supervisor"),
        ChildSpec(RUNS, lambda: DynamicSupervisor(clock=world.clock), type="supervisor", name=RUNS),
        ChildSpec("desktop", lambda: desktop(world, alone=listening), "transient", type="supervisor"),
        ChildSpec(DISPATCHER, lambda: Dispatcher(world, pools, runs, scheduled=scheduled), name=DISPATCHER),
        ChildSpec("control", lambda: Control(world, registry.via(MONITOR))),
        ChildSpec(MONITOR, lambda: Monitor(world, *map(registry.via, AUDIENCE)), name=MONITOR),
    ]
    if not listening:
        children = [child for child in children if child.id != "control"]
    return Supervisor(children, "rest_for_one", clock=world.clock, registry=registry)


def desktop(world: World, *, alone: bool) -> Supervisor:
    """What makes life easier; without it, backups go on: where it fails too often, it is left out.

    Not `alone`: the user is there, mounts drives and sees what happens.
    """
    registry = world.registry
    monitor, told = registry.via(MONITOR), [registry.via(NOTIFIER), registry.via(MESSENGER)]
    children = [
        ChildSpec(MANNERS, lambda: Manners(world, monitor), name=MANNERS),
        ChildSpec(MOUNTER, lambda: Mounter(world, monitor, [registry.via(DISPATCHER), *told]), name=MOUNTER),
        ChildSpec(NOTIFIER, lambda: Notifier(world, monitor), name=NOTIFIER),
        ChildSpec(MESSENGER, lambda: Messenger(world), name=MESSENGER),
        ChildSpec(STALE_WATCH, lambda: StaleWatch(world, told), name=STALE_WATCH),
    ]
    if not alone:
        children = children[:1]
    return Supervisor(children, "one_for_one", clock=world.clock, registry=registry)
