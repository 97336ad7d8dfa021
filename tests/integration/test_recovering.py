"""An encrypted home comes out of a snapshot on a real drive, by its name, with nothing but the passphrase."""

import json
import shutil
from pathlib import Path

import pytest

from tests.ecryptfs.made import seen, unpack

pytestmark = pytest.mark.root

PASSPHRASE = ("--passcommand", "echo 'correct horse'")


def told_by(house, *arguments):
    ended = house.cli("recover-home", *arguments, *PASSPHRASE, "--json")
    assert ended.returncode in (0, 1), ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture
def backed_up(house, stick):
    """Encrypted homes, backed up with both engines; the agent is not needed any more, nor are the homes."""
    house.documents.mkdir(exist_ok=True)
    unpack(house.documents)
    for tree in ("aes192", "aes256", "blowfish", "names-not-encrypted"):
        shutil.rmtree(house.documents / tree)
    about = json.loads((house.documents / "plain.json").read_text())
    house.configure(house.job("rsync"), house.job("borg"))
    drive = stick()
    drive.plug()
    drive.mount()
    house.done("drives", "enrol")
    house.done("start", "--wait")
    shutil.rmtree(house.documents)
    return about


@pytest.mark.parametrize("engine", ["rsync", "borg"])
def test_by_the_name_of_the_snapshot(house, backed_up, engine):
    snapshot, to = f"{engine}@latest", house.person.home / "rescued"
    ambiguous = house.cli("recover-home", snapshot, "--list", *PASSPHRASE)
    assert (ambiguous.returncode, "several encrypted homes" in ambiguous.stderr) == (2, True)

    for tree in ("aes128", "xattr"):
        told = told_by(house, snapshot, "--user", tree, "--to", to / tree)
        assert (told["damaged"], told["notes"]) == ([], [])
        assert seen(to / tree) == backed_up["trees"][tree]

    listed = told_by(house, snapshot, "--user", "aes128", "--list")
    assert {entry["path"] for entry in listed["entries"]} == set(backed_up["trees"]["aes128"])
    sizes = {entry["size"] for entry in listed["entries"] if entry["type"] == "file"}
    assert sizes == ({None} if engine == "borg" else {0, 1, 10, 12, 4095, 4096, 4097, 8191, 8192, 8193, 8296})

    part = told_by(
        house, snapshot, "folder/deeper", "link", "nowhere", "--user", "aes128", "--to", to / "part"
    )
    assert [one["path"] for one in part["damaged"]] == ["nowhere"]
    assert set(seen(to / "part")) == {
        *("folder", "folder/deeper", "folder/deeper/secret", "folder/deeper/other name", "link"),
        "usbbackup-damaged-files.txt",
    }


def test_a_wrong_passphrase_leaves_nothing_behind(house, backed_up):
    to = house.person.home / "rescued"
    for engine in ("rsync", "borg"):
        wrong = ("recover-home", f"{engine}@latest", "--user", "aes128", "--to", to)
        ended = house.cli(*wrong, "--passcommand", "echo wrong")
        assert (ended.returncode, "passphrase is wrong" in ended.stderr) == (1, True)
        assert not to.exists()


def test_a_second_attempt_goes_on_and_the_copy_of_an_archive_goes_away(house, backed_up):
    to = house.person.home / "rescued"
    to.mkdir()
    (to / "size 1").write_bytes(b"mine")
    left = to / ".usbbackup-recover-home-0badc0de-00000000"  # by one that was cut off before the last boot
    (left / "deep").mkdir(parents=True)
    (left / "deep/file").touch()
    told = told_by(house, "borg@latest", "--user", "aes128", "--to", to)
    assert [one["path"] for one in told["damaged"]] == ["size 1"]
    (to / "size 1").unlink()
    told = told_by(house, "borg@latest", "--user", "aes128", "--to", to)
    assert (told["damaged"], told["already_there"]) == ([], told["files"] - 1)
    assert seen(Path(to)) == backed_up["trees"]["aes128"]
