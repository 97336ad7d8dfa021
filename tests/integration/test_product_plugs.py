"""The whole product, from plug to done: the real agent and command line, real drives, real rsync and borg."""

import hashlib
import shlex
import subprocess
from pathlib import Path

import pytest
from trees import portrait

from demo import loop_drive

pytestmark = pytest.mark.root
FILE_SYSTEMS = ["ext4", "btrfs", "xfs"]
PEOPLE = ["myself", "ordinary_user"]

# Nothing is written that somebody else than the agent causes.
UNTOUCHED = {"ext4": "noatime,noinit_itable", "btrfs": "noatime", "xfs": "noatime"}


def outcomes(runs):
    return sorted((run["job"], run["outcome"]) for run in runs)


def of_both(*more):
    return sorted([("borg", "success"), ("rsync", "success"), *more])


def uuid_of(drive):
    return subprocess.check_output(["blkid", "-o", "value", "-s", "UUID", drive.image], text=True).strip()


def everything_on(drive):
    """A fingerprint of the image, after all that is on its way to it has arrived."""
    subprocess.run(["sync", "--file-system", drive.mount_point], check=True)
    subprocess.run(["blockdev", "--flushbufs", drive.devnode], check=True)
    with drive.image.open("rb") as image:
        return hashlib.file_digest(image, "sha256").hexdigest()


def plugged(drive, **options):
    drive.plug()
    drive.mount(**options)
    return drive


@pytest.mark.parametrize("house", PEOPLE, indirect=True)
@pytest.mark.parametrize(
    ("fs_type", "partitioned"), [("ext4", False), ("ext4", True), ("btrfs", False), ("xfs", True)]
)
def test_a_drive_is_plugged_enrolled_backed_up_unplugged_and_backed_up_again(
    house, stick, fs_type, partitioned
):
    house.configure(house.job("rsync"), house.job("borg"))
    agent = house.start()
    assert agent.status_lines == ["idle; waiting for a drive"]
    assert house.drive()["state"] == "absent"
    drive = stick(fs_type=fs_type, partitioned=partitioned)
    drive.plug()
    assert "is plugged in but not mounted" in house.wait_for_drive("waiting")["reason"]
    drive.mount()
    assert "is not enrolled" in house.wait_for_drive("refused")["reason"]
    house.done("drives", "enrol")
    assert outcomes(house.wait_ended(2)) == of_both()
    first = portrait(house.documents)
    assert all(house.restored(snapshot) == first for snapshot in house.snapshots())
    now = house.drive()
    assert now["state"] == "ready", (now["reason"], agent.log.read_text())
    drive.unmount()  # fails where anything still holds it
    drive.unplug()
    house.wait_for_drive("absent")
    house.write(house.documents / "new.txt", "new\n")
    plugged(drive)
    assert outcomes(house.wait_ended(4)) == of_both(*of_both())
    second = portrait(house.documents)
    for job in ("rsync", "borg"):
        before, after = house.snapshots(job)
        assert (house.restored(before), house.restored(after)) == (first, second)
    drive.unmount()
    assert "backing up rsync" in "\n".join(agent.status_lines)
    agent.wait_for(lambda: agent.status_lines[-1].startswith("idle"), "an idle status line")


@pytest.mark.parametrize("house", PEOPLE, indirect=True)
def test_a_drive_that_is_there_when_the_agent_starts_is_backed_up_to_once(house, stick):
    """Also after the agent was started anew: it is the same stay of the drive."""
    house.configure(house.job("rsync"), house.job("borg"))
    plugged(stick())
    house.done("drives", "enrol")
    house.start()
    assert outcomes(house.wait_ended(2)) == of_both()
    assert house.agent.stop() == 0
    house.start()
    for job in house.json("status")["jobs"]:
        (on,) = job["drives"]
        assert (on["due"], on["reason"]) == (False, "already done since the drive was plugged in")
    assert len(house.runs()) == 2


def test_two_drives_are_used_at_the_same_time(house, stick):
    """Each run waits until it sees the other one."""
    meeting = house.person.home / "meeting"
    meeting.mkdir()
    waits = f"""cd {shlex.quote(str(meeting))}; touch $USBBACKUP_UUID
        while [ $(ls | wc -l) -lt 2 ]; do sleep 0.02; done"""
    drives = [stick(), stick(label="other")]
    entries = [house.drive_entry(trust="label"), {"name": "two", "uuid": uuid_of(drives[1]), "bus": "any"}]
    job = {"name": "meet", "engine": "command", "command": ["sh", "-c", waits]}
    house.configure(job, drives=[entries[0], {**entries[1], "label": "other", "trust": "label"}])
    house.start()
    for drive in drives:
        plugged(drive)
    runs = house.wait_ended(2)
    assert {(run["drive"], run["outcome"]) for run in runs} == {(uuid_of(d), "success") for d in drives}


