"""The proof by writing."""

import errno
import os

import pytest

from usbbackup.drives.probe import FILE, Minimum, Ok, _failed, probe
from usbbackup.drives.ready import Waiting, Why
from usbbackup.folders import closing


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()
    with closing(os.open(place, os.O_RDONLY | os.O_DIRECTORY)) as fd:
        yield fd


def test_a_drive_that_takes_data_is_ok_and_keeps_nothing_of_it(folder, tmp_path):
    answer = probe(folder, "sdb1", sys=tmp_path)
    assert isinstance(answer, Ok)
    assert 0 < answer.bytes_free <= answer.bytes_total
    assert answer.notes == ()
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_file_left_by_a_probe_that_was_interrupted_is_in_nobodys_way(folder, tmp_path):
    (tmp_path / "folder" / FILE).write_text("half")
    assert isinstance(probe(folder, "sdb1", sys=tmp_path), Ok)
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_link_in_the_place_of_the_file_is_not_followed(folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "folder" / FILE).symlink_to(victim)
    assert isinstance(probe(folder, "sdb1", sys=tmp_path), Ok)
    assert victim.read_text() == "precious"


def test_a_folder_in_the_place_of_the_file_is_a_reason(folder, tmp_path):
    (tmp_path / "folder" / FILE).mkdir()
    answer = probe(folder, "sdb1", sys=tmp_path)
    assert (type(answer), answer.why) == (Waiting, Why.WRITE_FAILED)


@pytest.mark.parametrize("minimum", [Minimum(bytes=1 << 62), Minimum(inodes=1 << 62)])
def test_too_little_room_is_a_reason_and_nothing_is_written(folder, tmp_path, minimum):
    if minimum.inodes > 100 and not os.fstatvfs(folder).f_files:
        pytest.skip("the file system here counts no inodes")
    before = (tmp_path / "folder").stat().st_mtime_ns
    answer = probe(folder, "sdb1", minimum, tmp_path)
    assert (type(answer), answer.why) == (Waiting, Why.NO_SPACE)
    assert (tmp_path / "folder").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("code", "why", "told"),
    [
        (errno.EROFS, Why.STOPPED, "refuses to be written to"),
        (errno.ENOSPC, Why.NO_SPACE, "The drive is full."),
        (errno.EDQUOT, Why.NO_SPACE, "The drive is full."),
        (errno.EACCES, Why.ROOT_OWNED, "your own backup folder"),
        (errno.EPERM, Why.ROOT_OWNED, "your own backup folder"),
        (errno.EIO, Why.WRITE_FAILED, "Writing to the drive failed: Input/output error."),
        (errno.ENODEV, Why.WRITE_FAILED, "Writing to the drive failed: No such device."),
    ],
)
def test_every_failure_to_write_has_its_reason_and_remedy(code, why, told):
    answer = _failed(OSError(code, os.strerror(code)))
    assert answer.why is why
    assert told in answer.reason
    assert answer.remedy


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ("0\n", 0),
        ("1\n", "1 error;"),
        ("17\n", "17 errors;"),
        ("what?\n", 0),
    ],
)
def test_errors_that_ext4_has_noted_are_told(folder, tmp_path, content, notes):
    counter = tmp_path / "fs/ext4/sdb1/errors_count"
    counter.parent.mkdir(parents=True)
    counter.write_text(content)
    told = probe(folder, "sdb1", sys=tmp_path).notes
    assert (notes in told[0]) if notes else told == ()
