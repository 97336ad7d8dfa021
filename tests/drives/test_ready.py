"""The decision about drives, as tables of cases."""

import sys
from dataclasses import replace

import msgspec
import pytest

from demo.directory_drive import FakeLookups
from usbbackup.config import DriveConfig
from usbbackup.drives.mounts import parse
from usbbackup.drives.ready import Absent, Candidate, Refused, Waiting, Why, decide
from usbbackup.drives.records import Enrolled
from usbbackup.drives.udev import Device
from usbbackup.errors import Exit

UUID = "8fa257d1-0000-4000-8000-000000000001"
OTHER = "8fa257d1-0000-4000-8000-000000000002"
STICK = Device(
    devnode="/dev/sdb1",
    sys_name="sdb1",
    devnum=(8, 17),
    fs_uuid=UUID,
    fs_label="backup",
    fs_type="ext4",
    fs_usage="filesystem",
    diskseq=7,
    usb=True,
    size=1 << 30,
    partition=True,
    disk="sdb",
)
SECOND = replace(STICK, devnode="/dev/sdc1", sys_name="sdc1", devnum=(8, 33), fs_uuid=OTHER, disk="sdc")
RECORD = Enrolled(
    uuid=UUID, token="t" * 32, label="backup", name="backup", fs_type="ext4", host="0badcafe", enrolled_at=1.0
)
BACKUP = DriveConfig(name="backup", label="backup")
NOTHING = FakeLookups()
MOUNTED = "36 35 8:17 / /media/david/backup rw - ext4 /dev/sdb1 rw"


def verdicts(devices=(STICK,), mounts=(MOUNTED,), records=(RECORD,), drives=(BACKUP,), lookups=NOTHING):
    rows, malformed = parse("\n".join(mounts).encode())
    assert malformed == 0
    return decide(list(devices), rows, {record.uuid: record for record in records}, drives, lookups)


def verdict(**facts):
    (only,) = verdicts(**facts)
    return only


def decision(**facts):
    return verdict(**facts).decision


def where(**facts):
    found = verdict(**facts)
    return found.row.mount_point.decode() if found.row else None


def test_a_mounted_enrolled_writable_drive_is_a_candidate():
    found = verdict()
    assert found.decision == Candidate(found.row)
    assert (found.uuid, found.device, found.record) == (UUID, STICK, RECORD)
    facts = found.facts()
    assert (facts.name, facts.label, facts.devnode) == ("backup", "backup", "/dev/sdb1")
    assert (str(facts.mount_point), facts.fs_type) == ("/media/david/backup", "ext4")