def test_two_drives_with_one_label_have_each_their_own_snapshots(house, stick):
    house.configure(house.job("rsync"), house.job("borg"))
    house.start()
    drives = [plugged(stick()), plugged(stick(fs_type="xfs"))]
    error = house.refused("drives", "enrol")
    assert (error["code"], "several unknown drives" in error["message"]) == (2, True)
    for drive in drives:
        house.done("drives", "enrol", uuid_of(drive))
    assert outcomes(house.wait_ended(4)) == of_both(*of_both())
    source = portrait(house.documents)
    snapshots = house.snapshots()
    assert sorted((s["drive"], s["engine"]) for s in snapshots) == sorted(
        (uuid_of(drive), engine) for drive in drives for engine in ("borg", "rsync")
    )
    assert all(house.restored(snapshot) == source for snapshot in snapshots)


def test_a_label_that_is_set_later_makes_the_drive_count(house, stick):
    house.configure(house.job("rsync"), drives=[house.drive_entry(trust="label")])
    house.start()
    drive = plugged(stick(label="music"))
    assert house.drive()["state"] == "absent"
    subprocess.run(["e2label", drive.devnode, house.label], check=True)
    subprocess.run(["udevadm", "trigger", "--settle", "--action=change", drive.devnode], check=True)
    assert outcomes(house.wait_ended(1)) == [("rsync", "success")]


def test_a_label_on_fat_counts_in_any_case(house, stick):
    drive = stick(fs_type="vfat", label=house.label.upper())
    house.configure(house.job("borg"), drives=[house.drive_entry(trust="label", label=house.label.lower())])
    house.start()
    plugged(drive)
    assert outcomes(house.wait_ended(1)) == [("borg", "success")]


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_backups_go_on_where_the_drive_is_mounted_elsewhere(house, stick, ground, fs_type):
    house.configure(house.job("rsync"), house.job("borg"))
    drive = plugged(stick(fs_type=fs_type))
    house.done("drives", "enrol")
    house.start()
    house.wait_ended(2)
    first = portrait(house.documents)
    drive.unmount()
    house.wait_for_drive("waiting")
    house.write(house.documents / "new.txt", "new\n")
    drive.mount(ground / "elsewhere")
    assert outcomes(house.wait_ended(4)) == of_both(*of_both())
    assert house.drive()["mount_point"] == str(ground / "elsewhere")
    for job in ("rsync", "borg"):
        before, after = house.snapshots(job)
        assert (house.restored(before), house.restored(after)) == (first, portrait(house.documents))
    before, after = [Path(snapshot["path"]) for snapshot in house.snapshots("rsync")]
    note = house.documents.relative_to("/") / "note 3.txt"
    if fs_type == "btrfs":  # the same file in a copy of the subvolume
        assert (before / note).stat().st_ino == (after / note).stat().st_ino
    else:
        assert (before / note).samefile(after / note)


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_a_drive_that_is_not_enrolled_gets_not_one_byte(house, stick, fs_type):
    house.configure(house.job("rsync"), house.job("borg"))
    drive = plugged(stick(fs_type=fs_type), options=UNTOUCHED[fs_type])
    before = everything_on(drive)
    house.start()
    house.wait_for_drive("refused")
    for asked in (("start",), ("start", "rsync", "--wait"), ("snapshots",), ("start", "--dry-run")):
        assert house.refused(*asked)["code"] == 77
    house.done("drives")
    assert house.agent.stop() == 0
    assert house.refused("start", "--wait")["code"] == 77
    assert everything_on(drive) == before
    assert house.runs() == []


def test_of_a_drive_and_its_copy_neither_gets_a_byte(house, stick, workshop):
    house.configure(house.job("rsync"), house.job("borg"))
    drive = plugged(stick())
    house.done("drives", "enrol")
    house.done("start", "--wait")
    drive.unmount()
    drives = [drive, workshop.copy(drive)]
    drive.unplug()
    for one in drives:
        plugged(one, options=UNTOUCHED["ext4"])
    before = [everything_on(one) for one in drives]
    house.start()
    assert "One is a copy of the other" in house.drive()["reason"]
    for asked in (
        ("start", "--wait"),
        ("start", "--drive", drive.devnode),
        ("snapshots",),
        ("drives", "enrol"),
    ):
        assert house.refused(*asked)["code"] == 75
    assert house.agent.stop() == 0
    assert [everything_on(one) for one in drives] == before
    assert len(house.runs()) == 2


