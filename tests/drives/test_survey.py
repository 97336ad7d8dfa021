"""All drives at one look."""

import json
import os
from dataclasses import asdict, fields, replace

import pytest

from demo.directory_drive import DirectoryDrive
from usbbackup.config import DriveConfig
from usbbackup.drives.records import Enrolled
from usbbackup.drives.survey import DriveView, KernelLookups, strangers, view


def views(desk, **options):
    return [view(verdict, **options) for verdict in desk.survey()]


def states(desk):
    return [(each.state, each.enrolled) for each in views(desk)]


def test_a_view_has_the_fields_that_scripts_rely_on():
    documented = [
        "name",
        "uuid",
        "label",
        "devnode",
        "mount_point",
        "state",
        "reason",
        "enrolled",
        "last_seen",
    ]
    documented += ["bytes_free", "bytes_total"]
    assert [field.name for field in fields(DriveView) if field.name != "remedy"] == documented


def test_a_ready_drive_is_shown_whole(desk):
    desk.enrol()
    (shown,) = views(
        desk, space=lambda mount_point: (5, 10) if mount_point == bytes(desk.directory) else None
    )
    assert shown == DriveView(
        name="backup",
        uuid=desk.drive.device.fs_uuid,
        label="backup",
        devnode=desk.drive.device.devnode,
        mount_point=str(desk.directory),
        state="ready",
        reason=None,
        remedy=None,
        enrolled=True,
        last_seen=1_800_000_000.0,
        bytes_free=5,
        bytes_total=10,
    )


def test_the_states_of_a_drive_from_new_to_gone(desk):
    assert states(desk) == [("refused", False)]
    desk.enrol()
    assert states(desk) == [("ready", True)]
    desk.drive.remount("ro")
    assert states(desk) == [("waiting", True)]
    desk.drive.unmount()
    assert states(desk) == [("waiting", True)]
    desk.drive.pull()
    assert states(desk) == [("absent", True)]


def test_a_drive_that_was_never_seen_is_shown_with_nulls(desk):
    desk.drive.pull()
    (shown,) = views(desk)
    assert (shown.name, shown.uuid, shown.label, shown.state) == ("backup", None, "backup", "absent")
    assert (shown.devnode, shown.mount_point, shown.bytes_free, shown.last_seen) == (None,) * 4
    assert shown.reason == "No file system labelled 'backup' is plugged in."


def test_an_absent_enrolled_drive_keeps_its_label_and_when_it_was_seen(desk):
    desk.enrol()
    desk.drive.pull()
    (shown,) = views(desk)
    assert (shown.label, shown.last_seen) == ("backup", 1_800_000_000.0)


def test_a_strange_mount_point_is_shown_as_text_that_json_takes(desk, tmp_path):
    desk.enrol()
    odd = tmp_path / os.fsdecode(b"odd \xff\n")
    odd.mkdir()
    desk.drive.unmount()
    desk.drive.mount(odd)
    (shown,) = views(desk)
    assert shown.mount_point == f"{tmp_path}/odd \\xff\n"
    json.dumps(asdict(shown)).encode()


def test_the_space_of_a_real_directory_is_told_and_of_a_missing_one_is_not(desk):
    (shown,) = views(desk)
    assert 0 < shown.bytes_free <= shown.bytes_total
    desk.directory.rmdir()
    (shown,) = views(desk)
    assert (shown.bytes_free, shown.bytes_total) == (None, None)


@pytest.fixture
def other(desk, tmp_path):
    directory = tmp_path / "other"
    directory.mkdir()
    return DirectoryDrive(desk.udev, desk.mounts, directory, label="music")


def unknown(desk, **records):
    return strangers(desk.udev, desk.mounts, desk.records.read() | records, [desk.entry], desk.lookups)


def test_a_drive_that_the_configuration_does_not_mean_is_a_stranger(desk, other):
    assert unknown(desk) == []
    other.plug()
    (found,) = unknown(desk)
    assert (found.uuid, found.row, found.device.fs_label) == (other.device.fs_uuid, other.row, "music")
    assert view(found).state == "refused"


def test_a_disk_of_the_machine_is_no_stranger(desk, other):
    other.device = replace(other.device, usb=False)
    other.plug()
    assert unknown(desk) == []


def test_a_stranger_that_is_enrolled_is_shown_as_such(desk, other):
    other.plug()
    uuid = other.device.fs_uuid
    record = Enrolled(uuid=uuid, token="", label="music", name="", fs_type="ext4", host="", enrolled_at=1.0)
    (found,) = unknown(desk, **{uuid: record})
    assert view(found).enrolled


def test_a_drive_entry_by_uuid_makes_a_stranger_known(desk, other):
    other.plug()
    desk.entry = DriveConfig(name="music", uuid=other.device.fs_uuid)
    assert [found.uuid for found in unknown(desk)] == [desk.drive.device.fs_uuid]


@pytest.mark.parametrize("source", [b"tmpfs", b"", b"/dev/null", b"/nowhere", b"a\0b", b"\xff", b"/etc"])
def test_what_is_no_block_device_has_no_number(source):
    assert KernelLookups().devnum(source) is None


@pytest.mark.parametrize("uuid", ["8fa257d1", "", "..", "a\0b", "../../../etc"])
def test_an_unknown_btrfs_has_no_members(uuid):
    assert KernelLookups().btrfs_members(uuid) == frozenset()
