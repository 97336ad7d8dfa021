"""Every command, with an agent and without, as people and scripts use it."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.house import CONFIG, REPOSITORY, House
from usbbackup import __version__
from usbbackup.cli.main import COMMANDS, parse
from usbbackup.errors import MEANING, Exit

STATUS = {"agent", "drives", "jobs", "runs"}
AGENT = {"running", "pid", "version", "since"}
DRIVE = {
    *("name", "uuid", "label", "devnode", "mount_point", "state", "reason"),
    *("enrolled", "last_seen", "bytes_free", "bytes_total"),
}
JOB = {"name", "engine", "drives"}
JOB_DRIVE = {"uuid", "due", "next_due", "last_success", "last_outcome", "last_proven", "reason"}
RUN = {
    *("run", "job", "drive", "attachment", "outcome", "started", "finished"),
    *("bytes", "files", "snapshot", "message"),
}


def test_the_keys_of_status_are_those_that_scripts_rely_on(living: House) -> None:
    """Every field is always there, null where it is unknown."""
    living.say("plug")
    living.wait_for("refused")
    assert living("drives", "enrol")[0] == 0
    assert living("start", "hello", "--wait")[0] == 0
    status = living.json("status")
    assert set(status) == STATUS
    assert set(status["agent"]) == AGENT
    assert all(set(drive) == DRIVE for drive in status["drives"])
    assert all(set(job) == JOB for job in status["jobs"])
    assert all(set(on) == JOB_DRIVE for job in status["jobs"] for on in job["drives"])
    assert status["agent"]["running"] is True
    assert status["drives"][0]["enrolled"] is True
    assert all(set(run) == RUN for run in living.json("history"))


def test_from_enrolment_to_history(living: House) -> None:
    """What each command says on the way."""
    assert "No file system labelled 'backup' is plugged in" in living("status")[1]
    code, out, _ = living("start", "hello", "--json")
    assert code == Exit.NOT_NOW
    assert set(json.loads(out)["error"]) == {"code", "message", "hint"}
    living.say("plug")
    living.wait_for("refused")
    assert list(living.drive.iterdir()) == []
    assert living("start")[0] == Exit.NOT_ALLOWED
    assert "may hold your backups" in living("drives", "enrol")[1]
    code, out, _ = living("start", "hello", "--wait")
    assert (code, "hello: success: " in out) == (0, True)
    (living.drive / "fail").touch()
    code, out, _ = living("start", "hello", "--wait")
    assert (code, "hello: failed: " in out) == (1, True)
    assert living("start", "later", "--wait")[0] == Exit.NOT_NOW
    runs = living.json("history", "--job", "hello")
    assert runs[0]["outcome"] == "failed"
    code, log, _ = living("history", runs[1]["run"])
    assert "hello" in log
    assert "already done" in living("why")[1] or "you asked for it" in living("why")[1]
    assert "nothing is running" in living("cancel")[1]
    assert living("snapshots")[0] == 0
    assert "is forgotten" in living("drives", "forget", "backup")[1]
    assert living.wait_for("refused")["enrolled"] is False


def test_unknown_names_end_with_2_and_the_nearest(living: House) -> None:
    """Jobs, drives and runs."""
    code, _, err = living("start", "helo")
    assert (code, "did you mean 'hello'?" in err) == (2, True)
    code, _, err = living("drives", "enrol", "bakup")
    assert (code, "did you mean 'backup'?" in err) == (2, True)
    code, _, err = living("history", "nothing")
    assert (code, "there is no run 'nothing'" in err) == (2, True)
    assert living("why", "nothing")[0] == 2


def test_a_wrong_configuration_on_reload_keeps_the_old_one_running(living: House) -> None:
    """And says where it is wrong, with code 78."""
    file = Path(living.env["HOME"], ".config/usbbackup/config.yaml")
    file.write_text(CONFIG + "jbos: []\n")
    code, _, err = living("reload")
    assert (code, "unknown key 'jbos' (did you mean 'jobs'?)" in err) == (78, True)
    assert [job["name"] for job in living.json("status")["jobs"]] == ["hello", "later"]
    file.write_text(CONFIG.replace("hello", "hallo"))
    assert living("reload")[0] == 0
    assert [job["name"] for job in living.json("status")["jobs"]] == ["hallo", "later"]


def test_a_second_agent_says_the_pid_of_the_first(living: House) -> None:
    """And exits with 75."""
    assert living.agent is not None
    second = subprocess.run(
        [sys.executable, "-m", "demo.agent", str(living.drive)],
        env=living.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "NotNowError" in second.stderr
    assert f"process {living.agent.pid}" in second.stderr


def test_the_live_tree_is_shown(living: House) -> None:
    """Every process: its name, what it is, restarts, mailbox, and since when."""
    tree = living.json("status", "--tree")
    names = [child["name"] for child in tree["children"]]
    assert names[:5] == ["registry", "history", "pools", "runs", "desktop"]
    assert names[5:] == ["dispatcher", "control", "monitor"]
    for node in (tree, *tree["children"]):
        assert set(node) == {
            *("name", "process", "type", "running", "restarts", "mailbox", "since", "children"),
        }
        assert (node["running"], node["restarts"]) == (True, 0)
        assert datetime.fromisoformat(node["since"]).tzinfo is not None
    header, root, *lines = living("status", "--tree")[1].splitlines()
    below = [line for line in lines if not line.startswith(4 * " ")]
    assert header.split() == ["NAME", "PROCESS", "STATE", "RESTARTS", "MAILBOX", "SINCE"]
    assert root.split()[:4] == ["usbbackup", "Supervisor", "running", "0"]
    assert [line.split()[0] for line in below] == names
    assert below[5].split()[1] == "Dispatcher"


@pytest.mark.parametrize("command", [("reload",), ("cancel",), ("cancel", "--json"), ("status", "--tree")])
def test_without_an_agent_some_commands_end_with_69(house: House, command: tuple[str, ...]) -> None:
    """Those that have nobody to talk to."""
    code, out, err = house(*command)
    assert code == Exit.NO_AGENT
    assert "systemctl --user start usbbackup" in out + err


@pytest.mark.parametrize("config", [None, "jobs: [", CONFIG])
def test_status_in_json_always_ends_with_0(home: House, config: str | None) -> None:
    """Without agent, without configuration, with a wrong one."""
    if config is not None:
        file = Path(home.env["HOME"], ".config/usbbackup/config.yaml")
        file.parent.mkdir(parents=True)
        file.write_text(config)
    status = home.json("status")
    assert set(status) == STATUS
    assert status["agent"] == {"running": False, "pid": None, "version": None, "since": None}
    assert home("status")[0] == 0


@pytest.fixture
def driveless(house: House) -> House:
    """Whatever is plugged in where the tests run, it is not the drive that is meant here."""
    drives = "drives:\n  - {name: backup, label: not-in-this-world}\n"
    Path(house.env["HOME"], ".config/usbbackup/config.yaml").write_text(drives + CONFIG)
    return house


def test_reading_commands_work_without_an_agent(driveless: House) -> None:
    """There is nothing to read yet."""
    assert driveless.json("history") == []
    assert driveless.json("why") == []
    assert driveless.json("drives")[0]["name"] == "backup"
    assert driveless("snapshots")[0] == Exit.NOT_NOW


def test_starting_without_a_drive_is_not_now(driveless: House) -> None:
    """Without an agent the work would be done here; there is no drive to do it on."""
    code, _, err = driveless("start", "--wait")
    assert (code, "plugged in" in err) == (75, True)


def test_no_configuration_says_how_to_make_one(home: House) -> None:
    """With code 78, from every command that needs one."""
    for command in (("check-config",), ("daemon",), ("start",)):
        code, _, err = home(*command)
        assert (command, code, "config.yaml" in err, "engine" in err) == (command, 78, True, True)


def test_a_right_configuration_is_told_and_the_schema_printed(house: House) -> None:
    """Also of another file."""
    assert house.json("check-config")["jobs"] == ["hello", "later"]
    assert "is right: 2 jobs (hello, later)" in house("check-config")[1]
    assert json.loads(house("check-config", "--schema")[1])["type"] == "object"


@pytest.mark.parametrize("arguments", [("--help",), *((command, "--help") for command in COMMANDS)])
def test_help_prints_the_exit_codes(
    home: House, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts rely on them."""
    assert home(*arguments)[0] == 0
    told = capsys.readouterr().out
    assert all(f"{int(code):>3}  {meaning}" in told for code, meaning in MEANING.items())


