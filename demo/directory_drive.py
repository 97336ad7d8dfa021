"""Drives that are plain directories, plugged in and pulled by a method call: for demo and tests alone.

They come through the same interfaces as real ones, and a directory that really exists stands behind each,
with the mount id it really has: everything is real but the plug.
"""

import itertools
import os
import uuid as uuids
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from usbbackup import kernel
from usbbackup.drives.mounts import MountRow
from usbbackup.drives.udev import Changed, Device
from usbbackup.drives.watch import Watch

_counter = itertools.count(1)


class FakeUdev:
    """A udev whose devices are what was put into it."""

    def __init__(self) -> None:
        self.present: dict[str, Device] = {}
        self.enumerations = 0
        self._callbacks: list[Callable[[Changed], None]] = []

    def devices(self) -> list[Device]:
        """What is plugged in."""
        self.enumerations += 1
        return list(self.present.values())

    def watch(self, callback: Callable[[Changed], None]) -> Watch:
        """Hear of every change at once, on the caller's own stack."""
        self._callbacks.append(callback)
        return Watch(lambda: self._callbacks.remove(callback))

    def put(self, device: Device) -> None:
        """A device comes, or changes."""
        self.present[device.devnode] = device
        self.tell(Changed(devnodes=frozenset({device.devnode})))

    def take(self, devnode: str) -> None:
        """A device goes."""
        del self.present[devnode]
        self.tell(Changed(removed=frozenset({devnode})))

    def tell(self, changed: Changed) -> None:
        """Bring news, true or not: an overflow, for instance."""
        for callback in list(self._callbacks):
            callback(changed)


class FakeMountTable:
    """A mount table whose rows are what was put into it."""

    def __init__(self) -> None:
        self.rows: list[MountRow] = []
        self.reads = 0
        self.visited: list[bytes] = []
        self.on_visit: Callable[[], None] = lambda: None
        self._callbacks: list[Callable[[], None]] = []

    def read(self) -> list[MountRow]:
        """The rows as they are now."""
        self.reads += 1
        return list(self.rows)

    def watch(self, callback: Callable[[], None]) -> Watch:
        """Hear of every change at once, on the caller's own stack."""
        self._callbacks.append(callback)
        return Watch(lambda: self._callbacks.remove(callback))

    def visit(self, mount_point: bytes) -> None:
        """Somebody opens a directory."""
        self.visited.append(mount_point)
        self.on_visit()

    def put(self, row: MountRow) -> None:
        """Something is mounted: it comes last, as in the kernel's table."""
        self.rows.append(row)
        self.tell()

    def take(self, row: MountRow) -> None:
        """Something is unmounted."""
        self.rows.remove(row)
        self.tell()

    def swap(self, old: MountRow, new: MountRow) -> None:
        """Something is remounted."""
        self.rows[self.rows.index(old)] = new
        self.tell()

    def tell(self) -> None:
        """Say that something changed."""
        for callback in list(self._callbacks):
            callback()


@dataclass(frozen=True)
class FakeLookups:
    """Answers of /dev and /sys as written down."""

    numbers: Mapping[bytes, tuple[int, int]] = field(default_factory=dict)
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def devnum(self, source: bytes) -> tuple[int, int] | None:
        """The number of the block device at a path."""
        return self.numbers.get(source)

    def btrfs_members(self, uuid: str) -> frozenset[str]:
        """The devices of a mounted btrfs."""
        return self.members.get(uuid, frozenset())

    def boot_id(self) -> str:
        """Always the same boot."""
        return "b00t"


class DirectoryDrive:
    """A directory that passes for a USB stick with one partition.

    `plug` makes the device appear, `mount` makes it appear in the mount table, `unmount` and `pull` undo it.
    """

    def __init__(
        self,
        udev: FakeUdev,
        mounts: FakeMountTable,
        directory: Path,
        *,
        label: str = "backup",
        uuid: str | None = None,
        fs_type: str = "ext4",
    ) -> None:
        self._udev, self._mounts = udev, mounts
        self.directory = directory.resolve()
        number = next(_counter)
        self.device = Device(
            devnode=f"/dev/directory{number}",
            sys_name=f"directory{number}",
            devnum=(240, number),
            fs_uuid=uuid or str(uuids.uuid4()),
            fs_label=label,
            fs_type=fs_type,
            fs_usage="filesystem",
            serial=f"Directory_{number}",
            usb=True,
            size=16 << 30,
            partition=True,
            disk=f"directory{number}",
        )
        self.row: MountRow | None = None

    def plug(self, *, mount: bool = True) -> None:
        """Plug it in; a desktop then mounts it."""
        self.device = replace(self.device, diskseq=next(_counter))
        self._udev.put(self.device)
        if mount:
            self.mount()

    def mount(self, at: Path | None = None, *, options: str = "rw,relatime") -> MountRow:
        """Mount it, where its directory is or (a symlink's target, a bind mount) elsewhere."""
        self.row = directory_row(at or self.directory, self.device, options)
        self._mounts.put(self.row)
        return self.row

    def remount(self, options: str) -> None:
        """Mount it otherwise, for instance `ro`."""
        assert self.row is not None
        old, self.row = self.row, replace(self.row, options=frozenset(options.split(",")))
        self._mounts.swap(old, self.row)

    def unmount(self) -> None:
        """Unmount it; it stays plugged in."""
        assert self.row is not None
        row, self.row = self.row, None
        self._mounts.take(row)

    def pull(self) -> None:
        """Pull it out: udev tells first, the mount goes after."""
        self._udev.take(self.device.devnode)
        if self.row is not None:
            self.unmount()


def directory_row(at: Path, device: Device, options: str = "rw,relatime") -> MountRow:
    """A row as if `device` were mounted on a directory, with the mount id that the directory really has."""
    fd = os.open(at, os.O_PATH | os.O_DIRECTORY)
    try:
        mount_id = kernel.mount_id(fd)
    finally:
        os.close(fd)
    return MountRow(
        mount_id=mount_id,
        parent_id=1,
        devnum=device.devnum,
        root=b"/",
        mount_point=os.fsencode(at),
        options=frozenset(options.split(",")),
        fs_type=str(device.fs_type),
        source=os.fsencode(device.devnode),
        super_options=frozenset({"rw"}),
    )
