"""Making a drive safe to unplug, and saying so only when the kernel has shown it; never by force."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from usbbackup import kernel
from usbbackup.drives import holders, layout, remedies
from usbbackup.drives.mounts import MountRow, MountTable
from usbbackup.drives.ready import Lookups, mount_rows
from usbbackup.drives.udev import Device, Udev
from usbbackup.drives.udisks import BusyError, Disks
from usbbackup.errors import NotNowError
from usbbackup.folders import closing
from usbbackup.offload import in_thread
from usbbackup.text import safe

GONE_SECONDS = 30.0  # from being switched off to udev's word that it is gone
_AT_MOST = 8  # places that one drive is mounted at

# Where the kernel shows a file system for as long as anybody has it mounted, in whatever namespace.
_LIVE = {"ext4": "/sys/fs/ext4/{name}", "xfs": "/sys/fs/xfs/{name}", "btrfs": "/sys/fs/btrfs/{uuid}/devinfo"}


class Surroundings(Protocol):
    """What is looked at while a drive is let go of; a part of the agent's world."""

    udev: Udev
    mounts: MountTable
    lookups: Lookups


async def eject(device: Device, around: Surroundings, disks: Disks, *, lock: bool, power_off: bool) -> str:
    """Sync, unmount, lock and switch off; returns what has been proven, as a sentence.

    Raises BusyError with the name of the program that holds it, NotNowError for anything else in the way.
    """
    await _unmount_all(device, around, disks)
    if (still := _alive(device)) is not None:
        raise BusyError(f"The drive is unmounted here, but not everywhere: {still}.", "Wait, and try again.")
    container = _container(device, around.udev.devices())
    if container is not None and (lock or power_off):
        await disks.lock(container)
    whole = container or device
    _alone(whole, around)
    if power_off and await disks.power_off(whole):
        await _gone(whole, around.udev)
        return "It is switched off and safe to unplug."
    return "It is unmounted and safe to unplug."


async def _unmount_all(device: Device, around: Surroundings, disks: Disks) -> None:
    for _ in range(_AT_MOST):
        rows = mount_rows(device, around.mounts.read(), around.lookups)
        if not rows:
            return
        await in_thread(_sync, rows[-1])
        try:
            await disks.unmount(device)
        except BusyError as error:
            raise await in_thread(_named, rows, error) from error
    raise NotNowError(f"The drive is still mounted at {safe(rows[-1].mount_point)}.")


def _sync(row: MountRow) -> None:
    """Write everything out first: unmounting then takes no time, and what cannot be written is told here."""
    try:
        with (
            layout.mounted(row) as mount,
            closing(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount)) as top,
        ):
            kernel.syncfs(top)
    except PermissionError:
        pass  # a drive of another user's: unmounting writes it out as well
    except OSError as error:
        raise NotNowError(
            f"The drive did not take everything: {error.strerror}.", "Leave it plugged in."
        ) from error


def _named(rows: Sequence[MountRow], error: BusyError) -> BusyError:
    found = {holder for row in rows for holder in holders.holders(row.mount_point)}
    who = holders.told(sorted(found))
    return BusyError(f"The drive is in use by {who}.", "Close it there; nothing is ended by force.")


def _alive(device: Device) -> str | None:
    """Does the kernel still run the file system, for somebody whose mounts are not ours to see?"""
    where = _LIVE.get(device.fs_type or "", "").format(name=device.sys_name, uuid=device.fs_uuid)
    if where and Path(where).exists():
        return "another container or service still has it mounted"
    return None


def _alone(device: Device, around: Surroundings) -> None:
    """A drive is safe to unplug only when nothing on it is mounted."""
    rows = around.mounts.read()
    for other in around.udev.devices():
        if other.disk == device.disk and (mounted := mount_rows(other, rows, around.lookups)):
            where = safe(mounted[-1].mount_point)
            raise NotNowError(
                f"The drive is unmounted, but not safe to unplug: {where} is on the same drive.",
                f"Unmount that, too: umount {remedies.quoted(mounted[-1].mount_point)}",
            )


def _container(device: Device, devices: Sequence[Device]) -> Device | None:
    """The LUKS container that it is the inside of."""
    return next((d for d in devices if d.fs_usage == "crypto" and device.sys_name in d.holders), None)


async def _gone(device: Device, udev: Udev) -> None:
    """Wait until udev says that the device has left."""
    left = asyncio.Event()

    def look() -> None:
        if all(other.disk != device.disk for other in udev.devices()):
            left.set()

    watch = udev.watch(lambda changed: look())
    try:
        look()
        async with asyncio.timeout(GONE_SECONDS):
            await left.wait()
    except TimeoutError:
        raise NotNowError(
            f"The drive was switched off, but is still there after {GONE_SECONDS:.0f} s.",
            "Leave it plugged in.",
        ) from None
    finally:
        watch.cancel()
