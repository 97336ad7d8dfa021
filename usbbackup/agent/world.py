"""Everything the agent meets outside of itself, so that a test or the demo can be another world."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from usbbackup.agent.events import Hub
from usbbackup.agent.login1 import Login, Logind
from usbbackup.agent.machine import Machine
from usbbackup.agent.notifications import Desktop, Notifications
from usbbackup.agent.systemd import Manager
from usbbackup.agent.upower import Battery, Supply, UPower
from usbbackup.bus import Bus, NoBus
from usbbackup.config import Config
from usbbackup.drives.udisks import Disks, UDisks
from usbbackup.otp import Pid, Registry
from usbbackup.programs import Programs


@dataclass
class World(Machine):
    """What is passed in to every process of the tree."""

    load: Callable[[], Config]
    programs: Programs
    manager: Manager
    system_bus: Bus = field(default_factory=NoBus)
    session_bus: Bus = field(default_factory=NoBus)
    disks: Disks = field(default_factory=lambda: UDisks(NoBus()))
    desktop: Desktop = field(default_factory=lambda: Notifications(NoBus()))
    login: Login = field(default_factory=lambda: Logind(NoBus()))
    battery: Battery = field(default_factory=lambda: UPower(NoBus()))
    supply: Supply | None = None  # as it was heard of last, where the configuration asks for it
    hub: Hub = field(default_factory=Hub)
    registry: Registry = field(default_factory=Registry)
    pid: int = field(default_factory=os.getpid)
    root: Pid | None = None  # the top of the supervision tree
    since: float | None = None  # wall time at which the agent became ready

    def low_battery(self) -> str | None:
        """Why backups have to wait for mains power, if they have to."""
        return self.supply.below(self.config.power.min_battery) if self.supply else None

    async def close(self) -> None:
        """Let go of the buses."""
        await self.system_bus.close()
        await self.session_bus.close()