# Is it the drive that is meant?


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ({}, {"label": "backup"}),
        ({}, {"uuid": UUID}),
        ({}, {"uuid": UUID.upper()}),
        ({}, {"uuid": UUID, "label": "backup"}),
        ({"fs_type": "vfat", "fs_label": "BACKUP"}, {"label": "backup"}),
        ({"fs_type": "vfat", "fs_label": "backup"}, {"label": "BackUp"}),
        ({"fs_type": "exfat", "fs_label": "Backup"}, {"label": "backup"}),
        ({"fs_label": "my drive"}, {"label": "my drive"}),
        ({"usb": False}, {"label": "backup", "bus": "any"}),
        ({"usb": True}, {"label": "backup", "bus": "any"}),
        ({"partition": False, "sys_name": "sdb"}, {"label": "backup"}),
    ],
)
def test_a_drive_is_the_one_that_an_entry_means(change, entry):
    found = verdict(devices=[replace(STICK, **change)], drives=[DriveConfig(name="x", **entry)])
    assert isinstance(found.decision, Candidate)


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ({"fs_label": "Backup"}, {"label": "backup"}),  # only FAT labels match in any case
        ({"fs_label": None}, {"label": "backup"}),
        ({"fs_label": "backup2"}, {"label": "backup"}),
        ({}, {"uuid": OTHER}),
        ({}, {"uuid": UUID, "label": "other"}),
        ({}, {"uuid": OTHER, "label": "backup"}),
        ({"usb": False}, {"label": "backup"}),
        ({"usb": False}, {"uuid": UUID}),
        ({"fs_usage": "crypto"}, {"label": "backup"}),
        ({"fs_usage": "crypto"}, {"uuid": UUID}),
        ({"fs_usage": "raid"}, {"label": "backup"}),
        ({"fs_usage": None}, {"label": "backup"}),
        ({"initialized": False}, {"label": "backup"}),
        ({"fs_uuid": None}, {"label": "backup"}),
    ],
)
def test_a_drive_is_not_the_one_that_an_entry_means(change, entry):
    found = verdict(devices=[replace(STICK, **change)], drives=[DriveConfig(name="x", **entry)], records=[])
    assert isinstance(found.decision, Absent)
    assert found.row is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"usb": False}, "/dev/sdb1 is not on USB."),
        ({"fs_uuid": None}, "/dev/sdb1 has no UUID, so it cannot be told from others."),
        ({"fs_usage": "crypto"}, "/dev/sdb1 is there, but locked."),
        ({"fs_label": "music"}, "No file system labelled 'backup' is plugged in."),
    ],
)
def test_an_entry_that_nothing_answers_to_tells_what_came_near(change, told):
    found = verdict(devices=[replace(STICK, **change)], records=[])
    assert found.uuid is None
    assert found.decision.reason == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"usb": False}, "/dev/sdb1 is not on USB."),
        ({"fs_label": "music"}, "/dev/sdb1 has another label now: 'music'."),
        ({"fs_uuid": OTHER, "fs_label": "music"}, "The drive 'backup' is not plugged in."),
    ],
)
def test_an_enrolled_drive_that_does_not_count_tells_why(change, told):
    found = verdict(devices=[replace(STICK, **change)])
    assert (found.uuid, found.record) == (UUID, RECORD)
    assert found.decision.reason == told


def test_the_locked_container_of_an_enrolled_drive_is_recognised():
    container = replace(STICK, fs_usage="crypto", fs_type="crypto_LUKS", fs_uuid="0uter", fs_label=None)
    record = Enrolled(
        **{name: getattr(RECORD, name) for name in RECORD.__struct_fields__} | {"luks_uuid": "0uter"}
    )
    found = decision(devices=[container], records=[record])
    assert found.reason == "The drive 'backup' (/dev/sdb1) is plugged in, but locked."
    assert found.why is Why.LOCKED


def test_an_unlocked_container_is_seen_through_its_inner_file_system():
    container = replace(STICK, fs_usage="crypto", fs_uuid=OTHER, holders=("dm-0",))
    inner = replace(
        STICK, devnode="/dev/dm-0", sys_name="dm-0", devnum=(253, 0), slaves=("sdb1",), disk="dm-0"
    )
    row = "36 35 253:0 / /mnt rw - ext4 /dev/mapper/luks-x rw"
    assert where(devices=[container, inner], mounts=[row]) == "/mnt"


def test_nothing_at_all_gives_one_absent_verdict_for_each_entry():
    found = verdicts(devices=[], records=[], mounts=[], drives=[BACKUP, DriveConfig(name="b", uuid=OTHER)])
    assert [(each.drive.name, each.uuid) for each in found] == [("backup", None), ("b", OTHER)]
    assert all(isinstance(each.decision, Absent) for each in found)


def test_absent_enrolled_drives_are_listed_beside_the_present_one():
    away = Enrolled(
        uuid=OTHER, token="", label="backup", name="backup", fs_type="ext4", host="", enrolled_at=1.0
    )
    found = verdicts(records=[RECORD, away])
    assert [(each.uuid, type(each.decision)) for each in found] == [(UUID, Candidate), (OTHER, Absent)]


def test_a_record_that_no_entry_means_is_not_listed():
    found = verdict(devices=[], drives=[DriveConfig(name="other", label="other")])
    assert (found.uuid, found.drive.name) == (None, "other")


def test_an_entry_that_names_the_uuid_beats_an_earlier_one_that_names_the_label():
    special = DriveConfig(name="special", uuid=UUID)
    found = {each.drive.name: each.uuid for each in verdicts(drives=[BACKUP, special])}
    assert found == {"backup": None, "special": UUID}


