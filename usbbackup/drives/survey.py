"""All drives at one look, for the agent and for commands that work without one."""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from usbbackup import kernel
from usbbackup.config import DriveConfig
from usbbackup.drives.mounts import MountTable
from usbbackup.drives.ready import (
    Absent,
    Candidate,
    Ejected,
    Lookups,
    Refused,
    Verdict,
    Waiting,
    decide,
    file_systems,
)
from usbbackup.drives.records import Enrolled
from usbbackup.drives.udev import Udev


@dataclass(frozen=True)
class DriveView:
    """What people and scripts are shown of one drive: `drives` in `status --json`, keys and order alike."""

    name: str
    uuid: str | None
    label: str | None
    devnode: str | None
    mount_point: str | None
    state: str  # absent, waiting, ready, busy, refused, ejected
    reason: str | None
    remedy: str | None
    enrolled: bool
    last_seen: float | None  # seconds since the epoch
    bytes_free: int | None
    bytes_total: int | None


class KernelLookups:
    """Answers from /dev, /sys and /proc."""

    def boot_id(self) -> str:
        """Which boot this is."""
        return kernel.boot_id()

    def devnum(self, source: bytes) -> tuple[int, int] | None:
        """The number of the block device at a path."""
        try:
            found = Path(os.fsdecode(source)).stat()
        except (OSError, ValueError):
            return None
        if not stat.S_ISBLK(found.st_mode):
            return None
        return os.major(found.st_rdev), os.minor(found.st_rdev)

    def btrfs_members(self, uuid: str) -> frozenset[str]:
        """The devices of a mounted btrfs."""
        try:
            return frozenset(path.name for path in Path("/sys/fs/btrfs", uuid, "devices").iterdir())
        except (OSError, ValueError):
            return frozenset()


def strangers(
    udev: Udev,
    mounts: MountTable,
    enrolled: Mapping[str, Enrolled],
    drives: Sequence[DriveConfig],
    lookups: Lookups,
) -> list[Verdict]:
    """The file systems on USB that the configuration does not mean: what else could be enrolled."""
    devices = udev.devices()
    known = {verdict.uuid for verdict in decide(devices, [], enrolled, drives, lookups)}
    entries = [
        DriveConfig(name=group[0].fs_label or str(group[0].fs_uuid), uuid=group[0].fs_uuid)
        for group in file_systems(devices)
        if group[0].usb and group[0].fs_uuid not in known
    ]
    return decide(devices, mounts.read(), enrolled, entries, lookups) if entries else []


Space = Callable[[bytes], tuple[int, int] | None]


def space(mount_point: bytes) -> tuple[int, int] | None:
    """Bytes free and in all at a mount point. It may block where a drive hangs."""
    try:
        found = os.statvfs(mount_point)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def view(verdict: Verdict, space: Space = space) -> DriveView:
    """What is shown of a drive. A candidate counts as ready: only an agent has tried it."""
    state, reason, remedy = _shown(verdict)
    device, row, record = verdict.device, verdict.row, verdict.record
    free, total = (space(row.mount_point) if row else None) or (None, None)
    label = record.label if record else verdict.drive.label
    if device is not None and device.file_system:
        label = device.fs_label
    return DriveView(
        name=verdict.drive.name,
        uuid=verdict.uuid,
        label=label,
        devnode=device.devnode if device else None,
        mount_point=row.mount_point.decode("utf-8", "backslashreplace") if row else None,
        state=state,
        reason=reason,
        remedy=remedy,
        enrolled=record is not None,
        last_seen=record.last_seen if record else None,
        bytes_free=free,
        bytes_total=total,
    )


def _shown(verdict: Verdict) -> tuple[str, str | None, str | None]:
    match verdict.decision:
        case Candidate():
            return "ready", None, None
        case Waiting(_, reason, remedy):
            return "waiting", reason, remedy
        case Refused(reason, remedy):
            return "refused", reason, remedy
        case Ejected(reason, remedy):
            return "ejected", reason, remedy
        case Absent(reason, remedy):
            return "absent", reason, remedy
