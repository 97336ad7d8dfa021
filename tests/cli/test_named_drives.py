"""A drive is called by its name, UUID or the beginning of it, label, device or mount point."""

from pathlib import Path

import pytest

from tests.cli.house import CONFIG, House

DRIVES = "drives:\n  - {name: desk, label: backup}\n"
WAYS = ("name", "uuid", "UUID", "beginning", "label", "devnode", "mount_point", "mount_point/")


@pytest.fixture
def desk(living: House) -> House:
    """With a drive whose name is not its label."""
    Path(living.env["HOME"], ".config/usbbackup/config.yaml").write_text(DRIVES + CONFIG)
    assert living("reload")[0] == 0
    living.say("plug")
    living.wait_for("refused")
    return living


def called(house: House, way: str) -> str:
    """The word for the only drive."""
    (drive,) = house.json("drives")
    words = {
        "UUID": drive["uuid"].upper(),
        "beginning": drive["uuid"][:7],
        "mount_point/": drive["mount_point"] + "/",
    }
    return str(words.get(way) or drive[way])


@pytest.mark.parametrize("way", WAYS)
def test_every_command_that_takes_a_drive_knows_it_by(desk: House, way: str) -> None:
    """Enrolled, used, asked about, looked at, forgotten by the same word."""
    word = called(desk, way)
    assert desk("drives", "enrol", word)[0] == 0
    desk.wait_for("ready")
    code, out, _ = desk("start", "hello", "--drive", word, "--wait")
    assert (code, "hello: success" in out) == (0, True)
    about = desk.json("why", word)
    assert {one["drive"] for one in about} == {called(desk, "uuid")}
    assert any(one["verdict"] == "success" for one in about)
    assert desk("snapshots", "--drive", word)[0] == 0
    assert desk("drives", "forget", word)[0] == 0
    assert desk.wait_for("refused")["enrolled"] is False


@pytest.mark.parametrize(
    "command",
    [
        ("drives", "enrol", "dsek"),
        ("drives", "forget", "dsek"),
        ("start", "--drive", "dsek"),
        ("why", "dsek"),
        ("snapshots", "--drive", "dsek"),
    ],
    ids=lambda command: command[0],
)
def test_a_drive_that_is_not_there_ends_with_2_and_the_nearest(desk: House, command: tuple[str, ...]) -> None:
    """From each of them."""
    code, _, err = desk(*command)
    assert (code, "did you mean 'desk'?" in err) == (2, True)


def test_a_drive_that_the_configuration_means_no_more_can_be_forgotten(desk: House) -> None:
    """It is shown no more, but its record is there still."""
    assert desk("drives", "enrol")[0] == 0
    uuid = called(desk, "uuid")
    Path(desk.env["HOME"], ".config/usbbackup/config.yaml").write_text(
        "drives:\n  - {name: other, label: other}\n" + CONFIG
    )
    assert desk("reload")[0] == 0
    code, out, err = desk("drives", "forget", uuid)
    assert (code, "is forgotten" in out, err) == (0, True, "")
    assert desk("drives", "forget", uuid)[0] == 2


def test_enrolling_what_the_configuration_does_not_mean_says_what_to_write(desk: House) -> None:
    """With the entry that would mean it; nothing is written to the drive."""
    uuid, devnode = called(desk, "uuid"), called(desk, "devnode")
    Path(desk.env["HOME"], ".config/usbbackup/config.yaml").write_text(
        "drives:\n  - {name: other, label: other}\n" + CONFIG
    )
    assert desk("reload")[0] == 0
    for word, expected in (((), 75), ((devnode,), 2), ((uuid,), 2)):
        code, _, err = desk("drives", "enrol", *word)
        assert (word, code) == (word, expected)
        assert f"'backup' ({devnode}) is plugged in, but the configuration does not mean that" in err
        assert f'- {{"name": "backup", "uuid": "{uuid}"}}' in err
    assert list(desk.drive.iterdir()) == []