def test_the_readme_has_the_same_exit_codes() -> None:
    """In the same words."""
    readme = (REPOSITORY / "README.md").read_text()
    assert all(f"| {int(code)} | {meaning} |" in readme for code, meaning in MEANING.items())


def test_version_and_wrong_usage(home: House, capsys: pytest.CaptureFixture[str]) -> None:
    """As of any program."""
    assert home("--version")[0] == 0
    assert capsys.readouterr().out == f"usbbackup {__version__}\n"
    assert home("nonsense")[0] == 2
    code, _, err = home("status", "--nonsense")
    assert (code, err) == (
        2,
        "usbbackup: unrecognized arguments: --nonsense\n  see: usbbackup status --help\n",
    )
    assert parse(["start", "status"]).jobs == ["status"]


def test_a_reader_that_goes_away_is_no_trouble(house: House) -> None:
    """As in `usbbackup status | head -0`."""
    command = f"{sys.executable} -m usbbackup status --json | true"
    done = subprocess.run(["sh", "-c", command], env=house.env, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_an_agent_of_the_demo_ends_with_whoever_holds_it(living: House) -> None:
    """Else one whose test was killed would spin for ever."""
    assert living.agent is not None and living.agent.stdin is not None
    living.agent.stdin.close()
    assert living.agent.wait(60) == 0
