"""Real drives from plugged to held: judged, enrolled, tried, held and taken away."""

import os
import subprocess
from pathlib import Path

import pytest

from usbbackup.config import DriveConfig
from usbbackup.drives.admit import Ready, admit
from usbbackup.drives.enrolment import enrol
from usbbackup.drives.host import Host, this_host
from usbbackup.drives.mounts import KernelMountTable
from usbbackup.drives.pin import Pin
from usbbackup.drives.ready import Candidate, Refused, Waiting, Why, decide
from usbbackup.drives.records import Records
from usbbackup.drives.survey import KernelLookups, view
from usbbackup.drives.udev import KernelUdev
from usbbackup.errors import NotAllowedError, NotNowError

pytestmark = pytest.mark.root
FILE_SYSTEMS = ["ext4", "btrfs", "xfs"]


class Machine:
    """This machine as root sees it, with a configuration that means nothing but the test's own drives."""

    def __init__(self, ground):
        self.host = Host("0badcafe", "laptop", "david")
        self.records = Records(ground / "data/drives.json")
        self.mounts = KernelMountTable()
        self.label = f"t{ground.name[-8:]}"  # other drives may be plugged in here
        self.entry = DriveConfig(name="backup", label=self.label, bus="any")

    def verdicts(self):
        devices, records = KernelUdev().devices(), self.records.read()
        return decide(devices, self.mounts.read(), records, [self.entry], KernelLookups())

    def verdict(self):
        (only,) = self.verdicts()
        return only

    def enrol(self):
        verdict = self.verdict()
        return enrol(verdict.device, verdict.row, self.host, self.records, name="backup", now=1.0)

    def admit(self):
        return admit(self.verdict(), self.mounts, self.host, self.records, 1.0)

    def pin(self):
        return Pin(self.verdict(), self.mounts, self.host)


@pytest.fixture
def machine(ground):
    return Machine(ground)


@pytest.fixture
def plugged(workshop, machine):
    """A new drive with our label, plugged in."""

    def make(fs_type="ext4", **options):
        drive = workshop.drive(fs_type=fs_type, label=machine.label, **options)
        drive.plug()
        return drive

    return make


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
@pytest.mark.parametrize("partitioned", [False, True])
def test_a_drive_goes_from_plugged_to_ready_and_back(machine, plugged, fs_type, partitioned):
    assert view(machine.verdict()).state == "absent"
    drive = plugged(fs_type, partitioned=partitioned)
    assert machine.verdict().decision.why is Why.NOT_MOUNTED
    drive.mount()
    assert isinstance(machine.verdict().decision, Refused)
    assert names(drive.mount_point) in ([], ["lost+found"])
    record = machine.enrol()
    assert isinstance(machine.verdict().decision, Candidate)
    assert machine.verdict().facts().mount_point == drive.mount_point
    answer = machine.admit()
    assert isinstance(answer, Ready)
    assert answer.verdict.record == record
    drive.unmount()
    drive.unplug()
    assert view(machine.verdict()).state == "absent"


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_a_held_drive_cannot_be_unmounted_and_a_released_one_can(machine, plugged, fs_type):
    drive = plugged(fs_type)
    drive.mount()
    machine.enrol()
    with machine.pin() as held:
        assert held.still_there() is None
        assert os.fstat(held.fd).st_dev == drive.mount_point.stat().st_dev
        with pytest.raises(RuntimeError, match="busy"):
            drive.unmount()
    drive.unmount()


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_nothing_keeps_a_drive_busy_after_it_was_tried(machine, plugged, fs_type):
    drive = plugged(fs_type)
    drive.mount()
    machine.enrol()
    machine.admit()
    drive.unmount()


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_a_drive_pulled_while_it_is_held_is_noticed_and_nothing_goes_elsewhere(machine, plugged, fs_type):
    drive = plugged(fs_type)
    drive.mount()
    machine.enrol()
    with machine.pin() as held:
        drive.pull()
        assert "was unmounted" in held.still_there()
        os.close(os.open("after", os.O_CREAT | os.O_WRONLY, dir_fd=held.fd))  # still the drive, not the disk
    assert names(drive.mount_point) == []


