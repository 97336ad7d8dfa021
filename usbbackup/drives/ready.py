"""Whether a drive may be backed up to, judged by what udev, the mount table and our records say.

Here is only thought, no input or output: what a `Candidate` still has to prove, `admit` makes it prove.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from usbbackup.config import DriveConfig
from usbbackup.drives import remedies
from usbbackup.drives.mounts import MountRow
from usbbackup.drives.records import Enrolled
from usbbackup.drives.udev import Device
from usbbackup.errors import Exit
from usbbackup.target import DriveFacts
from usbbackup.text import safe

FAT = frozenset({"vfat", "msdos", "exfat"})  # their labels match in any case


class Why(StrEnum):
    """Why a drive has to wait, for programs; people get a sentence."""

    LOCKED = "locked"
    NOT_MOUNTED = "not-mounted"
    COVERED = "covered"
    READ_ONLY = "read-only"
    STOPPED = "stopped"
    ROOT_OWNED = "root-owned"
    NO_SPACE = "no-space"
    BEING_TRIED = "being-tried"
    NO_ANSWER = "no-answer"
    WRITE_FAILED = "write-failed"
    MOVED = "moved"


@dataclass(frozen=True)
class Absent:
    """It is not here, or not in a way that counts."""

    reason: str
    remedy: str | None = None


@dataclass(frozen=True)
class Waiting:
    """It is here but not ready yet; any change may make it so."""

    why: Why
    reason: str
    remedy: str | None = None
    command: tuple[str, ...] | None = None  # mends it, where one command does


@dataclass(frozen=True)
class Refused:
    """It is here and gets nothing until the user decides otherwise."""

    reason: str
    remedy: str | None = None
    code: Exit = Exit.NOT_ALLOWED


@dataclass(frozen=True)
class Candidate:
    """Nothing known speaks against it; what is left is to try."""

    row: MountRow


@dataclass(frozen=True)
class Ejected:
    """It was made safe to unplug; mounted again, or plugged in anew, it is as any other."""

    reason: str = "It is safe to unplug."
    remedy: str | None = None


Decision = Absent | Waiting | Refused | Ejected | Candidate


@dataclass(frozen=True)
class Verdict:
    """What is thought of one drive. Reading needs only `row` and `record`, whatever the decision."""

    drive: DriveConfig
    uuid: str | None  # None: an entry of the configuration that no drive was ever seen for
    decision: Decision
    device: Device | None = None
    row: MountRow | None = None  # where it is mounted
    record: Enrolled | None = None

    def facts(self) -> DriveFacts:
        """What a job may know of it. Only for a drive that is mounted."""
        assert self.device is not None and self.row is not None and self.uuid is not None  # noqa: S101
        return DriveFacts(
            name=self.drive.name,
            uuid=self.uuid,
            label=self.device.fs_label or "",
            devnode=self.device.devnode,
            mount_point=Path(os.fsdecode(self.row.mount_point)),
            fs_type=self.device.fs_type or self.row.fs_type,
        )


class Lookups(Protocol):
    """Questions that neither udev nor the mount table answers; two are about btrfs."""

    def devnum(self, source: bytes) -> tuple[int, int] | None:
        """The number of the block device at a path; None where there is none."""
        ...

    def btrfs_members(self, uuid: str) -> frozenset[str]:
        """The sys_names of the devices that the mounted btrfs with this UUID uses."""
        ...

    def boot_id(self) -> str:
        """Which boot this is: disks are counted anew in each."""
        ...


def decide(
    devices: Sequence[Device],
    rows: Sequence[MountRow],
    enrolled: Mapping[str, Enrolled],
    drives: Sequence[DriveConfig],
    lookups: Lookups,
) -> list[Verdict]:
    """One verdict for each drive that an entry of the configuration means, here or not, in their order."""
    mounted = _Mounted(rows, lookups)
    verdicts: list[Verdict] = []
    for group in file_systems(devices):
        if drive := _entry(drives, group):
            verdict = _judge(drive, group, mounted, enrolled.get(str(group[0].fs_uuid)))
            verdicts.append(_unless_ejected(verdict, lookups))
    here = {verdict.uuid for verdict in verdicts}
    for record in enrolled.values():
        if record.uuid not in here and (drive := _entry_of(drives, record)):
            verdicts.append(_unless_ejected(_elsewhere(drive, record, devices), lookups))
    known = {verdict.drive.name for verdict in verdicts}
    verdicts += [_never_seen(drive, devices) for drive in drives if drive.name not in known]
    order = {drive.name: position for position, drive in enumerate(drives)}
    return sorted(verdicts, key=lambda verdict: order[verdict.drive.name])


def stay(device: Device, lookups: Lookups) -> str | None:
    """What tells one stay of a disk from the next; None where the kernel does not count (before 5.15)."""
    return None if device.diskseq is None else f"{lookups.boot_id()}/{device.diskseq}"


def _unless_ejected(verdict: Verdict, lookups: Lookups) -> Verdict:
    record, device = verdict.record, verdict.device
    if record is None or record.ejected is None or device is None or verdict.row is not None:
        return verdict
    return replace(verdict, decision=Ejected()) if record.ejected == stay(device, lookups) else verdict


def file_systems(devices: Iterable[Device]) -> list[list[Device]]:
    """Devices that can be mounted, those with one UUID together: copies, or the parts of one btrfs."""
    groups: dict[str, list[Device]] = {}
    known = {device.sys_name: device for device in devices}
    for device in known.values():
        if device.file_system and device.fs_uuid:
            groups.setdefault(device.fs_uuid.casefold(), []).append(device)
    return [_uppermost(group, known) for group in groups.values()]


def _uppermost(group: list[Device], known: Mapping[str, Device]) -> list[Device]:
    """Without those that another of the group is built on: that is one file system, seen twice."""
    if len(group) == 1:
        return group
    below = set[str]()
    for device in group:
        below |= _below(device, known)
    return [device for device in group if below.isdisjoint((device.sys_name, device.disk))] or group


def _below(device: Device, known: Mapping[str, Device]) -> set[str]:
    found: set[str] = set()
    todo = list(device.slaves)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += known[name].slaves if name in known else ()
    return found


def _copies(group: list[Device]) -> bool:
    """Several file systems with one UUID? The parts of one btrfs are told apart by a second UUID."""
    parts = {device.fs_uuid_sub for device in group if device.fs_type == "btrfs" and device.fs_uuid_sub}
    return len(group) > 1 and len(parts) != len(group)


def _entry(drives: Sequence[DriveConfig], group: list[Device]) -> DriveConfig | None:
    """The entry that means this drive: one that names its UUID, else the first that names its label."""
    return _first(drive for drive in drives if any(_means(drive, device) for device in group))


def _entry_of(drives: Sequence[DriveConfig], record: Enrolled) -> DriveConfig | None:
    return _first(drive for drive in drives if _named(drive, record.uuid, record.label, record.fs_type))


def _first(meant: Iterable[DriveConfig]) -> DriveConfig | None:
    return min(meant, key=lambda drive: drive.uuid is None, default=None)


def _means(drive: DriveConfig, device: Device) -> bool:
    on_bus = drive.bus == "any" or device.usb
    return on_bus and _named(drive, device.fs_uuid, device.fs_label, device.fs_type)


def _named(drive: DriveConfig, uuid: str | None, label: str | None, fs_type: str | None) -> bool:
    if drive.uuid is not None and drive.uuid.casefold() != (uuid or "").casefold():
        return False
    if drive.label is None:
        return drive.uuid is not None
    if fs_type in FAT:
        return drive.label.casefold() == (label or "").casefold()
    return drive.label == label


def mount_rows(device: Device, rows: Sequence[MountRow], lookups: Lookups) -> list[MountRow]:
    """Every place that a device is mounted at, in the kernel's order."""
    return _Mounted(rows, lookups).rows(device)


