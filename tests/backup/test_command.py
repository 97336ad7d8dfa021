"""The command engine: the user's own script."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from usbbackup.backup import command
from usbbackup.backup.engine import Over, Request
from usbbackup.clock import SystemClock
from usbbackup.config import JobConfig
from usbbackup.errors import UsbbackupError
from usbbackup.outcome import Outcome, Phase, Progress, Result, Stop
from usbbackup.paths import Paths
from usbbackup.programs import SystemPrograms
from usbbackup.target import DriveFacts


@dataclass
class Drive:
    """A directory as a drive, there for as long as `reason` is None."""

    fd: int
    facts: DriveFacts
    reason: str | None = None

    def still_there(self) -> str | None:
        return self.reason


@dataclass
class Bench:
    """A drive, and runs of commands on it."""

    top: Path
    drive: Drive
    log: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)

    def request(self, script: str, **changes: object) -> Request:
        request = Request(
            job=JobConfig(name="script", engine="command", command=("sh", "-c", script)),
            target=self.drive,
            run="42",
            programs=SystemPrograms(SystemClock(), {"PATH": os.environ["PATH"], "LANG": "de_DE.UTF-8"}),
            clock=SystemClock(),
            paths=Paths.of({"HOME": str(self.top)}),
            stop=Stop(),
            report=self.progress.append,
            log=self.log.append,
        )
        return replace(request, **changes)

    def run(self, script: str, **changes: object) -> Result:
        return asyncio.run(command.run(self.request(script, **changes)))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    mount = tmp_path / "mount"
    (mount / "usbbackup").mkdir(parents=True)
    fd = os.open(mount / "usbbackup", os.O_RDONLY)
    facts = DriveFacts("stick", "0000-UUID", "my 'label'\n", "/dev/sdx1", mount, "ext4")
    yield Bench(tmp_path, Drive(fd, facts))
    os.close(fd)


def test_a_script_is_told_of_the_drive_and_runs_in_its_top_directory(bench):
    result = bench.run("env | grep -E '^(USBBACKUP_|LANG)' | sort; pwd")
    assert result == Result(Outcome.SUCCESS, "the command ended well")
    mount = str(bench.top / "mount")
    assert bench.log == [
        "LANG=de_DE.UTF-8",
        "USBBACKUP_DEVNODE=/dev/sdx1",
        "USBBACKUP_JOB=script",
        "USBBACKUP_LABEL=my 'label'",
        f"USBBACKUP_MOUNT={mount}",
        "USBBACKUP_RUN=42",
        "USBBACKUP_UUID=0000-UUID",
        mount,
    ]


def test_nothing_stands_between_a_script_and_a_login_shell(bench):
    script = f"umask; grep NoNewPrivs /proc/self/status; nice; echo elsewhere > {bench.top}/anywhere"
    assert bench.run(script).outcome is Outcome.SUCCESS
    assert [line.split() for line in bench.log] == [["0022"], ["NoNewPrivs:", "0"], [bench.log[2]]]
    assert int(bench.log[2]) == os.getpriority(os.PRIO_PROCESS, 0)
    assert (bench.top / "anywhere").exists()


def test_what_a_script_writes_is_synced_before_it_counts(bench):
    bench.run("true")
    assert [progress.phase for progress in bench.progress] == [Phase.TRANSFER, Phase.SYNC]


@pytest.mark.parametrize(
    ("script", "outcome", "message"),
    [
        ("exit 75", Outcome.SKIPPED, "the command says: not now"),
        ("echo 'on the train' >&2; exit 75", Outcome.SKIPPED, "the command says: not now: on the train"),
        ("exit 1", Outcome.FAILED, "the command ended with exit code 1"),
        (
            "echo first >&2; printf 'disk\\033 broke\\n' >&2; echo out; exit 7",
            Outcome.FAILED,
            "the command ended with exit code 7: disk\\x1b broke",
        ),
        ("kill -9 $$", Outcome.FAILED, "the command was killed by SIGKILL"),
    ],
)
def test_the_exit_code_is_the_outcome(bench, script, outcome, message):
    result = bench.run(script)
    assert (result.outcome, result.message) == (outcome, message)


def test_output_goes_to_the_log_of_the_run_made_safe(bench):
    bench.run("printf 'a\\033[31m\\nb'; printf 'c\\n' >&2")
    assert sorted(bench.log) == ["a\\x1b[31m", "b", "c"]


def test_a_stop_is_the_result(bench):
    stop = Stop()
    log: Callable[[str], None] = lambda _: stop.set(Outcome.CANCELLED, "you said so")  # noqa: E731 - short
    result = bench.run("echo ready; sleep 1000 & wait", stop=stop, log=log)
    assert result == Result(Outcome.CANCELLED, "you said so")


def test_a_drive_that_is_gone_before_gets_no_script_and_one_that_is_gone_after_no_success(bench):
    log: Callable[[str], None] = lambda _: setattr(bench.drive, "reason", "it was pulled")  # noqa: E731 - short
    with pytest.raises(Over) as after:
        bench.run("echo ready", log=log)
    assert after.value.result.outcome is Outcome.INTERRUPTED
    with pytest.raises(Over):
        bench.run(f"touch {bench.top}/ran")
    assert not (bench.top / "ran").exists()


def test_another_drive_on_the_mount_point_gets_no_script(bench):
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    subprocess.run(["mount", "-t", "tmpfs", "other", bench.drive.facts.mount_point], check=True)
    try:
        with pytest.raises(Over, match="another drive is mounted"):
            bench.run(f"touch {bench.top}/ran")
    finally:
        subprocess.run(["umount", bench.drive.facts.mount_point], check=True)
    assert not (bench.top / "ran").exists()


def test_a_missing_script_is_named(bench):
    job = JobConfig(name="script", engine="command", command=("/nowhere/script.sh",))
    with pytest.raises(UsbbackupError, match=r"'/nowhere/script\.sh' is missing or not executable"):
        bench.run("", job=job)


def test_a_rehearsal_runs_nothing(bench):
    assert bench.run(f"touch {bench.top}/ran", dry_run=True).outcome is Outcome.SUCCESS
    assert not (bench.top / "ran").exists()
