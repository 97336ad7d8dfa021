"""A drive that is held."""

import os
from dataclasses import replace

import pytest

from usbbackup.drives.pin import Pin
from usbbackup.errors import NotAllowedError, NotNowError
from usbbackup.target import Target


@pytest.fixture
def enrolled(desk):
    desk.enrol()
    return desk


def pin(desk):
    return Pin(desk.verdict(), desk.mounts, desk.host)


def test_a_held_drive_is_the_users_folder(enrolled):
    with pin(enrolled) as held:
        target: Target = held
        assert os.path.samestat(os.fstat(target.fd), enrolled.folder.stat())
        assert target.still_there() is None
        assert (target.facts.name, target.facts.mount_point) == ("backup", enrolled.directory)
        os.fsync(target.fd)


def test_afterwards_nothing_is_open_and_nothing_can_be_had(enrolled, open_descriptors):
    before = open_descriptors()
    with pin(enrolled) as held:
        assert len(open_descriptors() - before) == 1
    held.close()
    assert open_descriptors() == before
    with pytest.raises(ValueError, match="not held"):
        _ = held.fd


def test_a_drive_that_is_not_enrolled_cannot_be_held(desk):
    with pytest.raises(ValueError, match="only an enrolled, mounted drive"):
        pin(desk)


def test_a_drive_that_is_not_mounted_cannot_be_held(enrolled):
    enrolled.drive.unmount()
    with pytest.raises(ValueError, match="only an enrolled, mounted drive"):
        pin(enrolled)


def test_a_drive_whose_path_leads_elsewhere_is_not_held(enrolled, open_descriptors):
    before = open_descriptors()
    enrolled.mounts.swap(enrolled.drive.row, replace(enrolled.drive.row, mount_id=999_999))
    with pytest.raises(NotNowError, match="leads to another file system than the drive"), pin(enrolled):
        pass
    assert open_descriptors() == before


def test_an_emptied_drive_is_not_held(enrolled):
    verdict = enrolled.verdict()
    (enrolled.top / "drive.json").unlink()
    with (
        pytest.raises(NotAllowedError, match="lost its marker"),
        Pin(verdict, enrolled.mounts, enrolled.host),
    ):
        pass


@pytest.mark.parametrize("gone", ["laptop-0badcafe/david", "laptop-0badcafe", "."])
def test_a_drive_without_our_folder_is_not_held(enrolled, open_descriptors, gone):
    before = open_descriptors()
    (enrolled.top / gone).rename(enrolled.directory / "away")
    with pytest.raises(NotAllowedError, match="The backup folder on the drive is gone"), pin(enrolled):
        pass
    assert open_descriptors() == before


@pytest.mark.parametrize("name", ["laptop-0badcafe/david", "laptop-0badcafe", "."])
def test_a_link_in_the_place_of_a_folder_is_not_followed(enrolled, name):
    path = (enrolled.top / name).resolve()
    path.rename(enrolled.directory / "away")
    path.symlink_to(enrolled.directory / "away")
    with pytest.raises(NotAllowedError, match="is a symbolic link"), pin(enrolled):
        pass


CHANGES = {
    "unmounted": (lambda desk: desk.drive.unmount(), "was unmounted"),
    "pulled": (lambda desk: desk.drive.pull(), "was unmounted"),
    "covered": (
        lambda desk: desk.mounts.put(replace(desk.drive.row, mount_id=7, devnum=(0, 9), fs_type="tmpfs")),
        "Something else was mounted over",
    ),
    "another device": (
        lambda desk: desk.mounts.swap(desk.drive.row, replace(desk.drive.row, devnum=(8, 99))),
        "Another drive is mounted",
    ),
    "another file system": (
        lambda desk: desk.mounts.swap(desk.drive.row, replace(desk.drive.row, fs_type="xfs")),
        "Another drive is mounted",
    ),
    "another folder of it": (
        lambda desk: desk.mounts.swap(desk.drive.row, replace(desk.drive.row, root=b"/x")),
        "Another drive is mounted",
    ),
    "moved": (
        lambda desk: desk.mounts.swap(desk.drive.row, replace(desk.drive.row, mount_point=b"/elsewhere")),
        "Another drive is mounted",
    ),
    "another id": (
        lambda desk: desk.mounts.swap(desk.drive.row, replace(desk.drive.row, mount_id=7)),
        "was unmounted",
    ),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_a_held_drive_tells_when_it_is_not_the_same_any_more(enrolled, change, told):
    with pin(enrolled) as held:
        change(enrolled)
        assert told in held.still_there()


def test_a_drive_that_takes_no_more_data_is_still_there(enrolled):
    """It is no interruption: the next write fails, and tells why."""
    with pin(enrolled) as held:
        enrolled.drive.remount("ro")
        assert held.still_there() is None


def test_changes_elsewhere_are_no_concern(enrolled):
    with pin(enrolled) as held:
        enrolled.mounts.put(replace(enrolled.drive.row, mount_id=7, devnum=(8, 99), mount_point=b"/mnt"))
        assert held.still_there() is None
