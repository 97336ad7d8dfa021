"""The work of the agent where none runs: the same tree, for as long as one command needs it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.agent.played import Play, PlayedPrograms, a_job
from usbbackup.agent import once
from usbbackup.config import DriveConfig
from usbbackup.outcome import Stop
from usbbackup.programs import Ended, Program

WISH = {"jobs": [], "drive": None, "accept_source": False, "dry_run": False}


class Prompt(PlayedPrograms):
    """Programs that end at once."""

    def __init__(self, *failing: str) -> None:
        super().__init__()
        self._failing = failing

    async def run(
        self,
        program: Program,
        *,
        stop: Stop,
        on_stdout: Callable[[bytes], None] | None = None,
        on_stderr: object = None,
        on_start: Callable[[int, int], None] | None = None,
    ) -> Ended:
        return Ended(1 if program.env["USBBACKUP_JOB"] in self._failing else 0)


def done(play: Play, *failing: str, **wish: object) -> list[str]:
    """Does all jobs on the drive that is there; what is said of it afterwards."""
    play.a_drive().plug()
    world = replace(play.world, programs=Prompt(*failing))
    events: list[object] = []
    told = once.runs(world, {**WISH, **wish}, events.append)
    assert events
    return told


def play(directory: Path, after: str) -> Play:
    drives = (DriveConfig(name="backup", label="backup", after=after),)  # type: ignore[arg-type]
    return Play(directory, a_job("one"), a_job("two"), drives=drives)


@pytest.mark.parametrize(
    ("after", "asked", "told"),
    [
        ("keep", [], []),
        ("unmount", ["unmount"], ["drive 'backup': It is unmounted and safe to unplug."]),
        (
            "power-off",
            ["unmount", "power off"],
            ["drive 'backup': It is switched off and safe to unplug."],
        ),
    ],
)
def test_a_drive_is_let_go_of_as_its_configuration_says(
    tmp_path: Path, after: str, asked: list[str], told: list[str]
) -> None:
    stage = play(tmp_path, after)
    assert done(stage) == told
    assert stage.disks.asked == asked


def test_a_drive_that_a_program_holds_stays_and_that_is_said_once(tmp_path: Path) -> None:
    stage = play(tmp_path, "unmount")
    stage.disks.held = True
    (sentence,) = done(stage)
    assert sentence.startswith("drive 'backup': ")
    assert "safe to unplug" not in sentence
    assert stage.disks.asked == ["unmount"]


def test_a_drive_stays_where_a_job_has_failed_and_where_nothing_was_to_be_written(tmp_path: Path) -> None:
    stage = play(tmp_path, "unmount")
    assert done(stage, "two") == []
    assert stage.disks.asked == []


def test_a_drive_stays_after_a_dry_run(tmp_path: Path) -> None:
    stage = play(tmp_path, "unmount")
    assert done(stage, dry_run=True) == []
    assert stage.disks.asked == []
