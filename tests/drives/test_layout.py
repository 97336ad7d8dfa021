"""What is said where our folders cannot be made; that they are made right, enrolment shows."""

from dataclasses import replace

import pytest

from usbbackup.drives.host import group_name, login_name
from usbbackup.drives.layout import _no_place


@pytest.mark.parametrize("fs_type", ["ext4", "btrfs", "xfs", "f2fs"])
def test_where_there_are_owners_one_command_of_roots_mends_it(desk, fs_type):
    row = replace(desk.drive.row, fs_type=fs_type, mount_point=b"/media/my drive")
    error = _no_place(row, "usbbackup", 0o755)
    user, group = login_name(), group_name()
    assert error.command == (
        *("sudo", "install", "-d", "-o", user, "-g", group, "-m", "0755"),
        "/media/my drive/usbbackup",
    )
    assert error.hint.endswith(f"sudo install -d -o {user} -g {group} -m 0755 '/media/my drive/usbbackup'")


@pytest.mark.parametrize("fs_type", ["vfat", "exfat", "fuseblk", "ntfs3"])
def test_where_there_are_none_only_another_mount_helps(desk, fs_type):
    error = _no_place(replace(desk.drive.row, fs_type=fs_type), "usbbackup", 0o755)
    assert error.command is None
    assert "with the option uid=" in error.hint


def test_a_drive_mounted_at_the_root_has_its_folder_there(desk):
    error = _no_place(replace(desk.drive.row, mount_point=b"/"), "usbbackup", 0o755)
    assert error.command[-1] == "/usbbackup"
