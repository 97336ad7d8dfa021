"""A drive that is too small is told of before anything is copied, and by how much."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from demo import loop_drive
from demo.loop_drive import LoopDrive
from tests.backup.runs import Place
from usbbackup.backup.rsync import room
from usbbackup.backup.rsync.room import Amount
from usbbackup.outcome import Outcome, Result

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


@contextmanager
def a_small_drive(top: Path) -> Iterator[Place]:
    """Of 64 MiB, with a home beside it."""
    if reason := loop_drive.missing():
        pytest.skip(reason)
    drive = LoopDrive(top, name="promises")
    try:
        yield Place(top / "place", drive.mount(options="rw,loop"))
    finally:
        drive.close()


def refused(result: Result) -> str:
    assert result.outcome is Outcome.FAILED
    assert result.hint is not None
    assert result.hint.startswith("nothing was copied")
    return result.message


@pytest.mark.root
def test_a_first_copy_that_cannot_fit_is_not_begun(tmp_path: Path) -> None:
    with a_small_drive(tmp_path) as place:
        with (place.source / "large").open("wb") as file:
            file.truncate(100_000_000)
        message = refused(place.run())
        assert message.startswith("the drive 'stick' is too small for this backup, ")
        assert "it needs about 100 MB" in message
        assert place.stages() == []
        assert refused(place.run()) == message  # and again, though it has been tried once
        os.truncate(place.source / "large", 10_000_000)
        assert place.run().outcome is Outcome.SUCCESS


@pytest.mark.root
def test_what_is_linked_needs_no_room_and_what_changed_does(tmp_path: Path) -> None:
    with a_small_drive(tmp_path) as place:
        (place.source / "same").write_bytes(bytes(35_000_000))
        (place.source / "other").write_bytes(bytes(1000))
        assert place.run().outcome is Outcome.SUCCESS
        (place.source / "other").write_bytes(bytes(2000))
        assert place.run().outcome is Outcome.SUCCESS
        (place.source / "other").write_bytes(bytes(34_000_000))
        assert "it needs about 34 MB" in refused(place.run())
        assert len(place.snapshots()) == 2


@pytest.mark.root
def test_a_drive_without_names_enough_is_refused_by_their_number(tmp_path: Path) -> None:
    with a_small_drive(tmp_path) as place:
        there = os.statvfs(place.mount).f_ffree
        for number in range(there + 10):
            (place.source / str(number)).touch()
        assert "files and folders more than it has room for" in refused(place.run())
        assert place.stages() == []


@pytest.mark.root
def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    with a_small_drive(tmp_path) as place:
        (place.source / "one").write_bytes(bytes(20_000_000))
        for number in range(5):
            (place.source / f"also {number}").hardlink_to(place.source / "one")
        assert place.run().outcome is Outcome.SUCCESS


def test_where_files_may_be_compressed_nothing_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with place.opened() as target:
        too_much = Amount(room.free(target.fd).bytes + 1_000_000_000, 1)
        assert "1.0 GB are missing" in str(room.lacking(target, too_much, room.free(target.fd)))
        target.facts = replace(target.facts, fs_type="btrfs")
        assert room.lacking(target, too_much, room.free(target.fd)) is None


@pytest.mark.root
def test_what_is_linked_meanwhile_is_dropped_again(tmp_path: Path) -> None:
    """Much is linked while the walk goes on, at whose end it turns out that not all of it fits."""
    with a_small_drive(tmp_path) as place:
        for number in range(3200):
            (place.source / f"{number}").touch()
        assert place.run().outcome is Outcome.SUCCESS
        (place.source / "large").write_bytes(bytes(100_000_000))
        assert "it needs about 100 MB" in refused(place.run())
        assert place.stages() == []
        (place.source / "large").unlink()
        assert place.run().outcome is Outcome.SUCCESS
        assert "3200 linked, 0 left to rsync" in place.log


@pytest.mark.root
def test_the_folders_that_are_made_meanwhile_are_not_counted_twice(tmp_path: Path) -> None:
    """What a snapshot takes is compared with the room that there was before its folders were made."""
    with a_small_drive(tmp_path) as place:
        folders = os.statvfs(place.mount).f_ffree * 2 // 5
        for number in range(folders):
            (place.source / f"{number}").mkdir()
        for number in range(3200):
            (place.source / f"0/{number}").touch()
        assert place.run().outcome is Outcome.SUCCESS
        result = place.run()
        assert result.outcome is Outcome.SUCCESS, result.message
