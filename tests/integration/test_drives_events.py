"""Real udev events and real mounts reach the watchers, and are told as what they are."""

import asyncio
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from usbbackup.drives.mounts import KernelMountTable
from usbbackup.drives.udev import KernelUdev

pytestmark = pytest.mark.root


def device_of(devnode):
    return next((device for device in KernelUdev().devices() if device.devnode == str(devnode)), None)


@pytest.mark.parametrize("fs_type", ["ext4", "btrfs", "xfs", "vfat"])
def test_udev_knows_label_uuid_and_kind_of_a_plugged_drive(workshop, fs_type):
    drive = workshop.drive(fs_type=fs_type, label="BACKUP")
    found = device_of(drive.plug())
    assert (found.fs_label, found.fs_type, found.fs_usage) == ("BACKUP", fs_type, "filesystem")
    assert found.fs_uuid
    assert found.size == drive.image.stat().st_size
    assert found.diskseq
    assert found.initialized
    assert not found.usb
    assert not found.partition
    assert (found.fs_uuid_sub is not None) == (fs_type == "btrfs")


def test_a_partition_is_told_from_its_disk(workshop):
    drive = workshop.drive(partitioned=True)
    found = device_of(drive.plug())
    disk = device_of(found.devnode.removesuffix("p1"))
    assert (found.partition, found.disk, found.fs_label) == (True, disk.sys_name, "backup")
    assert (disk.partition, disk.fs_label) == (False, None)
    assert found.diskseq == disk.diskseq


@pytest.mark.parametrize("label", ["my drive", "a'b\"c", "Größe", "back\\slash", "x\x1b[31m"])
def test_hard_labels_arrive_as_they_were_given(workshop, label):
    assert device_of(workshop.drive(label=label).plug()).fs_label == label


def test_the_same_drive_plugged_again_has_a_new_number(workshop):
    drive = workshop.drive()
    first = device_of(drive.plug())
    drive.unplug()
    second = device_of(drive.plug())
    assert second.fs_uuid == first.fs_uuid
    assert second.diskseq > first.diskseq


def test_an_unplugged_drive_is_no_device(workshop):
    drive = workshop.drive()
    devnode = drive.plug()
    drive.unplug()
    found = device_of(devnode)
    assert found is None or found.fs_label is None


def test_a_write_protected_drive_is_known(workshop):
    drive = workshop.drive()
    devnode = drive.plug()
    subprocess.run(["blockdev", "--setro", devnode], check=True)
    try:
        assert device_of(devnode).read_only
    finally:
        subprocess.run(["blockdev", "--setrw", devnode], check=True)  # the slot would stay so


async def until(happened, done, seconds=30.0):
    """Wait for a condition that news may make true."""
    async with asyncio.timeout(seconds):
        while not done():
            happened.clear()
            await happened.wait()


def watched(steps):
    """Run `steps(udev_news, mount_news, until)` while both watchers are on."""

    async def main():
        happened = asyncio.Event()
        news, changes = [], []

        def tell(into, what):
            into.append(what)
            happened.set()

        udev_watch = KernelUdev().watch(lambda changed: tell(news, changed))
        mount_watch = KernelMountTable().watch(lambda: tell(changes, "changed"))
        try:
            await steps(news, changes, lambda done: until(happened, done))
        finally:
            udev_watch.cancel()
            mount_watch.cancel()

    asyncio.run(main())


def heard_of(news, devnode):
    return any(str(devnode) in changed.devnodes | changed.removed for changed in news)


def test_plugging_and_unplugging_are_told(workshop):
    drive = workshop.drive()

    async def steps(news, _changes, until):
        devnode = await asyncio.to_thread(drive.plug)
        await until(lambda: heard_of(news, devnode))
        await asyncio.to_thread(drive.unplug)
        news.clear()
        drive2 = workshop.drive()
        await asyncio.to_thread(drive2.plug)
        await until(lambda: heard_of(news, drive2.devnode))

    watched(steps)


def test_a_label_that_is_set_later_is_told(workshop):
    drive = workshop.drive(label="music")
    devnode = drive.plug()
    assert device_of(devnode).fs_label == "music"

    async def steps(news, _changes, until):
        await asyncio.to_thread(subprocess.run, ["e2label", devnode, "backup"], check=True)
        await until(lambda: heard_of(news, devnode) and device_of(devnode).fs_label == "backup")

    watched(steps)


