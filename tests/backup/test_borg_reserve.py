"""The room that is kept for borg on the drive."""

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from demo import loop_drive
from demo.loop_drive import LoopDrive
from tests.backup.runs import Place
from usbbackup.backup.borg import reserve as borg_reserve
from usbbackup.backup.borg.reserve import give_back, keep
from usbbackup.config import JobConfig
from usbbackup.folders import LayoutError
from usbbackup.outcome import Outcome
from usbbackup.programs import Program

NO_ROOM = {
    "type": "log_message",
    "levelname": "ERROR",
    "message": "OSError: [Errno 28] No space left on device",
}
JOB = JobConfig(name="home", engine="borg", encryption="none")
needs_borg = pytest.mark.skipif(shutil.which("borg") is None, reason="borg is not installed")


@pytest.fixture
def job(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_it_takes_room_and_names_and_gives_them_back(job: int, tmp_path: Path) -> None:
    assert keep(job)
    kept = [file.stat() for file in (tmp_path / "reserve").iterdir()]
    drive = os.statvfs(tmp_path)
    whole = min(borg_reserve.LARGEST, drive.f_blocks * drive.f_frsize // borg_reserve.SHARE)
    assert len(kept) >= 3
    assert whole * 0.99 < sum(about.st_blocks * 512 for about in kept) < whole * 1.01
    assert keep(job)
    assert give_back(job)
    assert list(tmp_path.iterdir()) == []
    assert not give_back(job)


def test_one_that_was_only_begun_is_finished(job: int, tmp_path: Path) -> None:
    (tmp_path / "reserve.new").mkdir()
    (tmp_path / "reserve.new/0").touch()
    assert keep(job)
    assert [path.name for path in tmp_path.iterdir()] == ["reserve"]
    assert (tmp_path / "reserve/0").stat().st_size > 0


@pytest.mark.parametrize("name", ["reserve", "reserve.new"])
def test_a_link_in_its_place_is_neither_followed_nor_replaced(job: int, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "0").write_text("somebody's")
    (tmp_path / name).symlink_to(elsewhere)
    for wish in (keep, give_back):
        with pytest.raises(LayoutError, match="is a symbolic link"):
            wish(job)
    assert (elsewhere / "0").read_text() == "somebody's"


@needs_borg
def test_a_full_drive_gets_it_and_borg_a_second_chance(tmp_path: Path) -> None:
    place = Place(tmp_path, job=JOB)
    (place.source / "file").write_text("content")
    chances: list[bool] = []  # whether the reserve was there

    def first_full(program: Program) -> Program:
        if program.argv[1] != "create":
            return program
        chances.append((place.job_folder / "reserve").exists())
        failing = f"echo {shlex.quote(json.dumps(NO_ROOM))} >&2; exit 2"
        return replace(program, argv=("sh", "-c", failing)) if len(chances) == 1 else program

    place.programs.before = first_full
    result = place.run()
    assert (result.outcome, result.files) == (Outcome.SUCCESS, 1)
    assert chances == [True, False]
    assert any("borg gets the room that was kept for it" in line for line in place.log)


@needs_borg
def test_a_drive_that_stays_full_fails_the_run_after_two_chances(tmp_path: Path) -> None:
    place = Place(tmp_path, job=JOB)
    (place.source / "file").write_text("content")

    def full(program: Program) -> Program:
        failing = f"echo {shlex.quote(json.dumps(NO_ROOM))} >&2; exit 2"
        return replace(program, argv=("sh", "-c", failing)) if program.argv[1] == "create" else program

    place.programs.before = full
    result = place.run()
    assert (result.outcome, result.message) == (Outcome.FAILED, "the drive is full")
    assert sum(program.argv[1] == "create" for program in place.programs.seen) == 2


@needs_borg
def test_a_drive_that_is_gone_by_then_gets_no_second_chance(tmp_path: Path) -> None:
    place = Place(tmp_path, job=JOB)
    (place.source / "file").write_text("content")

    def full(program: Program) -> Program:
        failing = f"echo {shlex.quote(json.dumps(NO_ROOM))} >&2; exit 2"
        return replace(program, argv=("sh", "-c", failing)) if program.argv[1] == "create" else program

    def given_back(line: str) -> None:
        if "borg gets the room" in line and place.drive is not None:
            place.drive.reason = "The drive was unmounted."

    place.programs.before = full
    assert place.run(log=given_back).outcome is Outcome.INTERRUPTED
    assert sum(program.argv[1] == "create" for program in place.programs.seen) == 1


@pytest.mark.root
@needs_borg
def test_on_a_drive_without_one_free_block_and_name_borg_still_makes_a_small_backup(tmp_path: Path) -> None:
    if reason := loop_drive.missing():
        pytest.skip(reason)
    drive = LoopDrive(tmp_path, name="promises")
    try:
        drive.mount(options="rw,loop")
        place = Place(tmp_path / "place", drive.mount_point, job=JOB)
        (place.source / "file").write_text("content")
        assert place.run().outcome is Outcome.SUCCESS
        drive.fill()
        (place.source / "file").write_text("changed")
        result = place.run()
        assert result.outcome is Outcome.SUCCESS, "\n".join(place.log)
        assert not (place.job_folder / "reserve").exists()
    finally:
        drive.close()
