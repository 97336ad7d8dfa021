"""Real udev events and real mounts reach the watchers."""


import pytest

from usbbackup.drives.udev import KernelUdev

pytestmark = pytest.mark.root


def device_of(udev, devnode):
    return next(device for device in udev.devices() if device.devnode == str(devnode))


@pytest.mark.parametrize("fs_type", ["ext4", "btrfs", "xfs", "vfat"])
def test_udev_knows_label_uuid_and_kind_of_a_plugged_drive(workshop, fs_type):
    drive = workshop.drive(fs_type=fs_type, label="BACKUP")
    found = device_of(KernelUdev(), drive.plug())
    assert (found.fs_label, found.fs_type, found.fs_usage) == ("BACKUP", fs_type, "filesystem")
    assert found.fs_uuid
    assert found.size == drive.image.stat().st_size
    assert found.diskseq
    assert found.initialized
    assert not found.usb
    assert not found.partition