def test_a_second_drive_at_the_same_mount_point_is_not_taken_for_the_first(machine, plugged, workshop):
    drive = plugged()
    where = drive.mount()
    machine.enrol()
    other = workshop.drive(label="other")
    other.plug()
    with machine.pin() as held:
        verdict = machine.verdict()
        drive.unmount(lazily=True)
        other.mount(where)
        assert "was unmounted" in held.still_there()
    with (
        pytest.raises(NotNowError, match="leads to another file system"),
        Pin(verdict, machine.mounts, machine.host),
    ):
        pass
    assert names(where) == ["lost+found"]


def test_a_mount_over_the_held_drive_is_noticed(machine, plugged, workshop):
    drive = plugged()
    where = drive.mount()
    machine.enrol()
    other = workshop.drive(label="other")
    other.plug()
    with machine.pin() as held:
        other.mount(where)
        assert "Something else was mounted over" in held.still_there()
    assert machine.verdict().decision.why is Why.COVERED
    other.unmount()
    assert isinstance(machine.verdict().decision, Candidate)


def test_a_drive_on_top_of_a_stack_is_usable(machine, plugged, workshop):
    other = workshop.drive(label="other")
    other.plug()
    drive = plugged()
    drive.mount(other.mount())
    machine.enrol()
    with machine.pin() as held:
        assert held.still_there() is None
    drive.unmount()
    assert names(other.mount_point) == ["lost+found"]


def test_a_hidden_mount_point_is_not_entered(machine, plugged, ground):
    """A mount over the parent directory hides the drive, though its row is still in the table."""
    parent = ground / "parent"
    (parent / "drive").mkdir(parents=True)
    drive = plugged()
    drive.mount(parent / "drive")
    machine.enrol()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", parent], check=True)
    try:
        (parent / "drive").mkdir()
        answer = machine.admit()
        assert (type(answer), answer.why) == (Waiting, Why.MOVED)
        assert names(parent / "drive") == []
    finally:
        subprocess.run(["umount", parent], check=True)


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_the_whole_drive_is_preferred_to_a_bind_of_a_part(machine, plugged, ground, fs_type):
    drive = plugged(fs_type)
    drive.mount()
    machine.enrol()
    part = ground / "part"
    part.mkdir()
    subprocess.run(["mount", "--bind", drive.mount_point / "usbbackup", part], check=True)
    try:
        assert machine.verdict().facts().mount_point == drive.mount_point
        drive.unmount()
        assert machine.verdict().facts().mount_point == part
        assert isinstance(machine.admit(), Refused)  # no marker there: it is only a part
        assert "usbbackup" not in names(part)
    finally:
        subprocess.run(["umount", part], check=True)


def test_a_btrfs_is_found_through_its_default_subvolume(machine, plugged):
    drive = plugged("btrfs")
    drive.mount()
    subprocess.run(["btrfs", "-q", "subvolume", "create", drive.mount_point / "@backup"], check=True)
    drive.unmount()
    drive.mount(options="subvol=@backup")
    machine.enrol()
    assert machine.verdict().row.root == b"/@backup"
    assert isinstance(machine.admit(), Ready)
    with machine.pin() as held:
        assert held.still_there() is None


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_a_read_only_remount_is_noticed_though_the_drive_stays_what_it_was(machine, plugged, fs_type):
    drive = plugged(fs_type)
    drive.mount()
    machine.enrol()
    with machine.pin() as held:
        subprocess.run(["mount", "-o", "remount,ro", drive.mount_point], check=True)
        assert held.still_there() is None
    assert machine.verdict().decision.why is Why.READ_ONLY
    subprocess.run(["mount", "-o", "remount,rw", drive.mount_point], check=True)
    assert isinstance(machine.admit(), Ready)


def test_a_file_system_that_stopped_after_an_error_waits(machine, plugged):
    """ext4 may still say rw in its options then; only the attempt to write tells."""
    drive = plugged()
    drive.mount(options="errors=remount-ro")
    machine.enrol()
    verdict = machine.verdict()
    trigger = Path("/sys/fs/ext4", drive.devnode.name, "trigger_fs_error")
    if not trigger.exists():
        pytest.skip("this kernel cannot make ext4 stop on request")
    trigger.write_text("test")
    assert machine.verdict().decision.why in (Why.STOPPED, Why.READ_ONLY)
    answer = admit(verdict, machine.mounts, machine.host, machine.records, 1.0)
    assert (type(answer), answer.why) == (Waiting, Why.STOPPED)


def test_errors_that_ext4_noted_are_told_with_a_ready_drive(machine, plugged):
    drive = plugged()
    drive.mount(options="errors=continue")
    machine.enrol()
    Path("/sys/fs/ext4", drive.devnode.name, "trigger_fs_error").write_text("test")
    assert machine.admit().notes == ("The file system has noted 1 error; unmount it and run fsck.",)


