"""Programs of the user's before and after a job."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from usbbackup.backup import hooks
from usbbackup.backup.engine import Request
from usbbackup.clock import SystemClock, Timer
from usbbackup.config import JobConfig
from usbbackup.outcome import Outcome, Result, Stop
from usbbackup.paths import Paths
from usbbackup.programs import SystemPrograms
from usbbackup.target import DriveFacts

GOOD = Result(Outcome.SUCCESS, "3 files backed up")


class SwiftClock(SystemClock):
    """Seconds of waiting are hundredths."""

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return super().later(seconds / 100, callback)


class Drive:
    facts = DriveFacts("stick", "0000", "backup", "/dev/sdx1", Path("/nowhere"), "ext4")
    fd = -1

    def still_there(self) -> str | None:
        return "it was pulled"


@dataclass
class Bench:
    """Hooks as shell scripts."""

    home: Path
    stop: Stop = field(default_factory=Stop)
    log: list[str] = field(default_factory=list)
    hear: Callable[[str], None] = lambda line: None

    def request(self, before: tuple[str, ...], after: tuple[str, ...], dry_run: bool) -> Request:
        return Request(
            job=JobConfig(
                name="home",
                engine="rsync",
                before=tuple(("sh", "-c", script) for script in before),
                after=tuple(("sh", "-c", script) for script in after),
            ),
            target=Drive(),
            run="42",
            programs=SystemPrograms(SwiftClock(), os.environ),
            clock=SwiftClock(),
            paths=Paths.of({"HOME": str(self.home)}),
            stop=self.stop,
            report=lambda _: None,
            log=self._line,
            dry_run=dry_run,
        )

    def _line(self, line: str) -> None:
        self.log.append(line)
        self.hear(line)

    def before(self, *scripts: str, dry_run: bool = False) -> Result | None:
        return asyncio.run(hooks.before(self.request(scripts, (), dry_run)))

    def after(self, result: Result, *scripts: str, dry_run: bool = False) -> Result:
        return asyncio.run(hooks.after(self.request((), scripts, dry_run), result))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_without_programs_nothing_changes(bench):
    assert bench.before() is None
    assert bench.after(GOOD) is GOOD


def test_before_runs_in_order_in_the_home_directory_and_lets_the_job_run(bench):
    assert bench.before('echo one "$USBBACKUP_JOB"', "pwd") is None
    assert bench.log == ["one home", str(bench.home)]


@pytest.mark.parametrize(
    ("script", "outcome", "message"),
    [
        ("exit 75", Outcome.SKIPPED, "the before program 'sh' says: not now"),
        ("echo no >&2; exit 1", Outcome.FAILED, "the before program 'sh' ended with exit code 1: no"),
    ],
)
def test_the_first_before_that_says_no_is_the_end(bench, script, outcome, message):
    result = bench.before("true", script, "echo not run")
    assert result is not None
    assert (result.outcome, result.message) == (outcome, message)
    assert "not run" not in bench.log


def test_a_stop_during_before_is_the_result(bench):
    bench.hear = lambda _: bench.stop.set(Outcome.CANCELLED, "you said so")
    assert bench.before("echo ready; sleep 1000 & wait") == Result(Outcome.CANCELLED, "you said so")


def test_after_is_told_the_outcome_and_changes_nothing_where_it_ends_well(bench):
    assert bench.after(GOOD, 'echo "$USBBACKUP_OUTCOME"', "echo two") == GOOD
    assert bench.log == ["success", "two"]


def test_an_after_that_fails_makes_a_success_a_warning_and_the_next_one_still_runs(bench):
    result = bench.after(GOOD, "echo no mail >&2; exit 1", 'echo "$USBBACKUP_OUTCOME"')
    trouble = "the after program 'sh' ended with exit code 1: no mail"
    assert result == Result(Outcome.WARNING, f"3 files backed up; {trouble}", notes=(trouble,))
    assert bench.log == ["no mail", "success"]


def test_an_after_that_fails_does_not_hide_why_the_run_failed(bench):
    result = bench.after(Result(Outcome.FAILED, "the drive is full"), "exit 1")
    assert (result.outcome, result.message) == (Outcome.FAILED, "the drive is full")
    assert result.notes == ("the after program 'sh' ended with exit code 1",)


def test_after_runs_also_when_the_run_was_stopped_but_not_for_ever(bench):
    bench.stop.set(Outcome.INTERRUPTED, "the agent was stopped")
    stopped = bench.stop.result()
    result = bench.after(stopped, 'echo "$USBBACKUP_OUTCOME"', "sleep 1000")
    assert bench.log == ["interrupted"]
    assert result.outcome is Outcome.INTERRUPTED
    assert result.notes == ("the after program 'sh' was killed by SIGINT",)


def test_a_missing_program_is_a_result(bench):
    request = bench.request((), (), dry_run=False)
    job = JobConfig(name="home", engine="rsync", before=(("nowhere-to-be-found",),))
    object.__setattr__(request, "job", job)
    result = asyncio.run(hooks.before(request))
    assert result is not None
    assert result.message == "before: the program 'nowhere-to-be-found' is not installed"


def test_a_rehearsal_runs_none_of_them(bench):
    assert bench.before("echo ran", dry_run=True) is None
    assert bench.after(GOOD, "echo ran", dry_run=True) is GOOD
    assert bench.log == []
