"""Mounting, letting go and being refused, by a real UDisks2 on real loop devices."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import udisks_daemon
from agent_process import House, until

from demo.loop_drive import LoopDrive
from usbbackup.bus import MessageBusAt
from usbbackup.drives.eject import eject
from usbbackup.drives.mounts import KernelMountTable
from usbbackup.drives.survey import KernelLookups
from usbbackup.drives.udev import Device, KernelUdev
from usbbackup.drives.udisks import BusyError, UDisks
from usbbackup.errors import NotNowError

pytestmark = pytest.mark.root
AROUND = SimpleNamespace(udev=KernelUdev(), mounts=KernelMountTable(), lookups=KernelLookups())


@pytest.fixture
def address(udevd: None, ground: Path) -> Iterator[str]:
    if reason := udisks_daemon.missing():
        pytest.skip(reason)
    with udisks_daemon.udisksd(ground) as address:
        yield address


def asked(address: str, question: Callable[[UDisks], object]) -> object:
    async def main() -> object:
        bus = MessageBusAt(address)
        try:
            return await question(UDisks(bus))  # type: ignore[misc]
        finally:
            await bus.close()

    return asyncio.run(main())


def device_of(drive: LoopDrive) -> Device:
    return next(d for d in AROUND.udev.devices() if d.devnode == str(drive.devnode))


def mount_point(drive: LoopDrive) -> Path | None:
    source = str(drive.devnode).encode()
    rows = [row for row in AROUND.mounts.read() if row.source == source]
    return Path(rows[-1].mount_point.decode()) if rows else None


@pytest.mark.parametrize("fs_type", ["ext4", "vfat"])
def test_a_real_drive_is_mounted_held_named_and_let_go_of(workshop, address: str, fs_type: str) -> None:
    """Twice mounted is as good as once; a busy one names its holder; what is let go of is mounted nowhere."""
    drive = workshop.drive(fs_type=fs_type, label="BACKUP")
    drive.plug()
    device = device_of(drive)

    async def question(disks: UDisks) -> None:
        await disks.mount(device)
        await disks.mount(device)
        where = mount_point(drive)
        assert where is not None
        assert where.is_dir()
        with (where / "open").open("w"), pytest.raises(BusyError, match=r"in use by .*\(process \d+\)"):
            await eject(device, AROUND, disks, lock=True, power_off=True)
        assert mount_point(drive) == where
        told = await eject(device, AROUND, disks, lock=True, power_off=True)
        assert told == "It is unmounted and safe to unplug."
        assert mount_point(drive) is None
        await disks.unmount(device)  # done already

    asked(address, question)


def test_where_it_is_mounted_elsewhere_too_it_is_not_safe(workshop, address: str) -> None:
    """Another mount namespace, as a service or container has it, is not in our mount table."""
    drive = workshop.drive()
    drive.plug()
    device = device_of(drive)

    def letting_go(disks: UDisks) -> Awaitable[str]:
        return eject(device, AROUND, disks, lock=True, power_off=False)

    asked(address, lambda disks: disks.mount(device))
    stay = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'cd "$0"; echo; read word']
    with subprocess.Popen(
        [*stay, str(mount_point(drive))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as elsewhere:
        assert elsewhere.stdout is not None
        elsewhere.stdout.readline()
        with pytest.raises(BusyError, match="not everywhere"):
            asked(address, letting_go)
        elsewhere.communicate(b"\n")
    assert "safe" in str(asked(address, letting_go))


def test_without_udisks_one_sentence_says_so(workshop, udevd: None, ground: Path) -> None:
    drive = workshop.drive()
    drive.plug()
    with pytest.raises(NotNowError, match=r"^UDisks2 cannot be asked: there is no message bus at unix:path="):
        asked(f"unix:path={ground}/nothing", lambda disks: disks.mount(device_of(drive)))


@pytest.mark.parametrize("house", ["ordinary_user"], indirect=True)
def test_who_may_not_mount_is_told_which_permission_is_missing(house: House, stick, address: str) -> None:
    """As over ssh, where nobody sits at the machine."""
    drive = stick()
    drive.plug()
    drive.mount()
    house.configure(house.job("rsync"))
    house.done("drives", "enrol")
    drive.unmount()
    house.environment["DBUS_SYSTEM_BUS_ADDRESS"] = address
    house.start()

    def refused() -> bool:
        return "org.freedesktop.udisks2.filesystem-mount" in str(house.drive()["reason"])

    until(refused, "the refusal")
    assert house.drive()["state"] == "waiting"
    assert "udisksctl mount" in house.drive()["reason"]


def test_the_whole_way_from_a_bare_plug_to_safe_to_unplug(house: House, stick, address: str) -> None:
    """Nobody mounts it: usbbackup does, backs up, and lets go; the snapshot is there."""
    drive = stick()
    drive.plug()
    drive.mount()
    house.configure(house.job("rsync"), drives=[house.drive_entry(after="unmount")])
    house.done("drives", "enrol")
    drive.unmount()
    house.environment["DBUS_SYSTEM_BUS_ADDRESS"] = address
    house.start()
    (run,) = house.wait_ended(1)
    assert run["outcome"] == "success"
    house.wait_for_drive("ejected")
    assert mount_point(drive) is None
    where = drive.mount()
    assert list(where.glob("usbbackup/*/*/rsync/snapshots/*Z"))


def test_eject_by_hand_works_with_an_agent_and_without(house: House, stick, address: str) -> None:
    drive = stick()
    drive.plug()
    drive.mount()
    house.configure(house.job("rsync"))
    house.done("drives", "enrol")
    house.environment["DBUS_SYSTEM_BUS_ADDRESS"] = address
    assert "safe to unplug" in house.done("drives", "eject", house.label)
    assert mount_point(drive) is None
    assert house.drive()["state"] == "ejected"
    drive.mount()
    house.start()
    house.wait_ended(1)
    assert house.json("drives", "eject", house.label)["state"] == "ejected"
    assert mount_point(drive) is None