def test_of_entries_that_fit_alike_the_first_counts():
    twin = DriveConfig(name="twin", label="backup")
    found = {each.drive.name: each.uuid for each in verdicts(drives=[BACKUP, twin])}
    assert found == {"backup": UUID, "twin": None}


def test_verdicts_come_in_the_order_of_the_configuration():
    entries = [DriveConfig(name="b", uuid=OTHER), DriveConfig(name="a", uuid=UUID)]
    assert [each.drive.name for each in verdicts(devices=[STICK, SECOND], drives=entries)] == ["b", "a"]


# Is it one file system?


def test_two_drives_with_one_label_both_work():
    second = Enrolled(
        uuid=OTHER, token="", label="backup", name="backup", fs_type="ext4", host="", enrolled_at=1.0
    )
    rows = [MOUNTED, "37 35 8:33 / /media/david/backup1 rw - ext4 /dev/sdc1 rw"]
    found = verdicts(devices=[STICK, SECOND], mounts=rows, records=[RECORD, second])
    assert [each.row.mount_point for each in found] == [b"/media/david/backup", b"/media/david/backup1"]
    assert all(isinstance(each.decision, Candidate) for each in found)


@pytest.mark.parametrize("usb", [True, False])
def test_two_file_systems_with_one_uuid_are_both_refused(usb):
    """Also where the copy is on another bus: the kernel and we may take either for the other."""
    found = verdict(devices=[STICK, replace(SECOND, fs_uuid=UUID, usb=usb)])
    assert isinstance(found.decision, Refused)
    assert found.decision.code is Exit.NOT_NOW
    assert "/dev/sdb1 and /dev/sdc1" in found.decision.reason
    assert found.row is None  # so that nothing is read from it or enrolled either


def test_a_copy_is_found_whatever_case_its_uuid_is_written_in():
    one = replace(STICK, fs_uuid="AB12-CD34", fs_type="vfat")
    two = replace(SECOND, fs_uuid="ab12-cd34", fs_type="vfat")
    assert isinstance(decision(devices=[one, two], records=[]), Refused)


def test_what_is_built_on_a_device_is_no_copy_of_it():
    """As a snapshot or fault layer of the device mapper, which shows the same file system again."""
    lower = replace(STICK, holders=("dm-0",))
    upper = replace(
        STICK, devnode="/dev/dm-0", sys_name="dm-0", devnum=(253, 0), slaves=("sdb1",), disk="dm-0"
    )
    row = "36 35 253:0 / /mnt rw - ext4 /dev/mapper/x rw"
    assert where(devices=[lower, upper], mounts=[row]) == "/mnt"


def test_partitions_mapped_once_more_are_no_copies():
    """kpartx: the mapped partition is built on the whole disk, beside the kernel's own partition."""
    disk = replace(STICK, devnode="/dev/sdb", sys_name="sdb", fs_usage=None, fs_uuid=None, partition=False)
    mapped = replace(
        STICK, devnode="/dev/dm-0", sys_name="dm-0", devnum=(253, 0), slaves=("sdb",), disk="dm-0"
    )
    row = "36 35 253:0 / /mnt rw - ext4 /dev/mapper/sdb1 rw"
    assert where(devices=[disk, STICK, mapped], mounts=[row]) == "/mnt"


BTRFS = replace(STICK, fs_type="btrfs", fs_uuid_sub="sub-1")


def test_the_parts_of_one_btrfs_are_one_file_system():
    part = replace(SECOND, fs_uuid=UUID, fs_type="btrfs", fs_uuid_sub="sub-2")
    lookups = FakeLookups({b"/dev/sdc1": (8, 33)}, {UUID: frozenset({"sdb1", "sdc1"})})
    row = "36 35 0:71 / /mnt rw - btrfs /dev/sdc1 rw"
    assert isinstance(decision(devices=[BTRFS, part], mounts=[row], lookups=lookups), Candidate)


def test_a_copy_of_a_btrfs_is_refused():
    copy = replace(SECOND, fs_uuid=UUID, fs_type="btrfs", fs_uuid_sub="sub-1")
    assert isinstance(decision(devices=[BTRFS, copy]), Refused)