def test_a_read_only_drive_waits_until_it_is_writable(house, stick):
    house.configure(house.job("rsync"))
    drive = plugged(stick())
    house.done("drives", "enrol")
    drive.unmount()
    drive.mount(options="ro")
    house.start()
    assert "mounted read-only" in house.drive()["reason"]
    error = house.refused("start", "--wait")
    assert (error["code"], error["hint"]) == (75, f"Run: sudo mount -o remount,rw {drive.mount_point}")
    subprocess.run(["mount", "-o", "remount,rw", drive.mount_point], check=True)
    assert outcomes(house.wait_ended(1)) == [("rsync", "success")]


@pytest.mark.parametrize("house", ["ordinary_user"], indirect=True)
def test_a_drive_that_is_roots_waits_with_the_command_that_makes_it_ready(house, stick):
    house.configure(house.job("rsync"), drives=[house.drive_entry(trust="label")])
    house.start()
    drive = plugged(stick(owner=None))
    reason = house.wait_for_drive("waiting")["reason"]
    until_tried = house.agent.wait_for(lambda: "once: " in house.drive()["reason"], "the command")
    assert until_tried
    command = house.drive()["reason"].partition("once: ")[2]
    assert command == f"sudo install -d -o nobody -g nogroup -m 0755 {drive.mount_point}/usbbackup", reason
    assert [path.name for path in Path(drive.mount_point).iterdir()] == ["lost+found"]
    subprocess.run(["sh", "-c", command.removeprefix("sudo ")], check=True)
    house.done("status")
    assert outcomes(house.wait_ended(1)) == [("rsync", "success")]


@pytest.mark.skipif(loop_drive.missing() is not None, reason=str(loop_drive.missing()))
@pytest.mark.parametrize("house", ["ordinary_user"], indirect=True)
def test_the_users_own_script_runs_on_a_drive_that_is_trusted_by_its_label(house, stick):
    """Nothing stands between it and a login shell."""
    script = house.write(
        house.person.home / "usb_backup.sh",
        """#!/bin/sh
        env > env.txt
        { pwd; umask; grep NoNewPrivs /proc/self/status; ulimit -c; } > shell.txt
        cp -a "$HOME/documents" "$USBBACKUP_MOUNT"
        """,
        0o755,
    )
    drive = stick()
    house.configure(
        {"name": "script", "engine": "command", "command": [str(script)]},
        {"name": "later", "engine": "command", "command": ["sh", "-c", "exit 75"]},
        {"name": "broken", "engine": "command", "command": ["sh", "-c", "echo it broke >&2; exit 3"]},
        drives=[house.drive_entry(trust="label")],
    )
    house.start()
    plugged(drive)
    ran = {run["job"]: run for run in house.wait_ended(3)}
    assert {job: run["outcome"] for job, run in ran.items()} == {
        "script": "success",
        "later": "skipped",
        "broken": "failed",
    }
    assert ran["broken"]["message"] == "the command ended with exit code 3: it broke"
    told = (drive.mount_point / "env.txt").read_text().splitlines()
    assert sorted(line for line in told if line.startswith("USBBACKUP_")) == sorted(
        (
            f"USBBACKUP_MOUNT={drive.mount_point}",
            f"USBBACKUP_LABEL={house.label}",
            f"USBBACKUP_UUID={uuid_of(drive)}",
            f"USBBACKUP_DEVNODE={drive.devnode}",
            "USBBACKUP_JOB=script",
            f"USBBACKUP_RUN={ran['script']['run']}",
        )
    )
    assert f"HOME={house.person.home}" in told
    assert not [line for line in told if line.startswith("NOTIFY_SOCKET")]
    cwd, umask, privileges, _ = (drive.mount_point / "shell.txt").read_text().splitlines()
    assert (cwd, umask, privileges.split()) == (str(drive.mount_point), "0022", ["NoNewPrivs:", "0"])
    assert portrait(drive.mount_point / "documents") == portrait(house.documents)
    codes = {job: house.cli("start", "--wait", job).returncode for job in ran}
    assert codes == {"script": 0, "later": 75, "broken": 1}
