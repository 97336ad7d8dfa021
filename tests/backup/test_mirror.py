"""The rsync engine without snapshots."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from runs import Place, everything

from usbbackup.outcome import Outcome, Phase, Progress
from usbbackup.programs import Program

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.job = made.with_job(layout="mirror")
    (made.source / "d/e").mkdir(parents=True)
    (made.source / "d/file").write_text("one")
    (made.source / "top").write_text("two")
    return made


def mirrored(place: Place) -> Path:
    return place.job_folder / "mirror" / str(place.source)[1:]


def test_the_copy_equals_the_source_and_there_are_no_snapshots(place: Place) -> None:
    result = place.run()
    assert (result.outcome, result.snapshot, result.files) == (Outcome.SUCCESS, None, 2)
    assert everything(mirrored(place)) == everything(place.source)
    assert place.snapshots() == []


def test_what_is_gone_or_left_out_now_goes_from_the_copy(place: Place) -> None:
    for number in range(4):
        (place.source / f"more {number}").touch()
    place.run()
    (place.source / "top").unlink()
    shutil.rmtree(place.source / "d/e")
    place.job = place.with_job(exclude=("more 1",))
    place.run()
    (place.source / "more 1").unlink()
    kept, known = everything(mirrored(place)), everything(place.source)
    assert kept.keys() == known.keys()
    assert place.stages() == ["mirror"]


def test_kinds_can_be_swapped(place: Place) -> None:
    place.run()
    shutil.rmtree(place.source / "d")
    (place.source / "d").write_text("now a file")
    (place.source / "top").unlink()
    (place.source / "top").mkdir()
    (place.source / "top/f").touch()
    assert place.run().outcome is Outcome.SUCCESS
    assert everything(mirrored(place)) == everything(place.source)


def test_names_that_fat_gives_back_changed_are_kept(place: Place) -> None:
    (place.source / "Dots and blanks. .").touch()
    place.run()
    (mirrored(place) / "Dots and blanks. .").rename(mirrored(place) / "DOTS AND BLANKS")
    place.programs.before = nothing
    place.run()
    assert (mirrored(place) / "DOTS AND BLANKS").exists()


def nothing(program: Program) -> Program:
    return replace(program, argv=("cat",))


def test_nothing_goes_where_the_source_is_doubtful_or_the_run_was_stopped(place: Place) -> None:
    place.run()
    before = everything(mirrored(place))
    shutil.rmtree(place.source)
    place.source.mkdir()
    assert place.run().outcome is Outcome.FAILED
    assert everything(mirrored(place)) == before
    (place.source / "new").touch()

    def stop(progress) -> None:
        if progress.phase is Phase.TRANSFER:
            place.stop.set(Outcome.CANCELLED, "the user said so")

    assert place.run(accept_source=True, report=stop).outcome is Outcome.CANCELLED
    assert everything(mirrored(place)) == before


def test_a_dry_run_tells_what_would_be_copied(place: Place) -> None:
    place.run()
    (place.source / "top").write_text("three")
    before = everything(place.folder)
    result = place.run(dry_run=True)
    assert (result.files, result.bytes) == (1, 5)
    assert everything(place.folder) == before


def test_a_symlink_in_the_copy_is_never_followed(place: Place) -> None:
    elsewhere = place.top / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    place.job_folder.mkdir()
    (place.job_folder / "mirror").symlink_to(elsewhere)
    assert place.run().outcome is Outcome.FAILED
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def pulled(place: Place, phase: Phase = Phase.SYNC) -> None:
    """A run whose drive goes after all was copied, and before it was synced."""

    def pull(progress: Progress) -> None:
        if progress.phase is phase and place.drive is not None:
            place.drive.reason = "The drive was unmounted."

    assert place.run(report=pull).outcome is Outcome.INTERRUPTED


def zeroed(path: Path) -> None:
    """What a pulled drive may have of a file: its size and time, without the data."""
    found = path.stat()
    path.write_bytes(bytes(found.st_size))
    os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))


def test_of_a_run_that_was_cut_off_size_and_time_prove_nothing(place: Place) -> None:
    pulled(place)
    zeroed(mirrored(place) / "top")
    pulled(place, Phase.TRANSFER)  # once more, before anything was compared
    assert place.run().outcome is Outcome.SUCCESS
    assert everything(mirrored(place)) == everything(place.source)
    assert any("by content" in line for line in place.log)
    assert place.stages() == ["mirror"]


def test_after_a_run_that_was_cancelled_size_and_time_are_enough(place: Place) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase is Phase.SYNC:
            place.stop.set(Outcome.CANCELLED, "the user said so")

    assert place.run(report=stop).outcome is Outcome.CANCELLED
    assert place.stages() == ["mirror"]
    place.run()
    assert not any(b"--checksum" in program.argv for program in place.programs.seen)