# Is it mounted, and where?


@pytest.mark.parametrize(
    ("rows", "mount_point"),
    [
        ([MOUNTED], "/media/david/backup"),
        ([], None),
        (["36 35 8:33 / /media/david/backup rw - ext4 /dev/sdc1 rw"], None),
        # What the source claims does not count, the number does.
        (["36 35 8:33 / /mnt rw - ext4 /dev/sdb1 rw"], None),
        (["36 35 8:17 / /mnt rw - ext4 /dev/disk/by-label/backup rw"], "/mnt"),
        (["36 35 8:17 / /mnt rw - fuseblk /dev/sdb1 rw"], "/mnt"),
        # An automount stub is no mount, though it may name the drive.
        (["36 35 8:17 / /mnt rw - autofs /dev/sdb1 rw"], None),
        (["35 1 0:50 / /mnt rw - autofs systemd-1 rw", "36 35 8:17 / /mnt rw - ext4 /dev/sdb1 rw"], "/mnt"),
        # The whole rather than a part, whatever came first.
        (
            [
                "36 35 8:17 /pics /home/david/pics rw - ext4 /dev/sdb1 rw",
                "37 35 8:17 / /media/david/backup rw - ext4 /dev/sdb1 rw",
            ],
            "/media/david/backup",
        ),
        (["36 35 8:17 /pics /home/david/pics rw - ext4 /dev/sdb1 rw"], "/home/david/pics"),
        # Mounted twice: the first stays, so that a second mount moves nothing.
        ([MOUNTED, "40 35 8:17 / /mnt rw - ext4 /dev/sdb1 rw"], "/media/david/backup"),
        # Mounted twice, once read-only: the one that can be used.
        (
            ["36 35 8:17 / /a ro - ext4 /dev/sdb1 rw", "37 35 8:17 / /b rw - ext4 /dev/sdb1 rw"],
            "/b",
        ),
        # The visible one of two, though the other is the whole.
        (
            [
                "36 35 8:17 / /mnt rw - ext4 /dev/sdb1 rw",
                "37 36 0:40 / /mnt rw - tmpfs tmpfs rw",
                "38 35 8:17 /x /other rw - ext4 /dev/sdb1 rw",
            ],
            "/other",
        ),
        # On top of a stack.
        (["36 35 0:40 / /mnt rw - tmpfs tmpfs rw", "37 36 8:17 / /mnt rw - ext4 /dev/sdb1 rw"], "/mnt"),
        ([r"36 35 8:17 / /media/my\040drive rw - ext4 /dev/sdb1 rw"], "/media/my drive"),
    ],
)
def test_the_mount_of_a_drive_is_found(rows, mount_point):
    assert where(mounts=rows) == mount_point
    assert isinstance(decision(mounts=rows), Candidate if mount_point else Waiting)


def test_a_drive_that_is_not_mounted_waits_and_says_how_to_mount_it():
    found = decision(mounts=[])
    assert (found.why, found.reason) == (
        Why.NOT_MOUNTED,
        "The drive 'backup' (/dev/sdb1) is plugged in but not mounted.",
    )
    assert "udisksctl mount -b /dev/sdb1" in found.remedy


def test_a_drive_under_another_mount_waits():
    found = decision(mounts=[MOUNTED, "40 36 0:40 / /media/david/backup rw - tmpfs tmpfs rw"])
    assert found.why is Why.COVERED
    assert found.remedy == "Unmount what lies on top: sudo umount /media/david/backup"


