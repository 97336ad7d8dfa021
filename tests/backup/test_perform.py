"""One whole run: hooks around it, and what its early ends mean."""

import asyncio
import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from runs import ROOT, Place, everything

from usbbackup.backup import snapshots
from usbbackup.backup.engine import Over, unless
from usbbackup.config import Verify
from usbbackup.outcome import Outcome, Phase, Progress, Stop
from usbbackup.programs import Program

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    (made.source / "f").write_text("x")
    return made


def test_hooks_run_around_the_engine_and_after_hears_the_outcome(place: Place) -> None:
    log = place.top / "hooks"
    place.job = place.with_job(
        before=(("sh", "-c", f"echo before >> {log}"),),
        after=(("sh", "-c", f"echo after $USBBACKUP_OUTCOME >> {log}"),),
    )
    assert place.run().outcome is Outcome.SUCCESS
    assert log.read_text() == "before\nafter success\n"
    place.job = place.with_job(before=(("sh", "-c", "exit 75"),))
    assert place.run().outcome is Outcome.SKIPPED
    assert log.read_text().endswith("after skipped\n")
    assert len(place.snapshots()) == 1


def test_a_before_hook_may_be_what_brings_the_source(place: Place) -> None:
    later = place.top / "later"
    place.job = place.with_job(
        sources=(str(later),), before=(("sh", "-c", f"mkdir -p {later}; echo x > {later}/f"),)
    )
    assert place.run().outcome is Outcome.SUCCESS


def test_a_drive_that_is_gone_gets_nothing(place: Place) -> None:
    def report(progress: Progress) -> None:
        assert place.drive is not None
        place.drive.reason = "The drive was unmounted."

    result = place.run(report=report)
    assert (result.outcome, result.message) == (Outcome.INTERRUPTED, "The drive was unmounted.")
    assert list(place.folder.iterdir()) == []


def test_a_snapshot_on_a_drive_that_left_while_it_was_published_is_no_success(place: Place) -> None:
    looks = 0

    def still_there() -> str | None:
        nonlocal looks
        looks += 1
        return "The drive was unmounted." if place.snapshots() else None

    def report(progress: Progress) -> None:
        assert place.drive is not None
        place.drive.still_there = still_there  # type: ignore[method-assign] # this drive says it that way

    assert place.run(report=report).outcome is Outcome.INTERRUPTED
    assert looks > 5


def test_what_an_engine_could_not_read_counts_like_what_the_walk_could_not(place: Place) -> None:
    for number in range(10):
        (place.source / f"{number}").touch()
    place.programs.before = losing_a_file(place.source / "3")
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert "1 of the 12 entries" in result.message
    assert place.snapshots() == []
    for number in range(90):
        (place.source / f"more {number}").touch()
    result = place.run()
    assert result.outcome is Outcome.WARNING
    assert len(place.snapshots()) == 1


def losing_a_file(path: Path) -> Callable[[Program], Program]:
    """The real rsync, which complains of a file besides."""
    line = f'rsync: [sender] send_files failed to open "{path}": Permission denied (13)'
    script = f"rsync \"$@\"; echo '{line}' >&2; exit 23"
    return lambda program: replace(program, argv=("sh", "-c", script, *program.argv))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "does not let itself be written to any more"),
        (errno.EIO, "does not work: Input/output error"),
        (errno.ENOSPC, "is full"),
    ],
)
def test_errors_of_the_drive_are_told_in_a_sentence(place: Place, number: int, words: str) -> None:
    def report(progress: Progress) -> None:
        if progress.phase is Phase.SYNC:
            raise OSError(number, os.strerror(number))

    result = place.run(report=report)
    assert result.outcome is Outcome.FAILED
    assert "'stick'" in result.message
    assert words in result.message
    assert place.stages()[0].endswith(".synced"), "what was copied is kept"


@pytest.mark.parametrize(
    ("number", "pulled", "outcome"),
    [
        (errno.EIO, False, Outcome.WARNING),
        (errno.EIO, True, Outcome.SUCCESS),
        (errno.ENOSPC, False, Outcome.SUCCESS),
    ],
    ids=["it cannot be read", "it was pulled", "it is full"],
)
def test_a_drive_that_cannot_be_read_while_its_files_are_proven_is_told_of(
    place: Place, number: int, pulled: bool, outcome: Outcome
) -> None:
    """A pulled one cannot either: that says nothing of the snapshot."""
    place.job = place.with_job(verify=Verify(every=1.0, sample=1))

    def report(progress: Progress) -> None:
        if progress.phase is Phase.VERIFY and place.drive is not None:
            place.drive.reason = "The drive was unmounted." if pulled else None
            raise OSError(number, os.strerror(number))

    result = place.run(report=report)
    assert result.outcome is outcome
    assert ("the drive could not be read: Input/output error" in result.notes) == (outcome is Outcome.WARNING)
    assert len(place.snapshots()) == 1


