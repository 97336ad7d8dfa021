"""This machine as far as one looks at it: nothing here runs a program or asks a bus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from usbbackup.clock import Clock, SystemClock
from usbbackup.config import Config, DriveConfig, load
from usbbackup.drives.host import Host, this_host
from usbbackup.drives.mounts import KernelMountTable, MountTable
from usbbackup.drives.ready import Lookups
from usbbackup.drives.records import Records
from usbbackup.drives.survey import KernelLookups
from usbbackup.drives.udev import KernelUdev, Udev
from usbbackup.paths import Paths


@dataclass
class Machine:
    """What is needed to see drives, and what is meant to be done with them."""

    config: Config  # the one in force; a reload replaces it
    paths: Paths
    env: Mapping[str, str]
    clock: Clock
    udev: Udev
    mounts: MountTable
    lookups: Lookups
    host: Host

    @property
    def drive_entries(self) -> Sequence[DriveConfig]:
        """The drives of the configuration in force."""
        return self.config.drives

    @property
    def records(self) -> Records:
        """What is enrolled."""
        return Records(self.paths.drives_file)


def this_machine(env: Mapping[str, str], config: Config | None = None) -> Machine:
    """The real one, with the user's configuration or another one. Raises ConfigError where it is wrong."""
    paths = Paths.of(env)
    return Machine(
        config=config or configured(paths),
        paths=paths,
        env=env,
        clock=SystemClock(),
        udev=KernelUdev(),
        mounts=KernelMountTable(),
        lookups=KernelLookups(),
        host=this_host(paths.data),
    )


def configured(paths: Paths) -> Config:
    """What the user's configuration says now. Raises ConfigError where it is wrong."""
    return load(paths.config_file, paths.home)