@pytest.mark.parametrize(
    ("row", "numbers", "members", "mounted"),
    [
        ("36 35 0:71 / /mnt rw - btrfs /dev/sdb1 rw", {b"/dev/sdb1": (8, 17)}, {"sdb1"}, True),
        ("36 35 0:71 /@ /mnt rw - btrfs /dev/sdb1 rw", {b"/dev/sdb1": (8, 17)}, {"sdb1"}, True),
        ("36 35 0:71 / /mnt rw - btrfs /dev/mapper/b rw", {b"/dev/mapper/b": (8, 17)}, {"sdb1"}, True),
        # Another device has the node's name by now.
        ("36 35 0:71 / /mnt rw - btrfs /dev/sdb1 rw", {b"/dev/sdb1": (8, 33)}, {"sdb1"}, False),
        # The kernel has mounted this UUID from another device.
        ("36 35 0:71 / /mnt rw - btrfs /dev/sdb1 rw", {b"/dev/sdb1": (8, 17)}, {"sdz1"}, False),
        ("36 35 0:71 / /mnt rw - btrfs /dev/sdb1 rw", {b"/dev/sdb1": (8, 17)}, set(), False),
        ("36 35 0:71 / /mnt rw - btrfs /dev/gone rw", {}, {"sdb1"}, False),
        # A number that looks like the drive's is btrfs's own invention.
        ("36 35 8:17 / /mnt rw - btrfs /dev/sdc1 rw", {b"/dev/sdc1": (8, 33)}, {"sdb1"}, False),
    ],
)
def test_a_btrfs_is_found_by_its_source_and_members(row, numbers, members, mounted):
    lookups = FakeLookups(numbers, {UUID: frozenset(members)})
    found = decision(devices=[BTRFS], mounts=[row], lookups=lookups)
    assert isinstance(found, Candidate if mounted else Waiting)


# May it be written to?


def test_an_unknown_drive_is_refused_with_the_command_that_enrols_it():
    found = decision(records=[])
    assert (type(found), found.code) == (Refused, Exit.NOT_ALLOWED)
    assert found.reason == "The drive 'backup' (/dev/sdb1) is not enrolled, so nothing is written to it."
    assert found.remedy == f"If it is yours, run: usbbackup drives enrol {UUID}"


def test_a_drive_trusted_by_its_label_needs_no_record():
    assert isinstance(
        decision(records=[], drives=[DriveConfig(name="b", label="backup", trust="label")]), Candidate
    )


def test_another_drives_record_does_not_count():
    other = Enrolled(uuid=OTHER, token="", label="x", name="x", fs_type="ext4", host="", enrolled_at=1.0)
    assert isinstance(decision(records=[other]), Refused)


def test_a_drive_enrolled_for_reading_is_refused_but_can_be_read():
    record = Enrolled(
        uuid=UUID, token="", label="b", name="b", fs_type="ext4", host="", enrolled_at=1.0, read_only=True
    )
    found = verdict(records=[record])
    assert isinstance(found.decision, Refused)
    assert found.row is not None
    assert found.record is record


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("36 35 8:17 / /mnt ro - ext4 /dev/sdb1 rw", Why.READ_ONLY),
        ("36 35 8:17 / /mnt rw - ext4 /dev/sdb1 ro", Why.READ_ONLY),
        ("36 35 8:17 / /mnt rw - ext4 /dev/sdb1 rw,emergency_ro", Why.STOPPED),
        ("36 35 8:17 / /mnt rw - xfs /dev/sdb1 rw,shutdown", Why.STOPPED),
        ("36 35 8:17 / /mnt ro - ext4 /dev/sdb1 ro,emergency_ro", Why.STOPPED),
    ],
)
def test_a_drive_that_cannot_be_written_to_waits(row, why):
    found = decision(mounts=[row])
    assert found.why is why
    assert "/mnt" in found.reason
    assert found.remedy


def test_a_write_protected_stick_waits():
    assert decision(devices=[replace(STICK, read_only=True)]).why is Why.READ_ONLY


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"mounts": [], "records": []}, Waiting),  # not mounted comes before not enrolled
        (
            {"mounts": ["36 35 8:17 / /mnt ro - ext4 /dev/sdb1 ro"], "records": []},
            Refused,
        ),  # that before read-only
        ({"devices": [STICK, replace(SECOND, fs_uuid=UUID)], "mounts": []}, Refused),  # a copy before all
    ],
)
def test_the_first_reason_in_order_is_the_one_that_is_told(facts, expected):
    assert isinstance(decision(**facts), expected)


