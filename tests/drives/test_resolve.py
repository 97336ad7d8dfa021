"""Which drive a word means."""

from dataclasses import replace

import pytest

from usbbackup.drives.resolve import resolve
from usbbackup.drives.survey import DriveView
from usbbackup.errors import UsageError

ONE = DriveView(
    name="backup",
    uuid="8fa257d1-aaaa",
    label="backup",
    devnode="/dev/sdb1",
    mount_point="/media/david/backup",
    state="ready",
    reason=None,
    remedy=None,
    enrolled=True,
    last_seen=None,
    bytes_free=None,
    bytes_total=None,
)
TWO = replace(ONE, uuid="8fa2ffff-bbbb", devnode="/dev/sdc1", mount_point="/media/david/backup1")
OFFSITE = replace(ONE, name="offsite", uuid="AB12-CD34", label="VAULT", devnode=None, mount_point=None)
NEVER = replace(OFFSITE, name="never", uuid=None, label=None)
ALL = [ONE, TWO, OFFSITE, NEVER]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("offsite", OFFSITE),
        ("never", NEVER),
        ("8fa257d1-aaaa", ONE),
        ("8FA257D1-AAAA", ONE),
        ("ab12-cd34", OFFSITE),
        ("8fa25", ONE),
        ("8fa2f", TWO),
        ("a", OFFSITE),
        ("VAULT", OFFSITE),
        ("/dev/sdc1", TWO),
        ("/dev/../dev/sdc1", TWO),
        ("/media/david/backup", ONE),
        ("/media/david/backup1/", TWO),
    ],
)
def test_a_word_means_the_drive_that_it_fits(word, meant):
    assert resolve(word, ALL) is meant


def test_a_device_node_is_known_by_its_other_names(tmp_path):
    link = tmp_path / "by-label"
    link.symlink_to("/dev/null")
    drive = replace(ONE, devnode="/dev/null")
    assert resolve(str(link), [drive]) is drive


def test_a_name_comes_before_another_drives_label():
    named = replace(OFFSITE, name="VAULT")
    labelled = replace(ONE, label="VAULT")
    assert resolve("VAULT", [labelled, named]) is named


@pytest.mark.parametrize("word", ["backup", "8fa2", "8"])
def test_a_word_that_fits_several_is_refused_with_all_of_them(word):
    with pytest.raises(UsageError) as raised:
        resolve(word, ALL)
    assert raised.value.message == (
        f"'{word}' could be any of 'backup' (8fa257d1-aaaa), 'backup' (8fa2ffff-bbbb)."
    )
    assert raised.value.code == 2


@pytest.mark.parametrize(
    ("word", "guess"), [("ofsite", "offsite"), ("vault", "VAULT"), ("backupp", "backup")]
)
def test_a_word_that_fits_none_is_refused_with_the_nearest(word, guess):
    with pytest.raises(UsageError) as raised:
        resolve(word, ALL)
    assert raised.value.message == f"There is no drive '{word}' (did you mean '{guess}'?)."
    assert "'offsite' (AB12-CD34)" in raised.value.hint
    assert "'never' (never seen)" in raised.value.hint


@pytest.mark.parametrize("word", ["", " ", "/", "zzz", "\x1b[31m", "x" * 10_000])
def test_nonsense_is_refused_calmly(word):
    with pytest.raises(UsageError) as raised:
        resolve(word, ALL)
    assert raised.value.message.isprintable()


def test_without_any_drive_the_hint_is_to_plug_one_in():
    with pytest.raises(UsageError, match="There is no drive 'backup'") as raised:
        resolve("backup", [])
    assert raised.value.hint == "Plug it in first."
