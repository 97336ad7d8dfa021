"""From installed to "it just runs", in a booted Debian 12 with a live `systemd --user`."""

import json
import re
from collections.abc import Callable

import pytest
from furnishing import Stick, outcomes, plugged, runs
from machine import User, until

from usbbackup.agent.messages import Message

pytestmark = pytest.mark.system

RSYNC = "engine: rsync, sources: [~/Documents]"
WATCHDOG = "[Service]\nWatchdogSec=3\n"
GATE = """\
#!/bin/sh
[ -e again ] || { touch here; sleep 300; }
"""
SLOW = """\
#!/bin/sh
# an engine that takes its time, and a helper of its own
sleep 300 &
touch here; sleep 300
"""


def test_setting_up_twice_changes_nothing_and_uninstalling_leaves_no_trace(anna: User) -> None:
    before = anna.tree()
    first = anna.done("usbbackup", "setup", "--yes", "--label", "nowhere")
    assert "now plug in a drive" in first
    assert anna.show("usbbackup", "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
    assert json.loads(anna.done("usbbackup", "status", "--json"))["agent"]["running"]
    after = anna.tree()
    pid = anna.show("usbbackup", "MainPID")
    again = anna.done("usbbackup", "setup", "--yes")
    assert "the service is installed and runs" in again
    assert (anna.tree(), anna.show("usbbackup", "MainPID")) == (after, pid)
    anna.done("usbbackup", "uninstall", "--purge")
    assert anna.tree() == before
    assert anna.show("usbbackup", "LoadState", "ActiveState") == {
        "LoadState": "not-found",
        "ActiveState": "inactive",
    }
    assert not anna.run("sh", "-c", "ls -d $XDG_RUNTIME_DIR/usbbackup", check=False).stdout
    assert "usbbackup" not in anna.systemctl("list-units", "--all", "--plain").stdout


def test_the_original_case_in_one_line(anna: User, stick: Stick) -> None:
    """Run my script when my drive is plugged in."""
    anna.write("backup.sh", "#!/bin/sh\necho $USBBACKUP_LABEL > done-by-script\n", mode=0o755)
    options = ("--trust", "label", "--label", stick.label, "--any-bus")
    with plugged(stick, anna) as at:
        said = anna.done("usbbackup", "setup", "--yes", "--command", "backup.sh", *options)
        assert "script: success" in said
        assert anna.done("cat", at / "done-by-script").strip() == stick.label
    anna.done("usbbackup", "uninstall", "--purge")


def test_setup_enrols_the_drive_and_makes_the_first_backup(anna: User, stick: Stick) -> None:
    options = ("--source", f"/home/{anna.name}/Documents", "--label", stick.label, "--any-bus")
    with plugged(stick, anna) as at:
        said = anna.done("usbbackup", "setup", "--yes", *options)
        assert "may hold your backups from now on" in said
        assert "home: success" in said
        found = anna.done(
            "sh", "-c", f"cat {at}/usbbackup/*/anna/home/snapshots/*/home/anna/Documents/letter"
        )
        assert found == "Dear David"
    anna.done("usbbackup", "uninstall", "--purge")


def test_borg_is_set_up_with_a_passphrase_and_its_key_is_kept(anna: User, stick: Stick) -> None:
    documents = ("--source", f"/home/{anna.name}/Documents", "--label", stick.label, "--any-bus")
    with plugged(stick, anna):
        said = anna.done(
            "usbbackup", "setup", "--yes", "--engine", "borg", *documents, "--key-copy", "my.key"
        )
        assert "home: success" in said
        assert anna.done("head", "-c", "8", "my.key") == "BORG_KEY"
        assert anna.done("stat", "-c", "%a", "my.key", ".local/share/usbbackup/passphrases/home").split() == [
            "600",
            "600",
        ]
        said = anna.done("usbbackup", "uninstall", "--purge")
        assert "kept, what opens encrypted backups" in said
        assert anna.done("ls", ".local/share/usbbackup").split() == ["keys", "passphrases"]
    anna.done("rm", "-r", ".local/share/usbbackup", "my.key")


def test_a_manual_start_waits_and_its_exit_code_can_be_asked_for(
    configured: Callable[..., User], stick: Stick
) -> None:
    anna = configured(
        f"name: home, {RSYNC}, every: 1d", "name: bad, engine: command, command: ['false'], every: 1d"
    )
    job = "usbbackup-start@home"
    assert anna.systemctl("start", job, check=False).returncode == 0  # not now is no failure of the unit
    assert anna.show(job, "ExecMainStatus", "ActiveState") == {
        "ExecMainStatus": "75",
        "ActiveState": "inactive",
    }
    with plugged(stick, anna):
        until(lambda: len([o for o in outcomes(anna) if o]) == 2, "the jobs to run")
        anna.systemctl("start", job)
        assert anna.show(job, "ExecMainStatus", "Result") == {"ExecMainStatus": "0", "Result": "success"}
        assert runs(anna)[0]["outcome"] == "success"
        assert "home: success" in anna.journal("--unit", job)
        failed = "usbbackup-start@bad"
        assert anna.systemctl("start", failed, check=False).returncode == 1
        assert anna.show(failed, "ExecMainStatus", "ActiveState") == {
            "ExecMainStatus": "1",
            "ActiveState": "failed",
        }


def test_a_script_behaves_as_in_a_terminal(configured: Callable[..., User], stick: Stick) -> None:
    """Nothing that the unit sets gets in its way: sudo, FUSE, memory that is written and run, its umask."""
    script = """\
#!/bin/sh
exec 2>&1
sudo -n true && echo sudo
fusermount3 -V >/dev/null && echo fuse
python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)' && echo memory
unshare --user true && echo namespace
umask; grep NoNewPrivs /proc/self/status; ulimit -c -H >/dev/null; pwd
"""
    sudoers = "/etc/sudoers.d/anna"
    user = configured("name: script, engine: command, command: [~/look.sh]")
    user.machine.run("sh", "-c", f"echo 'anna ALL=(root) NOPASSWD: ALL' > {sudoers}")
    user.write("look.sh", script, mode=0o755)
    with plugged(stick, user) as at:
        until(lambda: outcomes(user)[:1] == ["success"], "the script to end")
        log = user.done("usbbackup", "history", str(runs(user)[0]["run"]))
    said = [line.split(" ", 1)[1] for line in log.splitlines() if re.match(r"\S+T\S+ ", line)]
    assert said[1:-1] == ["sudo", "fuse", "memory", "namespace", "0022", "NoNewPrivs:     0", str(at)]


def test_engines_are_in_the_services_group_and_none_outlives_a_killed_agent(
    configured: Callable[..., User], stick: Stick
) -> None:
    anna = configured("name: slow, engine: command, command: [~/slow.sh]")
    anna.write("slow.sh", SLOW, mode=0o755)
    with plugged(stick, anna) as at:
        until(lambda: anna.run("test", "-e", at / "here", check=False).returncode == 0, "the engine to work")
        assert "slow.sh" in anna.systemctl("status", "usbbackup").stdout
        first = anna.show("usbbackup", "MainPID")["MainPID"]
        anna.machine.run("rm", at / "here")
        anna.done("kill", "-KILL", first)
        until(lambda: anna.show("usbbackup", "MainPID")["MainPID"] not in ("0", first), "a new agent")
        anna.wait_active()
        assert outcomes(anna) == ["interrupted"]
        assert anna.run("pgrep", "-f", "sleep 300", check=False).returncode == 1  # nothing of it is left
        anna.done("usbbackup", "start", "slow")  # it would begin by itself at the next plug
        until(lambda: anna.run("test", "-e", at / "here", check=False).returncode == 0, "the job to begin")
        anna.done("usbbackup", "cancel")
        until(lambda: outcomes(anna)[0] == "cancelled", "the run to end")
        assert anna.run("pgrep", "-f", "sleep 300", check=False).returncode == 1


def test_an_agent_that_hangs_in_a_run_is_started_anew_without_a_core_and_the_backup_goes_on(
    configured: Callable[..., User], stick: Stick
) -> None:
    anna = configured(f"name: home, {RSYNC}, before: [[~/gate.sh]]")
    anna.write("gate.sh", GATE, mode=0o755)
    anna.write(".config/systemd/user/usbbackup.service.d/watchdog.conf", WATCHDOG)
    anna.machine.run("sysctl", "-q", "-w", "kernel.core_pattern=core", check=False)
    anna.systemctl("daemon-reload")
    anna.systemctl("restart", "usbbackup")
    first = anna.show("usbbackup", "MainPID")["MainPID"]
    with plugged(stick, anna):
        until(lambda: (anna.home / "here").exists(), "the run to begin")
        anna.done("kill", "-STOP", first)
        until(lambda: anna.show("usbbackup", "NRestarts")["NRestarts"] == "1", "the watchdog")
        anna.wait_active()
        assert outcomes(anna) == ["interrupted"]
        assert anna.run("pgrep", "-f", "sleep 300", check=False).returncode == 1
    story = anna.journal("--unit", "usbbackup")
    assert "code=killed, status=6/ABRT" in story
    assert "code=dumped" not in story
    anna.write("again", "")
    with plugged(stick, anna) as at:
        until(lambda: outcomes(anna) == ["success", "interrupted"], "the backup to go on")
        assert anna.done("sh", "-c", f"cat {at}/usbbackup/*/anna/home/snapshots/*/home/anna/Documents/letter")
    anna.done("rm", "gate.sh", "here", "again")


def test_whoever_restarts_it_again_and_again_is_not_locked_out(configured: Callable[..., User]) -> None:
    anna = configured(f"name: home, {RSYNC}")
    for _ in range(7):
        anna.systemctl("restart", "usbbackup")
    assert anna.show("usbbackup", "ActiveState")["ActiveState"] == "active"


def test_a_wrong_configuration_makes_no_restart_loop(configured: Callable[..., User]) -> None:
    anna = configured(f"name: home, {RSYNC}")
    anna.systemctl("stop", "usbbackup")
    anna.write(".config/usbbackup/config.yaml", "jobs: 1\n")
    assert anna.systemctl("start", "usbbackup", check=False).returncode == 1
    assert anna.show("usbbackup", "ActiveState", "ExecMainStatus", "NRestarts") == {
        "ActiveState": "failed",
        "ExecMainStatus": "78",
        "NRestarts": "0",
    }
    assert "expected" in anna.journal("--unit", "usbbackup", "--priority", "info")
    assert anna.run("usbbackup", "doctor", check=False).returncode == 1


def test_a_reload_takes_a_right_configuration_and_refuses_a_wrong_one(
    configured: Callable[..., User],
) -> None:
    anna = configured(f"name: home, {RSYNC}")
    anna.systemctl("reload", "usbbackup")
    anna.write(".config/usbbackup/config.yaml", "jobs: 1\n")
    assert anna.systemctl("reload", "usbbackup", check=False).returncode == 1
    assert anna.show("usbbackup", "ActiveState")["ActiveState"] == "active"
    assert json.loads(anna.done("usbbackup", "status", "--json"))["jobs"][0]["name"] == "home"
    story = anna.journal("--unit", "usbbackup", f"MESSAGE_ID={Message.CONFIGURATION_REFUSED}")
    assert "the old configuration stays in force" in story


def test_the_journal_reads_like_a_story_with_fields_and_kinds(
    configured: Callable[..., User], stick: Stick
) -> None:
    anna = configured(f"name: home, {RSYNC}", "name: talk, engine: command, command: [echo, hello]")
    with plugged(stick, anna):
        until(lambda: [o for o in outcomes(anna) if o] == ["success"] * 2, "both jobs")
        run = runs(anna)[1]
    until(lambda: "is gone" in anna.journal("--unit", "usbbackup"), "the drive to be missed")
    story = anna.journal("--unit", "usbbackup", "--priority", "info", "--output", "json", "--boot")
    entries = [json.loads(line) for line in story.splitlines()]
    of_drive = [entry["MESSAGE_ID"] for entry in entries if entry.get("USBBACKUP_DRIVE") == run["drive"]]
    kinds = [Message(kind).name for kind in of_drive]
    assert kinds[kinds.index("DRIVE_READY") :][:5] == [
        *("DRIVE_READY", "RUN_BEGINS", "RUN_SUCCEEDED", "RUN_BEGINS", "RUN_SUCCEEDED")
    ]
    assert kinds.count("DRIVE_GONE") == 1
    lines = anna.journal(f"USBBACKUP_RUN={runs(anna)[0]['run']}", "--output", "cat").splitlines()
    assert "hello" in lines
    fields = (f"USBBACKUP_RUN={run['run']}", "USBBACKUP_JOB=home", "--priority", "info")
    assert len(anna.journal(*fields).splitlines()) == 2


def test_the_status_line_reads_like_a_sentence(configured: Callable[..., User], stick: Stick) -> None:
    anna = configured("name: slow, engine: command, command: [~/slow.sh]")
    anna.write("slow.sh", SLOW, mode=0o755)

    def line() -> str:
        return anna.show("usbbackup", "StatusText")["StatusText"]

    assert line() == "idle; waiting for a drive"
    with plugged(stick, anna):
        until(lambda: line() == f"backing up slow to '{stick.label}'", "the run to be told")
        anna.done("usbbackup", "cancel")
        until(lambda: line() == f"idle; '{stick.label}' plugged in", "the end to be told")
