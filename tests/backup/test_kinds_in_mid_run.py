"""A file that becomes something else after it was listed, and before it is read."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from runs import ROOT, Clock, Place

from usbbackup.clock import Timer
from usbbackup.outcome import Outcome, Result
from usbbackup.programs import Program

needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
needs_borg = pytest.mark.skipif(shutil.which("borg") is None, reason="borg is not installed")


class Soon(Clock):
    """Half a minute is over at once."""

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return super().later(0.5 if seconds == 30.0 else seconds, callback)


def swapped(tmp_path: Path, become: Callable[[Path], None]) -> tuple[Place, Result]:
    """A run of rsync in which the second file becomes something else while the first is copied."""
    place = Place(tmp_path, clock=Soon())
    place.programs._clock = place.clock
    (place.source / "1").write_bytes(os.urandom(1 << 20))
    (place.source / "2").write_text("two")

    def act() -> None:
        while not list(place.job_folder.glob("incomplete-*/**/.1.*")):
            pass
        (place.source / "2").unlink()
        become(place.source / "2")

    thread = Thread(target=act, daemon=True)

    def slowly(program: Program) -> Program:
        if not thread.ident:
            thread.start()
        return replace(program, argv=(program.argv[0], b"--bwlimit=1000", *program.argv[1:]))

    place.programs.before = slowly
    result = place.run()
    thread.join()
    place.programs.before = lambda program: program
    return place, result


@needs_rsync
def test_rsync_is_not_left_waiting_for_a_pipe(tmp_path: Path) -> None:
    place, result = swapped(tmp_path, os.mkfifo)
    assert result.outcome is Outcome.FAILED
    assert "became a pipe" in result.message
    assert place.snapshots() == []
    assert place.run().outcome is Outcome.SUCCESS
    assert (place.stored() / "2").is_fifo()


@needs_rsync
@pytest.mark.skipif(not ROOT, reason="only root can make devices")
def test_a_device_ends_rsync_and_is_named_as_that(tmp_path: Path) -> None:
    place, result = swapped(tmp_path, lambda path: os.mknod(path, 0o020600, os.makedev(1, 3)))
    assert result.outcome is Outcome.FAILED
    assert "became a device" in result.message
    assert place.snapshots() == []
    assert place.run().outcome is Outcome.SUCCESS
    assert (place.stored() / "2").is_char_device()


@needs_borg
def test_a_borg_that_waits_for_a_pipe_is_stopped_and_that_is_said(tmp_path: Path) -> None:
    """Its moment is too short to be met, so another program does the waiting."""
    place = Place(tmp_path, clock=Soon())
    place.programs._clock = place.clock
    place.job = place.with_job(engine="borg", encryption="none")
    (place.source / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")

    def wait(program: Program) -> Program:
        return replace(program, argv=("cat", str(tmp_path / "pipe"))) if "create" in program.argv else program

    place.programs.before = wait
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert "became a pipe" in result.message
    place.programs.before = lambda program: program
    assert place.run().outcome is Outcome.SUCCESS
