"""Drives as they are sold: what their file systems cannot keep is told when they are enrolled."""

from pathlib import Path

import pytest
from trees import portrait

pytestmark = pytest.mark.root
NOT_UTF8 = b"not utf-8 \xff"  # as planted


def enrolled(house, stick, fs_type, *jobs):
    """What enrolling a drive with this file system tells."""
    house.configure(*jobs)
    drive = stick(fs_type=fs_type)
    drive.plug()
    drive.mount()
    return drive, " ".join(house.done("drives", "enrol").split())


def test_on_exfat_snapshots_of_rsync_are_refused_and_what_is_advised_works(house, stick):
    drive, told = enrolled(house, stick, "exfat", house.job("rsync"))
    assert "exfat, cannot keep: hard links, symbolic links" in told
    assert "use the borg engine, or write `layout: mirror`" in told
    ended = house.cli("start", "--wait")
    assert ended.returncode == 1
    assert "snapshots need hard links" in ended.stdout + ended.stderr
    assert house.snapshots() == []

    house.configure(house.job("borg"), house.job("rsync", "copy", layout="mirror"))
    house.done("start", "--wait", "borg")
    (snapshot,) = house.snapshots()
    assert house.restored(snapshot) == portrait(house.documents)
    house.cli("start", "--wait", "copy")
    (letter,) = drive.mount_point.glob(f"usbbackup/*/*/copy/mirror{house.documents}/**/1.txt")
    assert "grandmother" in letter.read_text()


def test_on_ntfs_snapshots_are_made_and_the_limits_are_named(house, stick):
    _, told = enrolled(house, stick, "ntfs", house.job("rsync"))
    assert "ntfs, cannot keep: permissions, owners, access control lists" in told
    assert "are refused there" not in told
    house.cli("start", "--wait")
    (run,) = house.runs()
    assert run["outcome"] == "warning", run
    (snapshot,) = house.snapshots()
    kept, known = portrait(Path(f"{snapshot['path']}{house.documents}")), portrait(house.documents)
    del known[NOT_UTF8]
    assert {name: (entry.kind, entry.content, entry.links) for name, entry in kept.items()} == {
        name: (entry.kind, entry.content, entry.links) for name, entry in known.items()
    }
