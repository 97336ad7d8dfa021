"""`setup` and `uninstall` where no service manager runs: questions at a terminal, options without one."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from usbbackup.config import load

REPOSITORY = Path(__file__).parent.parent.parent
LABEL = "no-drive-has-this-label"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and nobody's service manager."""
    (tmp_path / "home/.cache").mkdir(parents=True)
    (tmp_path / "home/.cache/x").write_bytes(bytes(50_000))
    (tmp_path / "run").mkdir(mode=0o700)
    return {
        "HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(REPOSITORY),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
    }


def usbbackup(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "usbbackup", *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def at_a_terminal(
    env: dict[str, str], arguments: list[str], answers: list[tuple[str, str]]
) -> tuple[int, str]:
    """Run it at a terminal of its own and answer each question as it comes: exit code, and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "usbbackup", *arguments]
        os.execve(sys.executable, command, env)  # noqa: S606 - no shell is wanted
    shown, answered = "", 0
    todo = list(answers)
    while select.select([terminal], [], [], 60)[0]:
        try:
            shown += os.read(terminal, 4096).decode()
        except OSError:  # it has ended
            break
        if todo and re.search(f"(?s){todo[0][0]}.*: $", shown[answered:]):  # a long one takes several lines
            os.write(terminal, todo.pop(0)[1].encode() + b"\n")
            answered = len(shown)
    os.close(terminal)
    assert not todo, f"not asked: {todo}; shown: {shown}"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def config(env: dict[str, str]):  # type: ignore[no-untyped-def]
    home = Path(env["HOME"])
    return load(home / ".config/usbbackup/config.yaml", home)


def test_without_a_terminal_it_asks_nothing_and_says_so(env: dict[str, str]) -> None:
    done = usbbackup(env, "setup")
    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert not Path(env["HOME"], ".config").exists()


def test_a_conversation(env: dict[str, str]) -> None:
    """Every default but the label and what is left out."""
    code, shown = at_a_terminal(
        env,
        ["setup"],
        [
            ("Which drive holds the backups", LABEL),
            ("What makes the backup", ""),
            ("What is backed up", ""),
            ("What of it is left out", "caches downloads"),
            ("How often", "12h"),
        ],
    )
    assert code == 0, shown
    assert "caches: " in shown  # with its size
    assert "now plug in a drive: that is the backup" in shown
    read = config(env)
    assert [drive.label for drive in read.drives] == [LABEL]
    (job,) = read.jobs
    assert (job.engine, job.sources, job.every) == ("rsync", (env["HOME"],), 12 * 3600)
    assert job.exclude_presets == ("caches", "downloads")


def test_whoever_ends_the_conversation_has_answered_nothing(env: dict[str, str]) -> None:
    end_of_input = "\x04"
    code, shown = at_a_terminal(env, ["setup"], [("Which drive", LABEL), ("What makes", end_of_input)])
    assert code == 1
    assert "there was no answer" in shown
    assert not Path(env["HOME"], ".config").exists()


def test_a_passphrase_is_typed_twice_and_not_shown(env: dict[str, str]) -> None:
    arguments = [
        "setup",
        "--engine",
        "borg",
        "--label",
        LABEL,
        "--source",
        env["HOME"],
        "--passphrase-in",
        "file",
    ]
    answers = [
        ("A passphrase", "sesame-1"),
        ("The same again", "sesame-2"),
        ("A passphrase", "sesame-1"),
        ("The same again", "sesame-1"),
    ]
    code, shown = at_a_terminal(env, arguments, answers)
    assert code == 0, shown
    assert "These two differ." in shown
    assert "sesame" not in shown
    assert subprocess.check_output(config(env).jobs[0].passcommand) == b"sesame-1\n"


def test_a_configuration_is_never_overwritten_without_its_difference_and_a_word(env: dict[str, str]) -> None:
    assert usbbackup(env, "setup", "--yes", "--label", LABEL).returncode == 0
    before = Path(env["HOME"], ".config/usbbackup/config.yaml").read_text()
    arguments = ["setup", "--engine", "rsync", "--label", LABEL, "--source", "/etc", "--every", "1d"]
    code, shown = at_a_terminal(env, arguments, [("Write this over", "n")])
    assert code == 1
    assert re.search(r"^\+ +sources: \[/etc\]", shown, re.MULTILINE)
    assert Path(env["HOME"], ".config/usbbackup/config.yaml").read_text() == before
    code, shown = at_a_terminal(env, arguments, [("Write this over", "y")])
    assert code == 0, shown
    assert config(env).jobs[0].sources == ("/etc",)
    assert Path(env["HOME"], ".config/usbbackup/config.yaml.old1").read_text() == before


def test_what_is_wrong_is_said_before_anything_is_written(env: dict[str, str]) -> None:
    script = Path(env["HOME"], "script")
    script.touch(mode=0o644)
    for arguments, said in (
        (["--command", str(script)], "is not executable"),
        (["--command", "/nonexistent"], "there is no file"),
        (["--engine", "command"], "no program was named"),
        (["--every", "daily"], "expected a duration"),
        (["--job", "Home"], "a job's name has"),
        (["--drive", "nothing-like-it"], "There is no drive"),
    ):
        done = usbbackup(env, "setup", "--yes", *arguments)
        assert (done.returncode, said in done.stderr) == (2, True), (arguments, done.stderr)
    assert not Path(env["HOME"], ".config").exists()
    assert not Path(env["HOME"], ".local").exists()


def test_uninstalling_keeps_what_is_the_users_and_purging_does_not(env: dict[str, str]) -> None:
    assert usbbackup(env, "setup", "--yes", "--label", LABEL).returncode == 0
    done = usbbackup(env, "uninstall")
    assert done.returncode == 0
    assert "kept, your configuration" in done.stdout
    assert config(env).jobs
    assert not Path(env["HOME"], ".config/systemd").exists()
    assert usbbackup(env, "uninstall", "--purge").returncode == 0
    assert not Path(env["HOME"], ".config").exists()
    assert "there is nothing to take away" in usbbackup(env, "uninstall", "--purge").stdout


def test_the_doctor_says_what_is_missing_and_exits_with_1(env: dict[str, str]) -> None:
    done = usbbackup(env, "doctor", "--json")
    assert done.returncode == 1
    found = {one["check"]: one for one in json.loads(done.stdout)}
    assert found["configuration"]["command"] == "usbbackup setup"
    assert found["service"]["state"] == "wrong"
