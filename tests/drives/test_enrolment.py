"""The user's word: given, checked, taken back."""

import json
import os
import resource
import signal
from dataclasses import replace

import pytest

from usbbackup.drives import marker
from usbbackup.drives.enrolment import check_marker, forget
from usbbackup.drives.layout import open_user_folder
from usbbackup.drives.ready import Candidate, Refused
from usbbackup.errors import ConfigError, NotAllowedError, NotNowError
from usbbackup.folders import LayoutError, closing


def tree(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def mode(path):
    return path.stat().st_mode & 0o7777


def marked(desk):
    return json.loads((desk.top / "drive.json").read_text())


def refusal(desk):
    """What `check_marker` says of the drive with our record of it."""
    (record,) = desk.records.read().values()
    with closing(os.open(desk.top, os.O_RDONLY | os.O_DIRECTORY)) as top:
        return check_marker(top, record, desk.host)


def test_enrolling_makes_the_folders_the_marker_and_the_readme(desk):
    old = os.umask(0o077)
    try:
        desk.enrol()
    finally:
        os.umask(old)
    assert tree(desk.directory) == [
        "usbbackup",
        "usbbackup/README.txt",
        "usbbackup/drive.json",
        "usbbackup/laptop-0badcafe",
        "usbbackup/laptop-0badcafe/david",
    ]
    assert (mode(desk.top), mode(desk.folder.parent), mode(desk.folder)) == (0o755, 0o755, 0o700)


def test_enrolling_records_what_the_drive_is(desk):
    record = desk.enrol()
    assert desk.records.read() == {desk.drive.device.fs_uuid: record}
    assert (record.uuid, record.label, record.fs_type) == (desk.drive.device.fs_uuid, "backup", "ext4")
    assert (record.name, record.host, record.token) == ("backup", "0badcafe", marked(desk)["token"])
    assert record.serial == desk.drive.device.serial
    assert record.enrolled_at == record.last_seen == 1_800_000_000.0
    assert (record.read_only, record.repositories, record.luks_uuid) == (False, {}, None)


def test_an_enrolled_drive_agrees_with_its_record(desk):
    desk.enrol()
    assert refusal(desk) is None
    assert isinstance(desk.verdict().decision, Candidate)


def test_enrolling_twice_changes_nothing_on_the_drive_and_takes_its_repositories_as_they_are(desk):
    first = desk.enrol()
    desk.records.repository(first.uuid, "home", "f00")
    before = (desk.top / "drive.json").stat().st_ino
    second = desk.enrol(now=1_900_000_000.0)
    assert (desk.top / "drive.json").stat().st_ino == before
    assert (second.token, second.enrolled_at) == (first.token, first.enrolled_at)
    assert second.repositories == {}  # the user has looked at it: what is there from now on counts


@pytest.mark.parametrize("lost", ["drive.json", "README.txt", "laptop-0badcafe"])
def test_enrolling_finishes_what_an_interruption_left_undone(desk, lost):
    desk.enrol()
    path = desk.top / lost
    if path.is_dir():
        desk.folder.rmdir()
        path.rmdir()
    else:
        path.unlink()
    desk.enrol()
    assert refusal(desk) is None
    assert desk.folder.is_dir()


def test_a_formatted_drive_is_enrolled_anew_and_old_repositories_are_forgotten(desk):
    first = desk.enrol()
    desk.records.repository(first.uuid, "home", "f00")
    (desk.top / "drive.json").unlink()
    second = desk.enrol(now=1_900_000_000.0)
    assert second.token != first.token
    assert (second.repositories, second.enrolled_at) == ({}, 1_900_000_000.0)


def test_a_second_machine_joins_with_the_same_token_and_a_folder_of_its_own(desk):
    first = desk.enrol()
    desk.become(id="5ec0ffee", name="desktop")
    desk.records.remove(first.uuid)
    second = desk.enrol()
    assert second.token == first.token
    assert (desk.top / "desktop-5ec0ffee/david").is_dir()
    assert marked(desk)["host"]["name"] == "laptop"
    assert refusal(desk) is None


def test_the_folder_is_found_by_its_id_when_the_machine_has_a_new_name(desk):
    desk.enrol()
    desk.become(name="renamed")
    desk.enrol()
    assert [path.name for path in desk.top.iterdir() if path.is_dir()] == ["laptop-0badcafe"]
    with (
        closing(os.open(desk.top, os.O_RDONLY | os.O_DIRECTORY)) as top,
        closing(open_user_folder(top, desk.host)) as found,
    ):
        assert os.path.samestat(os.fstat(found), desk.folder.stat())


def test_several_folders_for_one_machine_are_not_guessed_between(desk):
    desk.enrol()
    desk.become(name="renamed")
    (desk.top / "other-0badcafe").mkdir()
    with pytest.raises(
        LayoutError, match="several folders for this machine: 'laptop-0badcafe', 'other-0badcafe'"
    ):
        desk.enrol()


def test_a_top_directory_made_for_several_users_stays_one(desk):
    desk.top.mkdir()
    desk.top.chmod(0o1777)
    desk.enrol()
    assert (mode(desk.top), mode(desk.folder.parent), mode(desk.folder)) == (0o1777, 0o1777, 0o700)


def test_a_folder_of_another_user_is_not_used(desk):
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    desk.enrol()
    os.chown(desk.folder, 12345, 12345)
    with pytest.raises(LayoutError, match="belongs to another user \\(uid 12345\\)"):
        desk.enrol()


def outside(desk):
    place = desk.directory.parent / "outside"
    place.mkdir(exist_ok=True)
    return place


@pytest.mark.parametrize(
    "name", ["usbbackup", "usbbackup/laptop-0badcafe", "usbbackup/laptop-0badcafe/david"]
)
@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_what_stands_in_the_place_of_a_folder_is_refused_and_left_alone(desk, name, kind):
    path = desk.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "link":
            path.symlink_to(outside(desk))
        case "file":
            path.write_text("mine")
        case "pipe":
            os.mkfifo(path)
    before = os.lstat(path)
    with pytest.raises(LayoutError, match=f"'{path.name}' on the drive is a"):
        desk.enrol()
    assert os.lstat(path) == before
    assert list(outside(desk).iterdir()) == []
    assert desk.records.read() == {}


def test_a_hostile_marker_is_refused_and_left_alone(desk):
    desk.top.mkdir()
    (desk.top / "drive.json").symlink_to(outside(desk) / "new")
    with pytest.raises(LayoutError, match="is a symbolic link"):
        desk.enrol()
    assert list(outside(desk).iterdir()) == []
    assert tree(desk.directory) == ["usbbackup", "usbbackup/drive.json"]


def test_a_path_that_leads_elsewhere_by_now_gets_nothing(desk):
    desk.drive.row = replace(desk.drive.row, mount_id=999_999)
    with pytest.raises(NotNowError, match="leads to another file system"):
        desk.enrol()
    assert tree(desk.directory) == []


def test_a_mount_point_that_is_gone_gets_nothing(desk):
    desk.directory.rmdir()
    with pytest.raises(NotNowError, match="cannot be opened: No such file or directory"):
        desk.enrol()


def test_a_mount_point_that_became_a_link_gets_nothing(desk):
    desk.directory.rmdir()
    desk.directory.symlink_to(outside(desk))
    with pytest.raises(NotNowError, match="cannot be opened: Not a directory"):
        desk.enrol()
    assert list(outside(desk).iterdir()) == []


def test_with_damaged_records_nothing_is_written_to_the_drive(desk):
    desk.records.path.parent.mkdir()
    desk.records.path.write_text("{")
    with pytest.raises(ConfigError):
        desk.enrol()
    assert tree(desk.directory) == []


def test_enrolling_for_reading_writes_nothing(desk):
    desk.enrol()
    desk.become(id="5ec0ffee", name="desktop")
    before = tree(desk.directory)
    record = desk.enrol(read_only=True)
    assert record.read_only
    assert tree(desk.directory) == before
    assert isinstance(desk.verdict().decision, Refused)


@pytest.mark.parametrize("made", [[], ["usbbackup"]])
def test_a_drive_without_backups_cannot_be_enrolled_for_reading(desk, made):
    for name in made:
        (desk.directory / name).mkdir()
    with pytest.raises(NotNowError, match="no backups of usbbackup on this drive"):
        desk.enrol(read_only=True)
    assert tree(desk.directory) == made


def test_a_label_alone_does_not_take_over_another_machines_drive(desk):
    first = desk.enrol()
    desk.records.remove(first.uuid)
    desk.become(id="5ec0ffee", name="desktop")
    with pytest.raises(NotAllowedError, match="belongs to another machine, 'laptop'"):
        desk.enrol(by_label=True)
    assert not (desk.top / "desktop-5ec0ffee").exists()


def test_a_label_is_enough_for_an_empty_drive_and_for_our_own(desk):
    first = desk.enrol(by_label=True)
    desk.records.remove(first.uuid)
    assert desk.enrol(by_label=True).token == first.token


def test_a_drive_that_lost_its_marker_is_refused(desk):
    desk.enrol()
    (desk.top / "drive.json").unlink()
    assert "lost its marker" in refusal(desk).reason
    assert desk.drive.device.fs_uuid in refusal(desk).remedy


def test_a_drive_with_another_token_is_refused(desk):
    desk.enrol()
    stranger = replace(desk.host, name="evil\x1b[2J", user="mallory\n")
    (desk.top / "drive.json").unlink()
    with closing(os.open(desk.top, os.O_RDONLY | os.O_DIRECTORY)) as top:
        marker.write_marker(top, marker.new_marker(stranger, 0.0))
    assert "another marker" in refusal(desk).reason
    assert refusal(desk).reason.isprintable()


def test_a_home_that_moved_to_another_machine_does_not_take_its_drives_along(desk):
    desk.enrol()
    desk.become(id="5ec0ffee")
    assert "enrolled by another machine" in refusal(desk).reason


def test_a_hostile_marker_is_refused_when_checked(desk):
    desk.enrol()
    (desk.top / "drive.json").unlink()
    os.mkfifo(desk.top / "drive.json")
    assert refusal(desk).reason == "'drive.json' on the drive is a pipe, not a file of usbbackup."


def test_forgetting_leaves_the_drive_as_it_is(desk):
    record = desk.enrol()
    before = tree(desk.directory)
    forget(record.uuid, desk.records)
    assert desk.records.read() == {}
    assert tree(desk.directory) == before
    assert isinstance(desk.verdict().decision, Refused)


def test_nothing_stays_open_after_enrolling_well_or_badly(desk, open_descriptors):
    before = open_descriptors()
    desk.enrol()
    desk.folder.rmdir()
    desk.folder.symlink_to("/tmp")
    with pytest.raises(LayoutError):
        desk.enrol()
    assert open_descriptors() == before


def test_thousands_of_strange_names_beside_our_folder_do_not_hide_it(desk):
    desk.enrol()
    for number in range(5_000):
        (desk.top / f"strange\n\udcff{number}").touch()
    desk.become(name="renamed")
    desk.enrol()
    assert [path.name for path in desk.top.iterdir() if path.is_dir()] == ["laptop-0badcafe"]


def test_a_drive_that_cannot_be_written_to_says_so(desk):
    """A limit on file sizes stands for a full drive."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, old[1]))
    try:
        with pytest.raises(NotNowError, match="The drive cannot be enrolled: File too large"):
            desk.enrol()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (desk.top / "drive.json").exists()
    desk.enrol()
    assert refusal(desk) is None
