"""One look at all drives: each with what is thought of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from usbbackup.clock import Clock
from usbbackup.config import DriveConfig
from usbbackup.drives.admit import Ready
from usbbackup.drives.host import Host
from usbbackup.drives.mounts import MountTable
from usbbackup.drives.pin import Pin, readable
from usbbackup.drives.ready import Absent, Ejected, Lookups, Refused, Verdict, Waiting, decide
from usbbackup.drives.records import Records
from usbbackup.drives.udev import Device, Udev
from usbbackup.errors import ConfigError

Decision = Absent | Waiting | Refused | Ejected | Ready


class Sights(Protocol):
    """What the monitor needs to see with; a part of the agent's world."""

    clock: Clock
    udev: Udev
    mounts: MountTable
    lookups: Lookups

    @property
    def drive_entries(self) -> Sequence[DriveConfig]:
        """The drives of the configuration in force."""
        ...

    @property
    def host(self) -> Host:
        """This machine and user."""
        ...

    @property
    def records(self) -> Records:
        """What is enrolled."""
        ...


@dataclass(frozen=True)
class Sighting:
    """One drive, or one entry of the configuration without a drive, as it was last seen."""

    verdict: Verdict
    decision: Decision

    @property
    def uuid(self) -> str:
        """The file system's; the entry's name where no drive was ever seen for it."""
        return self.verdict.uuid or self.verdict.drive.name

    @property
    def name(self) -> str:
        """What people call it: its label, or its entry's name."""
        device, record = self.verdict.device, self.verdict.record
        return (device and device.fs_label) or (record and record.label) or self.verdict.drive.name

    def pin(self, sights: Sights) -> Pin:
        """Hold it; only where it is mounted and enrolled."""
        return Pin(self.verdict, sights.mounts, sights.host)

    def readable(self, sights: Sights) -> list[Pin]:
        """Hold what can be read on it, one folder after the other; only where it is mounted and enrolled."""
        return readable(self.verdict, sights.mounts, sights.host)


def verdicts(sights: Sights, devices: Sequence[Device]) -> list[Verdict]:
    """What to think of every drive that the configuration means, as things are now."""
    rows, entries = sights.mounts.read(), sights.drive_entries
    try:
        return decide(devices, rows, sights.records.read(), entries, sights.lookups)
    except ConfigError as error:  # our own records are damaged: who is enrolled cannot be told
        refused = Refused(error.message, error.hint, error.code)
        return [replace(v, decision=refused) for v in decide(devices, rows, {}, entries, sights.lookups)]
