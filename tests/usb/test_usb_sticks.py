"""Real USB sticks, emulated down to the bus: plugged, pulled, switched off; `make test-vm` runs this."""

import pytest

from tests.usb.desk import COPY, DOCUMENTS, MIRROR, SCRIPT, Desk
from tests.usb.machine import until

pytestmark = pytest.mark.vm
KEY = "/home/david/key"


def test_a_stick_is_mounted_backed_up_to_and_done_again_at_the_next_plug(desk: Desk) -> None:
    """After it was enrolled once nobody has to do anything: UDisks2 mounts it, asked by the agent."""
    desk.configure(COPY)
    stick = desk.stick("plain")
    desk.enrol(stick)
    desk.ended("success")
    desk.pull(stick)
    desk.absent()
    desk.plug(stick)
    desk.ended("success", "success")
    snapshots = desk.machine.usbbackup("snapshots")
    assert len(snapshots) == 2
    for snapshot in snapshots:
        desk.same_files(snapshot["path"])


def test_pulled_in_mid_run_it_is_interrupted_and_the_next_plug_finishes_it(desk: Desk) -> None:
    desk.configure(SCRIPT)
    stick = desk.stick("pulled")
    desk.enrol(stick)
    desk.ended("success")
    desk.pull(stick)
    desk.absent()
    desk.configure(COPY)
    desk.plug(stick, slow=True)
    desk.running()
    desk.pull(stick)
    desk.ended("success", "interrupted")
    assert desk.machine.root("pgrep", "-x", "rsync").returncode == 1
    desk.plug(stick)
    desk.ended("success", "interrupted", "success")
    (snapshot,) = desk.machine.usbbackup("snapshots")
    desk.same_files(snapshot["path"])


def test_after_the_backup_it_is_switched_off_and_gone(desk: Desk) -> None:
    """The kernel has no such disk any more when "safe to unplug" is said."""
    desk.configure(COPY, after="power-off")
    desk.enrol(desk.stick("off"))
    desk.ended("success")
    desk.absent()
    assert desk.machine.root("sh", "-c", "ls /dev/sd?").returncode != 0
    assert "safe" in [one["verdict"] for one in desk.machine.usbbackup("why")]


def test_a_stick_whose_top_directory_is_roots_waits_with_the_command_that_mends_it(desk: Desk) -> None:
    desk.configure(COPY)
    device = desk.plug(desk.stick("roots", owner=0))
    desk.mount(device)
    refused = desk.machine.david("usbbackup", "drives", "enrol")
    assert refused.returncode == 75
    (command,) = [line for line in refused.stderr.splitlines() if "sudo install" in line]
    desk.machine.done("sh", "-ec", command.partition("sudo ")[2])
    desk.enrol_mounted(device)
    desk.ended("success")
    (snapshot,) = desk.machine.usbbackup("snapshots")
    desk.same_files(snapshot["path"])


def test_on_btrfs_both_snapshots_are_whole(desk: Desk) -> None:
    desk.configure(COPY)
    stick = desk.stick("btrfs", "btrfs")
    desk.enrol(stick)
    desk.ended("success")
    desk.pull(stick)
    desk.absent()
    desk.plug(stick)
    desk.ended("success", "success")
    for snapshot in desk.machine.usbbackup("snapshots"):
        desk.same_files(snapshot["path"])


@pytest.mark.parametrize("fs_type", ["vfat", "exfat"])
def test_fat_is_told_of_when_it_is_enrolled_and_gets_a_plain_copy_by_choice(desk: Desk, fs_type: str) -> None:
    desk.configure(COPY)
    stick = desk.stick(fs_type, fs_type)
    told = desk.enrol(stick)
    assert f"{fs_type}, cannot keep: hard links, symbolic links" in told
    assert ("files of 4 GiB" in told) == (fs_type == "vfat")
    assert "use the borg engine, or write `layout: mirror`" in told
    (refused,) = desk.ended("failed")
    assert "snapshots need hard links" in refused["message"]
    desk.pull(stick)
    desk.absent()
    desk.configure(MIRROR)
    desk.plug(stick)
    desk.ended("failed", "success")
    assert desk.machine.usbbackup("snapshots") == []
    mounted = desk.drive("ready")["mount_point"]
    desk.same_files(desk.machine.done("sh", "-c", f"echo {mounted}/usbbackup/*/david/home/mirror").strip())