def test_each_kind_of_mount_change_is_told_once_and_idling_is_not(workshop, ground):
    drive = workshop.drive()
    drive.plug()
    elsewhere = ground / "elsewhere"

    async def steps(_news, changes, until):
        for action in (
            drive.mount,
            lambda: subprocess.run(["mount", "-o", "remount,ro", drive.mount_point], check=True),
            lambda: subprocess.run(["mount", "-o", "remount,rw", drive.mount_point], check=True),
            lambda: drive.mount(elsewhere),
            lambda: drive.unmount(lazily=True),
            drive.unmount,
        ):
            changes.clear()
            await asyncio.to_thread(action)
            await until(lambda: changes)
        await asyncio.to_thread(lambda: None)
        changes.clear()
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(changes) < 10  # others may mount meanwhile; a reader that spins comes each round

    watched(steps)


def recorded_event(devnode):
    """One message of udev to its listeners, byte by byte."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as listener:  # NETLINK_KOBJECT_UEVENT
        listener.bind((0, 2))  # the group that udevd, not the kernel, sends to
        listener.settimeout(30)
        subprocess.run(["udevadm", "trigger", "--action=change", devnode], check=True)
        while True:
            message = listener.recv(1 << 16)
            if f"DEVNAME={devnode}\0".encode() in message:
                return message


def test_ten_thousand_events_at_once_lose_nothing_unheard(workshop):
    """Where the kernel drops some, an overflow says so, and what comes after is heard again."""
    devnode = workshop.drive().plug()
    message = recorded_event(devnode)
    late = workshop.drive()

    async def steps(news, _changes, until):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as sender:
            sender.bind((0, 0))
            for _ in range(10_000):
                sender.sendto(message, (0, 2))
        await until(lambda: heard_of(news, devnode) or any(changed.overflow for changed in news))
        devnode2 = await asyncio.to_thread(late.plug)
        await until(lambda: heard_of(news, devnode2) or news[-1].overflow)
        assert not any(changed.ended for changed in news)

    watched(steps)


BURST = """
import asyncio, sys
from usbbackup.drives.udev import KernelUdev

async def main():
    news = []
    KernelUdev().watch(news.append)
    print("watching", flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # the loop hears nothing of what is sent before this line
    while not any(changed.overflow for changed in news):
        await asyncio.sleep(0.01)
    print("overflow", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    while not any(sys.argv[1] in changed.devnodes for changed in news):
        await asyncio.sleep(0.01)
    print("heard", flush=True)

asyncio.run(main())
"""


def test_an_ordinary_user_whose_buffer_overflows_is_told_and_hears_again(workshop, ordinary_user):
    """Stopped, so that the kernel has to drop; a user may not have a larger buffer."""
    devnode = workshop.drive().plug()
    message = recorded_event(devnode)
    with subprocess.Popen(
        ordinary_user.command(ordinary_user.code.python, "-c", BURST, devnode),
        env=ordinary_user.environment,
        cwd=ordinary_user.home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as watcher:
        try:
            assert watcher.stdout.readline() == "watching\n"
            watcher.send_signal(signal.SIGSTOP)
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as sender:
                sender.bind((0, 0))
                for _ in range(10_000):
                    sender.sendto(message, (0, 2))
            watcher.send_signal(signal.SIGCONT)
            watcher.stdin.write("\n")
            watcher.stdin.flush()
            assert watcher.stdout.readline() == "overflow\n"
            subprocess.run(["udevadm", "trigger", "--action=change", devnode], check=True)
            watcher.stdin.write("\n")
            watcher.stdin.flush()
            assert watcher.stdout.readline() == "heard\n"
        finally:
            watcher.kill()


def test_an_ordinary_user_sees_devices_and_mounts(workshop, ordinary_user):
    drive = workshop.drive(fs_type="btrfs", owner=ordinary_user.owner)
    devnode = drive.plug()
    drive.mount()
    told = ordinary_user.python(
        """
import os, sys
from usbbackup.drives.mounts import KernelMountTable
from usbbackup.drives.survey import KernelLookups
from usbbackup.drives.udev import KernelUdev
found = next(device for device in KernelUdev().devices() if device.devnode == sys.argv[1])
row = next(row for row in KernelMountTable().read() if row.mount_point == os.fsencode(sys.argv[2]))
lookups = KernelLookups()
print(found.fs_label, lookups.devnum(row.source) == found.devnum, row.devnum == found.devnum,
      lookups.btrfs_members(found.fs_uuid) == {found.sys_name})
""",
        devnode,
        drive.mount_point,
    )
    assert told == "backup True False True\n"


def test_nothing_is_left_attached_or_mounted_by_these_tests(workshop):
    drive = workshop.drive()
    devnode = drive.plug()
    drive.mount()
    drive.close()
    assert str(drive.mount_point) not in Path("/proc/self/mountinfo").read_text()
    found = device_of(devnode)
    assert found is None or found.fs_label is None
