"""What a candidate has to prove."""

from dataclasses import replace

import pytest
from msgspec import structs

from usbbackup.drives.admit import Ready, admit, attachment_key
from usbbackup.drives.ready import Refused, Waiting, Why
from usbbackup.errors import ConfigError


def admitted(desk):
    return admit(desk.verdict(), desk.mounts, desk.host, desk.records, 1_800_000_000.0)


def test_an_enrolled_drive_proves_itself(desk):
    record = desk.enrol()
    answer = admitted(desk)
    assert isinstance(answer, Ready)
    assert answer.verdict.record == record
    assert 0 < answer.bytes_free <= answer.bytes_total


def test_a_drive_trusted_by_its_label_is_enrolled_on_the_way(desk):
    desk.trust_labels()
    answer = admitted(desk)
    assert isinstance(answer, Ready)
    assert desk.records.read() == {answer.verdict.uuid: answer.verdict.record}
    assert desk.folder.is_dir()


def test_another_machines_drive_is_refused_though_its_label_is_trusted(desk):
    desk.enrol()
    desk.records.remove(desk.drive.device.fs_uuid)
    desk.become(id="5ec0ffee")
    desk.trust_labels()
    answer = admitted(desk)
    assert isinstance(answer, Refused)
    assert "belongs to another machine" in answer.reason


@pytest.mark.parametrize(
    ("remembered", "told"),
    [
        ({}, []),
        ({"last_seen": 1_800_000_030.0}, []),
        (
            {"last_seen": 1_800_003_600.0},
            ["The clock has gone back: the drive was last seen at 2027-01-15T09:00:00+00:00."],
        ),
        (
            {"trouble": "It is mounted read-only."},
            ["Last time it took no data: It is mounted read-only. Better check its file system."],
        ),
    ],
    ids=["nothing", "a corrected clock", "a clock that went back", "read-only"],
)
def test_doubts_of_last_time_are_told_and_stop_nothing(desk, remembered, told):
    desk.records.put(structs.replace(desk.enrol(), **remembered))
    answer = admitted(desk)
    assert isinstance(answer, Ready)
    assert list(answer.notes) == told


def test_a_drive_that_lost_its_marker_is_refused(desk):
    desk.enrol()
    (desk.top / "drive.json").unlink()
    assert isinstance(admitted(desk), Refused)


def test_a_drive_that_went_elsewhere_waits(desk):
    desk.enrol()
    verdict = desk.verdict()
    moved = replace(verdict, row=replace(verdict.row, mount_id=999_999))
    answer = admit(moved, desk.mounts, desk.host, desk.records, 0.0)
    assert (type(answer), answer.why) == (Waiting, Why.MOVED)


def test_a_drive_that_cannot_take_the_file_waits(desk):
    desk.enrol()
    (desk.folder / ".usbbackup-probe").mkdir()
    answer = admitted(desk)
    assert (type(answer), answer.why) == (Waiting, Why.WRITE_FAILED)


def test_damaged_records_are_no_fault_of_the_drive(desk):
    desk.trust_labels()
    verdict = desk.verdict()
    desk.records.path.parent.mkdir()
    desk.records.path.write_text("{")
    with pytest.raises(ConfigError):
        admit(verdict, desk.mounts, desk.host, desk.records, 0.0)


def test_nothing_stays_open(desk, open_descriptors):
    desk.enrol()
    before = open_descriptors()
    admitted(desk)
    assert open_descriptors() == before


def test_one_stay_has_one_key_and_the_next_another(desk):
    desk.enrol()
    first, again = admitted(desk), admitted(desk)
    assert first.attachment == again.attachment
    desk.drive.pull()
    desk.drive.plug()
    assert admitted(desk).attachment != first.attachment


def test_any_difference_makes_another_key():
    parts = ("boot", "uuid", 1, 2, 3)
    keys = {attachment_key(*parts)}
    for position, other in enumerate(("boot2", "uuid2", None, 9, None)):
        keys.add(attachment_key(*(other if at == position else part for at, part in enumerate(parts))))
    assert len(keys) == 6