def test_a_full_drive_waits(machine, plugged):
    drive = plugged()
    drive.mount()
    machine.enrol()
    with pytest.raises(OSError, match="No space left"), (drive.mount_point / "ballast").open("wb") as ballast:
        while True:
            ballast.write(bytes(1 << 20))
    answer = machine.admit()
    assert (type(answer), answer.why) == (Waiting, Why.NO_SPACE)


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_a_copy_with_the_same_uuid_makes_both_refused_until_it_is_gone(machine, plugged, workshop, fs_type):
    drive = plugged(fs_type)
    drive.mount()
    machine.enrol()
    drive.unmount()
    copy = workshop.copy(drive)
    copy.plug()
    verdict = machine.verdict()
    assert isinstance(verdict.decision, Refused)
    assert verdict.row is None
    assert f"{drive.devnode}" in verdict.decision.reason
    assert f"{copy.devnode}" in verdict.decision.reason
    drive.unplug()
    copy.mount()
    assert isinstance(
        machine.admit(), Ready
    )  # a clone cannot be told apart, only encryption guards against it


def test_two_drives_with_one_label_are_both_ready(machine, plugged):
    for drive in (plugged(), plugged("xfs")):
        drive.mount()
    for verdict in machine.verdicts():
        enrol(verdict.device, verdict.row, machine.host, machine.records, name="backup", now=1.0)
    found = machine.verdicts()
    assert len({verdict.uuid for verdict in found}) == 2
    for verdict in found:
        with Pin(verdict, machine.mounts, machine.host) as held:
            assert held.still_there() is None


def test_the_same_drive_at_another_mount_point_is_the_same_drive_in_a_new_stay(machine, plugged, ground):
    drive = plugged()
    drive.mount()
    machine.enrol()
    first = machine.admit()
    assert machine.admit().attachment == first.attachment
    drive.unmount()
    drive.unplug()
    drive.plug()
    drive.mount(ground / "elsewhere")
    second = machine.admit()
    assert second.verdict.uuid == first.verdict.uuid
    assert second.verdict.facts().mount_point == ground / "elsewhere"
    assert second.attachment != first.attachment


def test_a_mere_unmount_and_mount_is_a_new_stay_too(machine, plugged):
    drive = plugged()
    drive.mount()
    machine.enrol()
    first = machine.admit()
    drive.unmount()
    drive.mount()
    assert (machine.admit().attachment != first.attachment) or first.attachment.endswith("/-")


def test_a_label_set_later_makes_the_drive_count(machine, plugged, workshop):
    drive = workshop.drive(label="music")
    drive.plug()
    drive.mount()
    assert view(machine.verdict()).state == "absent"
    subprocess.run(["e2label", drive.devnode, machine.label], check=True)
    subprocess.run(["udevadm", "trigger", "--settle", "--action=change", drive.devnode], check=True)
    assert view(machine.verdict()).state == "refused"


@pytest.mark.parametrize(
    "name", ["usbbackup", "usbbackup/laptop-0badcafe", "usbbackup/laptop-0badcafe/david"]
)
def test_another_file_system_on_one_of_our_folders_is_not_entered(machine, plugged, name):
    drive = plugged()
    drive.mount()
    machine.enrol()
    where = drive.mount_point / name
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", where], check=True)
    try:
        with (
            pytest.raises(NotAllowedError, match="Another file system is mounted on the folder"),
            machine.pin(),
        ):
            pass
        with pytest.raises(NotAllowedError, match="Another file system is mounted on the folder"):
            machine.enrol()
        assert names(where) == []
    finally:
        subprocess.run(["umount", where], check=True)


def test_a_file_mounted_on_the_marker_is_not_read(machine, plugged, ground):
    drive = plugged()
    drive.mount()
    machine.enrol()
    marker = drive.mount_point / "usbbackup/drive.json"
    (ground / "copy").write_bytes(marker.read_bytes())
    subprocess.run(["mount", "--bind", ground / "copy", marker], check=True)
    try:
        answer = machine.admit()
        assert isinstance(answer, Refused)
        assert "Another file is mounted" in answer.reason
    finally:
        subprocess.run(["umount", marker], check=True)


