"""What can be read of a drive that nobody here has enrolled."""

import os
from pathlib import Path

import pytest

from usbbackup.backup.unknown_drive import newest_snapshots

OLD, NEW = "2026-11-23T101500Z", "2026-11-24T101500Z"


def job(mount: Path, name: str, *times: str) -> Path:
    """A job's folder with these snapshots."""
    folder = mount / "usbbackup/host-12345678/david" / name
    for time in times:
        (folder / "snapshots" / time).mkdir(parents=True)
    return folder


def test_the_newest_snapshot_of_each_job_is_found(tmp_path: Path) -> None:
    home, photos = job(tmp_path, "home", OLD, NEW), job(tmp_path, "photos", OLD)
    (home / "incomplete-2026-11-25T101500Z").mkdir()
    (home / "snapshots/2026-11-26.removed").mkdir()
    (tmp_path / "usbbackup/drive.json").touch()
    job(tmp_path, "borg-only").mkdir(parents=True)
    assert newest_snapshots(tmp_path) == [home / "snapshots" / NEW, photos / "snapshots" / OLD]


def test_newest_goes_by_the_order_of_publishing_not_by_the_clock(tmp_path: Path) -> None:
    home = job(tmp_path, "home", OLD, NEW)
    (home / "published").write_text(f"{NEW}\n{OLD}\n")
    assert newest_snapshots(tmp_path) == [home / "snapshots" / OLD]


def test_links_are_not_followed(tmp_path: Path) -> None:
    job(tmp_path / "elsewhere", "home", OLD)
    (tmp_path / "usbbackup").symlink_to(tmp_path / "elsewhere/usbbackup")
    assert newest_snapshots(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_belongs_to_others_is_passed_over(tmp_path: Path) -> None:
    home = job(tmp_path, "home", OLD)
    (other := tmp_path / "usbbackup/host-12345678/anna").mkdir(mode=0)
    assert newest_snapshots(tmp_path) == [home / "snapshots" / OLD]
    other.chmod(0o700)


def test_any_other_directory_holds_none(tmp_path: Path) -> None:
    assert newest_snapshots(tmp_path) == []
    assert newest_snapshots(tmp_path / "nowhere") == []
