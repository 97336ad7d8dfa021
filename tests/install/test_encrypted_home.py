"""Is a home encrypted, and is it open? Known without writing a byte."""

import os
import pwd
from pathlib import Path

import pytest

from usbbackup.encrypted_home import opened_by, still_encrypted
from usbbackup.mountinfo import MountRow

NONE = Path("/nonexistent")


def mounted(at: Path, fs_type: str) -> MountRow:
    nothing: frozenset[str] = frozenset()
    return MountRow(1, 0, (0, 1), b"/", os.fsencode(at), nothing, fs_type, b"x", nothing)


def test_an_ordinary_home_is_always_open(tmp_path: Path) -> None:
    for rows in ([], [mounted(tmp_path, "ext4")], [mounted(tmp_path.parent, "ecryptfs")]):
        assert opened_by(tmp_path, rows, NONE) is None
        assert still_encrypted(tmp_path, rows, NONE) is None


@pytest.mark.parametrize("fs_type", ["ecryptfs", "fuse.gocryptfs", "fuse.encfs", "fuse.cryfs"])
def test_one_that_is_mounted_is_open_and_was_opened_at_login(fs_type: str, tmp_path: Path) -> None:
    rows = [mounted(tmp_path, fs_type)]
    assert opened_by(tmp_path, rows, NONE)
    assert still_encrypted(tmp_path, rows, NONE) is None


def test_ecryptfs_leaves_a_note_where_it_will_be_mounted(tmp_path: Path) -> None:
    (tmp_path / ".ecryptfs").mkdir()
    (tmp_path / ".ecryptfs/Private.mnt").write_text(f"{tmp_path}\n")
    assert still_encrypted(tmp_path, [], NONE) == "eCryptfs"
    assert still_encrypted(tmp_path, [mounted(tmp_path, "ecryptfs")], NONE) is None


def test_a_private_directory_inside_does_not_make_the_home_encrypted(tmp_path: Path) -> None:
    (tmp_path / ".ecryptfs").mkdir()
    (tmp_path / ".ecryptfs/Private.mnt").write_text(f"{tmp_path}/Private")
    assert opened_by(tmp_path, [], NONE) is None
    assert still_encrypted(tmp_path, [], NONE) is None


def test_the_encrypted_side_of_gocryptfs_is_never_taken_for_the_home(tmp_path: Path) -> None:
    (tmp_path / "gocryptfs.conf").touch()
    (tmp_path / "gocryptfs.diriv").touch()
    assert still_encrypted(tmp_path, [], NONE) == "gocryptfs"


def test_what_pam_mount_will_mount_at_the_home(tmp_path: Path) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    conf, home = tmp_path / "pam_mount.conf.xml", tmp_path / user
    home.mkdir()
    conf.write_text(
        '<?xml version="1.0"?><pam_mount><volume user="*" path="/x" '
        f'mountpoint="{tmp_path}/%(USER)"/></pam_mount>'
    )
    assert (opened_by(home, [], conf), still_encrypted(home, [], conf)) == ("pam_mount", "pam_mount")
    assert still_encrypted(home, [mounted(home, "ext4")], conf) is None
    assert opened_by(tmp_path, [], conf) is None
    conf.write_text("<pam_mount>")
    assert opened_by(home, [], conf) is None