class _Mounted:
    """The mount table, arranged by block device."""

    def __init__(self, rows: Sequence[MountRow], lookups: Lookups) -> None:
        self._lookups = lookups
        self._by_devnum: dict[tuple[int, int] | None, list[MountRow]] = {}
        self._last = {row.mount_point: row for row in rows}
        for row in rows:
            # btrfs invents device numbers: neither mountinfo nor st_dev tells the block device.
            number = lookups.devnum(row.source) if row.fs_type == "btrfs" else row.devnum
            self._by_devnum.setdefault(number, []).append(row)

    def top(self, group: list[Device]) -> tuple[MountRow | None, bool]:
        """Where a drive is mounted, and whether that can be seen: the whole of it rather than a part."""
        rows = [row for device in group for row in self.rows(device)]
        if not rows:
            return None, False
        best = min(rows, key=lambda row: (self._covered(row), row.root != b"/", row.read_only))
        return best, self._covered(best)

    def rows(self, device: Device) -> list[MountRow]:
        """Where it is mounted."""
        rows = [row for row in self._by_devnum.get(device.devnum, ()) if row.fs_type != "autofs"]
        if device.fs_type == "btrfs" and device.sys_name not in self._lookups.btrfs_members(
            str(device.fs_uuid)
        ):
            return []
        return rows

    def _covered(self, row: MountRow) -> bool:
        return self._last[row.mount_point] is not row


def _judge(drive: DriveConfig, group: list[Device], mounted: _Mounted, record: Enrolled | None) -> Verdict:
    # Of copies it is not known which one is mounted: nothing is to be read from there either.
    row, covered = (None, False) if _copies(group) else mounted.top(group)
    decision = _decision(drive, group, row, covered, record)
    return Verdict(drive, group[0].fs_uuid, decision, group[0], row, record)


