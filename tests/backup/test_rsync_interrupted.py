"""Runs of the rsync engine that end early, and what the next run makes of what they left."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from runs import Place, everything

from demo import loop_drive
from demo.loop_drive import LoopDrive
from usbbackup.backup import layout
from usbbackup.backup.engine import Work, Writes
from usbbackup.backup.matcher import Matcher
from usbbackup.backup.rsync.engine import Rsync
from usbbackup.backup.rsync.run import UNTOUCHED
from usbbackup.backup.scan import Scan
from usbbackup.backup.walk import Rules
from usbbackup.folders import closing, open_folder
from usbbackup.outcome import Outcome, Phase, Progress, Stop
from usbbackup.programs import Program

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")

GOOD = (Outcome.SUCCESS, ())
TIME = "2026-11-26T100000Z"
RULES = Rules(Matcher(()), False, {}, frozenset(), Stop())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    (made.source / "a").mkdir()
    (made.source / "z").mkdir()  # rsync comes to it last
    for number in range(3):
        (made.source / f"a/small {number}").write_bytes(os.urandom(5000))
    (made.source / "z/large").write_bytes(os.urandom(4_000_000))
    (made.source / "z/last").write_bytes(os.urandom(5000))
    return made


def slowly(program: Program) -> Program:
    """The large file takes so long that the run is stopped in the middle of it."""
    name, *rest = program.argv
    return replace(program, argv=(name, b"--bwlimit=1500", *rest))


def in_transfer(act: Callable[[], None]) -> Callable[[Progress], None]:
    """Acts once, when the small files are there and the large one is being copied."""
    done = False

    def report(progress: Progress) -> None:
        nonlocal done
        if not done and progress.phase is Phase.TRANSFER and (progress.bytes or 0) > 50_000:
            done = True
            act()

    return report


def at(phase: Phase, act: Callable[[], None]) -> Callable[[Progress], None]:
    """Acts when that phase begins."""

    def report(progress: Progress) -> None:
        if progress.phase is phase and progress.percent is None:
            act()

    return report


def interrupted(place: Place, act: Callable[[], None]) -> Outcome:
    """A run in which this happens in the middle of the transfer."""
    place.programs.before = slowly
    outcome = place.run(report=in_transfer(act)).outcome
    place.programs.before = lambda program: program
    return outcome


def cancel(place: Place) -> Callable[[], None]:
    return lambda: place.stop.set(Outcome.CANCELLED, "the user said so")


def pull(place: Place) -> Callable[[], None]:
    def act() -> None:
        assert place.drive is not None
        place.drive.reason = "The drive was unmounted."
        place.stop.set(Outcome.INTERRUPTED, "the drive was pulled")

    return act


def kill(place: Place, pids: list[int]) -> Callable[[], None]:
    return lambda: os.kill(pids[-1], signal.SIGKILL)


def test_a_cancelled_run_keeps_what_was_copied_for_the_next(place: Place) -> None:
    assert interrupted(place, cancel(place)) is Outcome.CANCELLED
    (stage,) = place.stages()
    assert stage.endswith(".synced")
    assert place.snapshots() == []
    kept = next((place.job_folder / stage).rglob("small 0")).stat().st_ino

    result = place.run()

    assert (result.outcome, result.notes) == GOOD
    assert everything(place.stored()) == everything(place.source)
    assert (place.stored() / "a/small 0").stat().st_ino == kept, "linked, not copied again"
    assert place.stages() == []


@pytest.mark.root
def test_on_a_drive_that_is_full_of_it_nothing_is_kept(tmp_path: Path) -> None:
    """No run could begin there any more, and nobody would know what to delete."""
    if reason := loop_drive.missing():
        pytest.skip(reason)
    drive = LoopDrive(tmp_path, name="promises")
    try:
        place = Place(tmp_path / "place", drive.mount(options="rw,loop"))
        (place.source / "file").write_bytes(os.urandom(5000))
        (drive.mount_point / "filler").write_bytes(bytes(40 << 20))

        def cancel(progress: Progress) -> None:
            if progress.phase is Phase.SYNC:
                place.stop.set(Outcome.CANCELLED, "cancelled by you")

        assert place.run(report=cancel).outcome is Outcome.CANCELLED
        assert place.stages() == []
    finally:
        drive.close()


class Slow(Writes):
    """A drive that would take longer to sync than there is time."""

    def sync(self, fd: int) -> None:
        raise AssertionError("nobody has the time")


@pytest.mark.root
def test_a_full_drive_is_cleared_without_a_sync_first(tmp_path: Path) -> None:
    """It may take minutes to write what is removed then, and there are seconds."""
    if reason := loop_drive.missing():
        pytest.skip(reason)
    drive = LoopDrive(tmp_path, name="promises")
    try:
        place = Place(tmp_path / "place", drive.mount(options="rw,loop"))
        (drive.mount_point / "filler").write_bytes(bytes(40 << 20))
        (place.folder / "home").mkdir()
        with place.opened() as target, closing(open_folder(target.fd, "home")) as job:
            work = Work(place.request(target, place.progress.append), job, TIME, Scan((), RULES), Slow())
            layout.make_stage(job, TIME)
            asyncio.run(Rsync().set_aside(work))
        assert place.stages() == []
    finally:
        drive.close()


def test_what_was_kept_is_used_beside_the_last_snapshot(place: Place) -> None:
    place.run()
    (place.source / "a/small new").write_text("new" * 6000)
    (place.source / "z/large").write_bytes(os.urandom(4_000_000))
    old = everything(place.stored())
    assert interrupted(place, cancel(place)) is Outcome.CANCELLED
    kept = next((place.job_folder / place.stages()[0]).rglob("small new")).stat().st_ino
    (place.source / "a/small new").chmod(0o640)
    (place.source / "a/small 1").chmod(0o640)

    assert place.run().outcome is Outcome.SUCCESS

    assert everything(place.stored()) == everything(place.source)
    assert everything(place.stored(0)) == old
    assert (place.stored() / "a/small new").stat().st_ino != kept
    assert place.stages() == []


def test_cancelled_twice_nothing_of_the_first_time_is_lost(place: Place) -> None:
    assert interrupted(place, cancel(place)) is Outcome.CANCELLED
    assert place.run(report=at(Phase.TRANSFER, cancel(place))).outcome is Outcome.CANCELLED
    assert len(place.stages()) == 2
    kept = next((place.job_folder / place.stages()[0]).rglob("small 0")).stat().st_ino
    place.run()
    assert (place.stored() / "a/small 0").stat().st_ino == kept
    assert place.stages() == []


@pytest.mark.parametrize("phase", [Phase.STAGE, Phase.TRANSFER, Phase.SYNC, Phase.PUBLISH])
@pytest.mark.parametrize("end", [cancel, pull])
def test_an_end_at_the_beginning_of_any_phase_publishes_nothing(place: Place, phase: Phase, end) -> None:
    place.run()
    before = everything(place.stored())
    place.clock.wall += 1
    result = place.run(report=at(phase, end(place)))
    assert result.outcome in (Outcome.CANCELLED, Outcome.INTERRUPTED)
    assert len(place.snapshots()) == 1
    assert place.run().outcome is Outcome.SUCCESS
    assert len(place.snapshots()) == 2
    assert everything(place.stored(0)) == before
    assert everything(place.stored(1)) == everything(place.source)
    assert place.stages() == []


def test_a_pulled_drive_leaves_an_unproven_stage(place: Place) -> None:
    assert interrupted(place, pull(place)) is Outcome.INTERRUPTED
    (stage,) = place.stages()
    assert not stage.endswith(".synced")


def zero(stage: Path) -> None:
    """What a power cut may leave of what was just written: names, sizes and times, without the data."""
    written = [(path, path.stat()) for path in stage.rglob("small *") if path.stat().st_nlink == 1]
    assert written
    for path, found in written:
        path.write_bytes(b"\0" * found.st_size)
        os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))


def test_an_unproven_stage_without_a_snapshot_is_compared_by_content(place: Place) -> None:
    interrupted(place, pull(place))
    stage = place.job_folder / place.stages()[0]
    whole = next(stage.rglob("small 0")).stat().st_ino
    assert place.run().outcome is Outcome.SUCCESS
    assert (place.stored() / "a/small 0").stat().st_ino == whole
    assert any("by content" in line for line in place.log)


def test_zeros_of_the_right_size_and_time_are_never_published(place: Place) -> None:
    interrupted(place, pull(place))
    zero(place.job_folder / place.stages()[0])
    assert place.run().outcome is Outcome.SUCCESS
    assert everything(place.stored()) == everything(place.source)


def test_an_unproven_stage_beside_a_snapshot_is_thrown_away(place: Place) -> None:
    place.run()
    (place.source / "a/small new").write_bytes(os.urandom(20_000))
    (place.source / "z/large").write_bytes(os.urandom(4_000_000))
    interrupted(place, pull(place))
    zero(place.job_folder / place.stages()[0])
    result = place.run(report=at(Phase.TRANSFER, cancel(place)))
    assert result.outcome is Outcome.CANCELLED
    assert [stage for stage in place.stages() if not stage.endswith(".synced")] == []
    place.run()
    assert everything(place.stored()) == everything(place.source)


def test_a_killed_rsync_is_a_failure_that_the_next_run_mends(place: Place) -> None:
    place.run()
    (place.source / "z/large").write_bytes(os.urandom(4_000_000))
    pids: list[int] = []
    place.programs.before = slowly
    result = place.run(
        report=in_transfer(lambda: os.kill(pids[-1], signal.SIGKILL)),
        on_start=lambda pid, ticks: pids.append(pid),
    )
    assert result.outcome is Outcome.FAILED
    assert "rsync was killed by SIGKILL" in result.message
    assert result.hint == UNTOUCHED
    place.programs.before = lambda program: program
    assert place.run().outcome is Outcome.SUCCESS
    assert everything(place.stored()) == everything(place.source)


def test_a_drive_that_turns_out_to_be_gone_makes_a_failure_an_interruption(place: Place) -> None:
    def act() -> None:
        assert place.drive is not None
        place.drive.reason = "The drive was unmounted."
        os.kill(pids[-1], signal.SIGKILL)

    pids: list[int] = []
    place.programs.before = slowly
    result = place.run(report=in_transfer(act), on_start=lambda pid, ticks: pids.append(pid))
    assert (result.outcome, result.message) == (Outcome.INTERRUPTED, "The drive was unmounted.")


def test_a_failure_waits_for_the_news_that_the_drive_was_pulled(place: Place) -> None:
    def act() -> None:
        os.kill(pids[-1], signal.SIGKILL)
        place.stop.set(Outcome.INTERRUPTED, "the drive was pulled")

    pids: list[int] = []
    place.programs.before = slowly
    result = place.run(report=in_transfer(act), on_start=lambda pid, ticks: pids.append(pid))
    assert (result.outcome, result.message) == (Outcome.INTERRUPTED, "the drive was pulled")


def test_a_tree_that_was_being_removed_is_removed_by_the_next_run(place: Place) -> None:
    place.run()
    left = place.job_folder / "incomplete-2020-01-01T000000Z.removed"
    (left / "d").mkdir(parents=True)
    (left / "d/f").touch()
    place.run()
    assert place.stages() == []


def test_a_missing_rsync_is_told_with_what_to_install(place: Place) -> None:
    place.programs.before = lambda program: replace(program, argv=(b"rsync-is-not-here", *program.argv[1:]))
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert "is not installed" in result.message
    assert result.hint == "install the package rsync"
    assert place.snapshots() == []