def test_waiting_ends_with_the_wish_to_stop() -> None:
    async def main() -> None:
        stop = Stop()
        asyncio.get_running_loop().call_soon(stop.set, Outcome.CANCELLED, "the user said so")
        with pytest.raises(Over) as over:
            await unless(stop, asyncio.Event().wait())
        assert over.value.result.outcome is Outcome.CANCELLED

    asyncio.run(main())


def test_waiting_for_something_quick_is_not_disturbed() -> None:
    async def main() -> int:
        async def quick() -> int:
            return 7

        return await unless(Stop(), quick())

    assert asyncio.run(main()) == 7


def test_a_cancelled_task_stays_cancelled() -> None:
    async def main() -> None:
        stop = Stop()
        task = asyncio.create_task(unless(stop, asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        stop.set(Outcome.CANCELLED, "meanwhile")
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A drive of 16 MB with room for few files."""
    image, mount = tmp_path / "image", tmp_path / "mounted"
    mount.mkdir()
    subprocess.run(["truncate", "-s", "16M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-N", "128", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


on_a_real_drive = pytest.mark.skipif(not ROOT, reason="mounting needs root")


def left_behind(place: Place) -> None:
    """Leave a stage as an interrupted run does: with it nobody can know how much room a run will take."""
    stage = place.job_folder / "incomplete-2026-11-25T101500Z.synced"
    (stage / str(place.source).lstrip("/")).mkdir(parents=True)


@pytest.mark.root
@on_a_real_drive
def test_a_full_drive_says_so_and_is_gone_on_with_when_there_is_room(tmp_path: Path, small: Path) -> None:
    place = Place(tmp_path / "place", drive_top=small)
    (place.source / "a").write_bytes(os.urandom(6_000_000))
    (place.source / "b").write_bytes(os.urandom(6_000_000))
    blocker = small / "something else"
    blocker.write_bytes(bytes(6_000_000))
    left_behind(place)
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert "the drive 'stick' is full" in result.message
    assert place.snapshots() == []
    blocker.unlink()
    assert place.run().outcome is Outcome.SUCCESS
    assert everything(place.stored()) == everything(place.source)
    assert place.stages() == []


FILLED_BY_OTHERS = r"""
tail -c 0
echo "  6,000,000  20%  1.00MB/s  0:00:24 (xfr#1, to-chk=4/5)"
echo 'rsync: [receiver] write failed on "large": No space left on device (28)' >&2
exit 11
"""


@pytest.mark.root
@on_a_real_drive
def test_a_drive_that_others_fill_meanwhile_says_how_much_is_missing(tmp_path: Path, small: Path) -> None:
    """Of a first copy it can be known: rsync tells how much that is in all."""
    place = Place(tmp_path / "place", drive_top=small)
    (place.source / "large").touch()
    place.programs.before = lambda program: replace(program, argv=("sh", "-c", FILLED_BY_OTHERS))
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert re.fullmatch(r"the drive 'stick' is full; about [89]\.\d MB more are needed", result.message)


@pytest.mark.root
@on_a_real_drive
def test_a_drive_without_room_for_more_files_says_so(tmp_path: Path, small: Path) -> None:
    place = Place(tmp_path / "place", drive_top=small)
    for number in range(200):
        (place.source / f"{number}").touch()
    left_behind(place)
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert "has no room for more files" in result.message


@pytest.mark.root
@on_a_real_drive
def test_a_drive_that_became_read_only_fails_in_a_sentence(tmp_path: Path, small: Path) -> None:
    place = Place(tmp_path / "place", drive_top=small)
    (place.source / "f").touch()
    place.run()
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert "does not let itself be written to" in result.message


@pytest.mark.root
@on_a_real_drive
def test_a_drive_detached_while_rsync_writes_gets_nothing_elsewhere(tmp_path: Path, small: Path) -> None:
    place = Place(tmp_path / "place", drive_top=small)
    for number in range(20):
        (place.source / f"{number}").write_bytes(os.urandom(300_000))

    def detach(program: Program) -> Program:
        subprocess.run(["umount", "-l", small], check=True)
        place.programs.before = lambda program: program
        return program

    place.programs.before = detach
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert list(small.iterdir()) == [], "the bare mount point"
    assert list(Path("/").glob("incomplete-*")) == []
    subprocess.run(["mount", "-o", "loop", tmp_path / "image", small], check=True)


def test_snapshots_of_all_jobs_are_listed_and_nothing_incomplete(place: Place) -> None:
    for _ in range(2):
        place.run()
    (place.job_folder / "incomplete-2026-01-01T000000Z").mkdir()
    place.job = place.with_job(name="other")
    place.run()
    (place.folder / "Not a job").mkdir()
    (place.folder / "stray").touch()
    with place.opened() as drive:
        reader = snapshots.Reader({}, place.programs, None, place.clock)  # type: ignore[arg-type] # no borg here
        found = asyncio.run(snapshots.on(drive, reader))
    assert [each.job for each in found.snapshots] == ["home", "home", "other"]
    assert all(Path(each.path or "").is_dir() for each in found.snapshots)
    assert list(found.troubles) == ["job 'stray': 'stray' on the drive is a file, not a folder of usbbackup."]