def _decision(
    drive: DriveConfig, group: list[Device], row: MountRow | None, covered: bool, record: Enrolled | None
) -> Decision:
    device = group[0]
    name = f"'{safe(device.fs_label or drive.name)}' ({safe(device.devnode)})"
    if _copies(group):
        return _two_of_one(group)
    if row is None:
        return Waiting(
            Why.NOT_MOUNTED, f"The drive {name} is plugged in but not mounted.", remedies.mount(device)
        )
    where = safe(row.mount_point)
    if covered:
        return Waiting(Why.COVERED, f"Something else is mounted over {where}.", remedies.uncover(row))
    if record is None and drive.trust != "label":
        return Refused(
            f"The drive {name} is not enrolled, so nothing is written to it.",
            f"If it is yours, run: usbbackup drives enrol {remedies.quoted(str(device.fs_uuid))}",
        )
    if record is not None and _another_serial(record, device):
        return Refused(
            f"The drive {name} has another serial number than when it was enrolled: "
            f"{safe(str(device.serial))}, not {safe(str(record.serial))}. It may be a copy.",
            "If it is yours, in another case perhaps, run: "
            f"usbbackup drives enrol {remedies.quoted(str(device.fs_uuid))}",
        )
    if record is not None and record.read_only:
        return Refused(
            f"The drive {name} is enrolled for reading only.",
            f"To back up to it, run: usbbackup drives enrol {remedies.quoted(str(device.fs_uuid))}",
        )
    if row.stopped:
        reason = f"The file system at {where} has stopped writing after an error."
        return Waiting(Why.STOPPED, reason, remedies.check(row, device))
    if device.read_only:
        return Waiting(Why.READ_ONLY, f"The drive {name} is write-protected.", "Look for a switch on it.")
    if row.read_only:
        return Waiting(Why.READ_ONLY, f"The drive is mounted read-only at {where}.", remedies.remount(row))
    return Candidate(row)


def _another_serial(record: Enrolled, device: Device) -> bool:
    """Some drives tell none; then there is nothing to compare."""
    return None not in (record.serial, device.serial) and record.serial != device.serial


def _two_of_one(group: list[Device]) -> Refused:
    nodes = " and ".join(sorted(safe(device.devnode) for device in group))
    return Refused(
        f"{len(group)} file systems have the UUID {safe(str(group[0].fs_uuid))}: {nodes}. "
        "One is a copy of the other, and nothing tells which.",
        "Unplug the copy, or give it a UUID of its own.",
        Exit.NOT_NOW,
    )


def _elsewhere(drive: DriveConfig, record: Enrolled, devices: Iterable[Device]) -> Verdict:
    """An enrolled drive that is not among those that were judged."""
    if (locked := _locked(record, devices)) is not None:
        reason = f"The drive '{safe(record.label)}' ({safe(locked.devnode)}) is plugged in, but locked."
        waiting = Waiting(Why.LOCKED, reason, remedies.unlock(locked))
        return Verdict(drive, record.uuid, waiting, locked, record=record)
    ids = {record.uuid, record.luks_uuid}
    missed = (_near_miss(drive, device) for device in devices if device.fs_uuid in ids)
    gone = Absent(f"The drive '{safe(record.label)}' is not plugged in.")
    return Verdict(drive, record.uuid, next(filter(None, missed), gone), record=record)


def _locked(record: Enrolled, devices: Iterable[Device]) -> Device | None:
    """The closed LUKS container that this drive is the inside of. Its own label counts for nothing."""
    closed = (device for device in devices if device.fs_usage == "crypto" and not device.holders)
    known = (device for device in closed if device.fs_uuid and device.fs_uuid == record.luks_uuid)
    return next(known, None)


def _never_seen(drive: DriveConfig, devices: Iterable[Device]) -> Verdict:
    """An entry of the configuration that no drive, here or enrolled, answers to."""
    named = (device for device in devices if _named(drive, device.fs_uuid, device.fs_label, device.fs_type))
    missed = (_near_miss(drive, device) for device in named)
    wanted = f"labelled '{drive.label}'" if drive.label is not None else f"with the UUID {drive.uuid}"
    none = Absent(f"No file system {safe(wanted)} is plugged in.", "Plug it in.")
    return Verdict(drive, drive.uuid, next(filter(None, missed), none))


def _near_miss(drive: DriveConfig, device: Device) -> Absent | None:
    """Why a device that looks like the drive does not count."""
    node = safe(device.devnode)
    if device.fs_usage == "crypto" and not device.holders:
        return Absent(f"{node} is there, but locked.", remedies.unlock(device))
    if not device.file_system:
        return None
    if device.fs_uuid is None:
        return Absent(
            f"{node} has no UUID, so it cannot be told from others.", "Format it anew, or give it one."
        )
    if drive.bus == "usb" and not device.usb:
        return Absent(
            f"{node} is not on USB.", f"To use it, write `bus: any` for the drive '{safe(drive.name)}'."
        )
    return Absent(
        f"{node} has another label now: '{safe(device.fs_label or '')}'.",
        f"Give it back its label, or change the drive '{safe(drive.name)}' in the configuration.",
    )