def test_two_at_once_work_side_by_side_and_fail_alone(desk: Desk) -> None:
    """One sits behind a hub. It is pulled while both are copied to; the other goes on."""
    desk.configure(SCRIPT)
    direct, behind = desk.stick("direct"), desk.stick("behind")
    for stick in (direct, behind):
        desk.enrol(stick)
    desk.ended("success", "success")
    for stick in (direct, behind):
        desk.pull(stick)
    desk.absent()
    desk.configure(COPY)
    desk.plug(direct, slow=True)
    desk.plug(behind, slow=True, hub=True)
    desk.running(2)
    desk.pull(behind)
    outcomes = {run["drive"]: run["outcome"] for run in desk.settled(4)[2:]}
    assert sorted(outcomes.values()) == ["interrupted", "success"]
    desk.plug(behind, hub=True)
    last = desk.settled(5)[-1]
    assert (last["outcome"], outcomes[last["drive"]]) == ("success", "interrupted")
    snapshots = desk.machine.usbbackup("snapshots")
    assert {snapshot["drive"] for snapshot in snapshots} == set(outcomes)
    for snapshot in snapshots:
        desk.same_files(snapshot["path"])


def test_a_locked_stick_is_opened_with_a_key_file_and_locked_again(desk: Desk) -> None:
    """Only where the drive was enrolled: a container that merely carries the label is never tried.

    The key is any bytes, a new line at its end among them.
    """
    machine = desk.machine
    assert machine.david("sh", "-ec", f"head -c 31 /dev/urandom > {KEY}; echo >> {KEY}").returncode == 0
    unlock = {"passcommand": ["sh", "-c", f"echo >> {KEY}.asked; cat {KEY}"]}
    desk.configure(COPY, unlock=unlock)
    strange, ours = desk.stick("strange", "luks"), desk.stick("ours", "luks")
    for stick in (strange, ours):
        device = desk.plug(stick)
        fast = ("--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000")
        machine.done("cryptsetup", "-q", "luksFormat", f"--key-file={KEY}", "--label=backup", *fast, device)
        machine.done("udevadm", "settle")
    opened = machine.david("udisksctl", "unlock", "--no-user-interaction", "-b", device, f"--key-file={KEY}")
    assert opened.returncode == 0, opened.stderr
    inside = opened.stdout.split()[-1].rstrip(".")
    machine.done("mkfs.ext4", "-q", "-L", "backup", "-E", "root_owner=1000:1000", inside)
    machine.done("udevadm", "settle")
    desk.mount(inside)
    desk.enrol_mounted(inside)
    desk.ended("success")
    desk.pull(ours)
    desk.absent()
    until(lambda: "crypt" not in machine.done("lsblk", "-n", "-o", "TYPE"), "the pulled container to be gone")
    desk.configure(COPY, unlock=unlock, after="unmount")
    device = desk.plug(ours)
    *_, run = desk.ended("success", "success")
    desk.drive("ejected")
    assert "crypt" not in machine.done("lsblk", "-n", "-o", "TYPE")
    assert machine.done("wc", "-l", f"{KEY}.asked").split()[0] == "1"
    machine.done("cryptsetup", "open", "--readonly", f"--key-file={KEY}", device, "looked-at")
    time = run["snapshot"].partition("@")[2]
    copy = f"/mnt/usbbackup/*/david/home/snapshots/{time}{DOCUMENTS}"
    look = f"mount -o ro,noload /dev/mapper/looked-at /mnt && diff -r {copy} {DOCUMENTS}"
    machine.done("unshare", "--mount", "sh", "-ec", look)
    machine.done("cryptsetup", "close", "looked-at")
