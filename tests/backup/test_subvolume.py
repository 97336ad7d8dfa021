"""Snapshots on btrfs: copies of a subvolume, brought up to date in place."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystems import mounted
from runs import ROOT, Place, everything

from usbbackup.folders import names_in
from usbbackup.outcome import Outcome, Phase, Progress

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not ROOT, reason="mounting needs root"),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed"),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "btrfs").mkdir()
    with mounted("btrfs", tmp_path / "btrfs") as where:
        made = Place(tmp_path / "here", where)
        (made.source / "d").mkdir()
        (made.source / "d/large").write_bytes(os.urandom(3_000_000))
        (made.source / "d/other").write_text("other")
        (made.source / "top").write_text("top")
        yield made


def test_each_snapshot_is_a_subvolume_and_shares_what_did_not_change(place: Place) -> None:
    for _ in range(2):
        assert place.run().outcome is Outcome.SUCCESS
    assert [path.stat().st_ino for path in place.snapshots()] == [256, 256]
    assert "what changed is said by its manifest" in place.log[-1]
    assert not (place.stored(0) / "top").samefile(place.stored(1) / "top")


def test_a_renamed_directory_is_moved_and_two_that_change_places_are_told_apart(place: Place) -> None:
    (place.source / "e").mkdir()
    (place.source / "e/large").write_bytes(os.urandom(2_000_000))
    place.run()
    (place.source / "d").rename(place.source / "moved")
    place.run()
    assert everything(place.stored()) == everything(place.source)
    (place.source / "e").rename(place.source / "aside")
    (place.source / "moved").rename(place.source / "e")
    (place.source / "aside").rename(place.source / "moved")
    place.run()
    assert everything(place.stored()) == everything(place.source)


def test_names_of_one_file_that_part_do_not_change_each_other(place: Place) -> None:
    os.link(place.source / "top", place.source / "d/same")
    place.run()
    (place.source / "d/same").unlink()
    shutil.copy2(place.source / "top", place.source / "d/same")
    (place.source / "d/same").chmod(0o600)
    place.run()
    assert everything(place.stored()) == everything(place.source)


def test_a_source_that_is_no_longer_one_is_no_longer_in_the_snapshot(place: Place) -> None:
    other = place.top / "other"
    other.mkdir()
    (other / "file").touch()
    place.job = place.with_job(sources=(str(place.source), str(other)))
    place.run()
    place.job = place.with_job(sources=(str(place.source),))
    place.run()
    assert not place.stored(of=other).exists()
    assert everything(place.stored()) == everything(place.source)


def test_a_run_that_was_cut_off_is_gone_on_with(place: Place) -> None:
    def cancel(progress: Progress) -> None:
        if progress.phase is Phase.SYNC:
            place.stop.set(Outcome.CANCELLED, "the user said so")

    place.run()
    (place.source / "new").write_bytes(os.urandom(3_000_000))
    assert place.run(report=cancel).outcome is Outcome.CANCELLED
    (stage,) = place.stages()
    kept = next((place.job_folder / stage).rglob("new")).stat().st_ino
    assert place.run().outcome is Outcome.SUCCESS
    assert f"{stage} is copied as a whole" in place.log[-1]
    assert (place.stored() / "new").stat().st_ino == kept
    assert everything(place.stored()) == everything(place.source)
    assert place.stages() == []


def test_after_plain_directories_snapshots_are_plain_directories(place: Place) -> None:
    place.run()
    (last,) = place.snapshots()
    aside = last.with_name("aside")
    last.rename(aside)
    shutil.copytree(aside, last, symlinks=True)
    assert place.run().outcome is Outcome.SUCCESS
    assert place.snapshots()[-1].stat().st_ino != 256
    assert (place.stored(0) / "top").samefile(place.stored(1) / "top")


def test_what_is_made_in_an_open_folder_is_listed(place: Place) -> None:
    folder = os.open(place.folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert names_in(folder) == []
        (place.folder / "new").mkdir()
        assert names_in(folder) == ["new"]
    finally:
        os.close(folder)