def test_an_automount_stub_is_no_mount_and_is_not_triggered(machine, plugged, ground):
    """A pipe stands for the daemon that would mount: were it asked, the asker would wait for ever."""
    stub = ground / "stub"
    stub.mkdir()
    reading, writing = os.pipe()
    options = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    mounted = subprocess.run(
        ["mount", "-i", "-t", "autofs", "-o", options, "backup", stub], pass_fds=[writing], check=False
    )
    try:
        if mounted.returncode != 0:
            pytest.skip("this kernel has no autofs")
        plugged()
        assert machine.verdict().decision.why is Why.NOT_MOUNTED
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", stub], check=True)
        os.close(reading)
        os.close(writing)


AS_USER = """
import os, sys
from pathlib import Path
from usbbackup.config import DriveConfig
from usbbackup.drives.admit import Ready, admit
from usbbackup.drives.enrolment import enrol
from usbbackup.drives.host import this_host
from usbbackup.drives.layout import RootOwnedError
from usbbackup.drives.mounts import KernelMountTable
from usbbackup.drives.records import Records
from usbbackup.drives.ready import decide
from usbbackup.drives.survey import KernelLookups
from usbbackup.drives.udev import KernelUdev

home = Path.home()
host, records, mounts = this_host(home / "data"), Records(home / "data/drives.json"), KernelMountTable()
entry = DriveConfig(name="backup", label=sys.argv[1], bus="any", trust=sys.argv[2])

def verdict():
    (only,) = decide(KernelUdev().devices(), mounts.read(), records.read(), [entry], KernelLookups())
    return only

if sys.argv[2] == "enrolled":
    found = verdict()
    try:
        enrol(found.device, found.row, host, records, name="backup", now=1.0)
    except RootOwnedError as error:
        print(error.hint)
        sys.exit()
answer = admit(verdict(), mounts, host, records, 1.0)
print(type(answer).__name__, getattr(answer, "why", ""), getattr(answer, "command", "") or "")
"""


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
@pytest.mark.parametrize("trust", ["enrolled", "label"])
def test_an_ordinary_user_enrols_and_uses_a_drive_of_their_own(
    machine, plugged, ordinary_user, fs_type, trust
):
    drive = plugged(fs_type, owner=ordinary_user.owner)
    drive.mount()
    assert ordinary_user.python(AS_USER, machine.label, trust) == "Ready  \n"
    drive.unmount()


@pytest.mark.parametrize("fs_type", FILE_SYSTEMS)
def test_a_fresh_drive_of_roots_waits_with_the_command_that_mends_it(
    machine, plugged, ordinary_user, fs_type
):
    drive = plugged(fs_type)
    where = drive.mount(drive.directory / "my drive's place")
    hint = ordinary_user.python(AS_USER, machine.label, "enrolled").strip()
    assert names(where) in ([], ["lost+found"])
    assert ordinary_user.python(AS_USER, machine.label, "label").startswith(
        "Waiting root-owned ('sudo', 'install'"
    )
    command = hint.partition("once: ")[2]
    assert command.startswith("sudo install -d -o nobody -g nogroup -m 0755 ")
    subprocess.run(["sh", "-c", command.removeprefix("sudo ")], check=True)
    assert ordinary_user.python(AS_USER, machine.label, "enrolled") == "Ready  \n"


def test_a_second_user_of_a_drive_gets_a_place_by_the_command(machine, plugged, ordinary_user):
    drive = plugged()
    drive.mount()
    first = this_machines_root(machine)
    machine.enrol()
    hint = ordinary_user.python(AS_USER, machine.label, "enrolled").strip()
    command = hint.partition("once: ")[2]
    assert command.endswith(f"/{first.folder}/nobody")
    subprocess.run(["sh", "-c", command.removeprefix("sudo ")], check=True)
    assert ordinary_user.python(AS_USER, machine.label, "enrolled") == "Ready  \n"
    assert names(drive.mount_point / "usbbackup" / first.folder) == ["nobody", "root"]


def this_machines_root(machine):
    """Root's own folders carry this machine's real id, as the other user's will."""
    machine.host = this_host(machine.records.path.parent)
    return machine.host


def test_users_share_a_drive_whose_folder_root_made_for_several(machine, plugged, ordinary_user):
    drive = plugged()
    drive.mount()
    (drive.mount_point / "usbbackup").mkdir()
    (drive.mount_point / "usbbackup").chmod(0o1777)
    this_machines_root(machine)
    machine.enrol()
    assert ordinary_user.python(AS_USER, machine.label, "enrolled") == "Ready  \n"