def test_what_stands_on_a_drive_cannot_write_to_the_terminal():
    evil = replace(STICK, fs_label="x\x1b[2J\n", fs_uuid="u\x1b\n")
    drives = [DriveConfig(name="b", label="x\x1b[2J\n")]
    row = r"36 35 8:17 / /media/x\012y rw - ext4 /dev/sdb1 ro"
    record = Enrolled(uuid="u\x1b\n", token="", label="", name="", fs_type="", host="", enrolled_at=1.0)
    for facts in (
        {"devices": [evil], "drives": drives, "records": []},
        {"devices": [evil], "drives": drives, "records": [record], "mounts": [row]},
        {"devices": [evil], "drives": drives, "mounts": []},
        {"devices": [], "drives": drives},
    ):
        for found in verdicts(**facts):
            told = f"{found.decision.reason} {found.decision.remedy}"
            assert told.isprintable()


def test_sixty_four_drives_in_ten_thousand_mounts_are_no_more_than_their_sum():
    def steps(count_of_drives, count_of_rows):
        devices = [
            replace(
                STICK, devnode=f"/dev/d{n}", sys_name=f"d{n}", devnum=(9, n), fs_uuid=f"u{n}", disk=f"d{n}"
            )
            for n in range(count_of_drives)
        ]
        line = "%d 1 9:%d / /media/d%d rw - ext4 /dev/d%d rw"
        rows = parse("\n".join(line % (n, n, n, n) for n in range(count_of_rows)).encode()).rows
        taken = []
        sys.setprofile(lambda _frame, event, _what: taken.append(event))
        try:
            found = decide(devices, rows, {}, [BACKUP], FakeLookups())
        finally:
            sys.setprofile(None)
        assert len(found) == count_of_drives
        return len(taken)

    both, drives, rows = steps(64, 10_000), steps(64, 64), steps(1, 10_000)
    assert both < 1.1 * (drives + rows)


def test_layers_upon_layers_are_one_file_system():
    """The uppermost counts, also where the layers between are no file systems themselves."""
    between = replace(
        STICK, devnode="/dev/dm-0", sys_name="dm-0", fs_usage=None, fs_uuid=None, slaves=("sdb1",)
    )
    upper = replace(
        STICK, devnode="/dev/dm-1", sys_name="dm-1", devnum=(253, 1), slaves=("dm-0",), disk="dm-1"
    )
    row = "36 35 253:1 / /mnt rw - ext4 /dev/mapper/x rw"
    assert where(devices=[STICK, between, upper], mounts=[row]) == "/mnt"


def test_layers_in_a_circle_end():
    one = replace(STICK, slaves=("sdc1",))
    two = replace(SECOND, fs_uuid=UUID, slaves=("sdb1",))
    assert isinstance(decision(devices=[one, two]), Refused)


def test_copies_of_a_btrfs_whose_parts_udev_cannot_tell_are_refused():
    parts = [replace(STICK, fs_type="btrfs"), replace(SECOND, fs_uuid=UUID, fs_type="btrfs")]
    assert isinstance(decision(devices=parts), Refused)


def test_a_drive_without_label_is_called_by_its_entrys_name():
    entry = DriveConfig(name="vault", uuid=UUID)
    found = decision(devices=[replace(STICK, fs_label=None)], mounts=[], drives=[entry])
    assert found.reason == "The drive 'vault' (/dev/sdb1) is plugged in but not mounted."


def test_a_job_learns_the_kind_of_file_system_from_udev_or_else_from_the_mount():
    assert verdict(devices=[replace(STICK, fs_type="ntfs")]).facts().fs_type == "ntfs"
    assert verdict(devices=[replace(STICK, fs_type=None)]).facts().fs_type == "ext4"


@pytest.mark.parametrize(
    ("then", "now", "kind"),
    [("A1", "A1", Candidate), (None, "A1", Candidate), ("A1", None, Candidate), ("A1", "B2", Refused)],
)
def test_a_drive_whose_serial_number_changed_is_asked_about_once(then, now, kind):
    found = decision(
        devices=[replace(STICK, serial=now)], records=[msgspec.structs.replace(RECORD, serial=then)]
    )
    assert isinstance(found, kind)
    if isinstance(found, Refused):
        assert found.code is Exit.NOT_ALLOWED
        assert f"usbbackup drives enrol {UUID}" in str(found.remedy)
