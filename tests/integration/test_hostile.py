"""Names that want to do harm, more than anybody has, a history in ruins: the whole product as a process."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_process import until
from trees import portrait

from usbbackup.drives.udev import KernelUdev

pytestmark = pytest.mark.root
HARM = "\x1b]0;owned\x07\x1b[2J\u202e\n"  # a title, an empty screen, a text turned around, a line of its own
LABEL = "b \"k' \x1b[2J\tx"  # fifteen of the sixteen bytes that ext4 has for it
COMMANDS = (("status",), ("drives",), ("history",), ("snapshots",), ("why",))


def harmless(text: str) -> bool:
    """Can a terminal show it without doing anything but begin a new line?"""
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("house", ["ordinary_user"], indirect=True)
def test_hostile_names_are_backed_up_as_they_are_and_shown_harmlessly_everywhere(house, stick):
    names = [os.fsencode(f"evil {HARM}{number}") + b"\xff" for number in range(2)]
    for name in names:
        path = Path(os.fsdecode(os.fsencode(house.documents) + b"/" + name))
        path.write_text("mine\n")
        os.chown(path, *house.person.owner)
    path.chmod(0)
    drive = stick(label=LABEL)
    node = str(drive.plug())
    uuid = next(d.fs_uuid for d in KernelUdev().devices() if d.devnode == node)
    house.configure(
        house.job("rsync"), house.job("borg"), drives=[{"name": "stick", "uuid": uuid, "bus": "any"}]
    )
    drive.mount()
    house.done("drives", "enrol")
    house.start()
    runs = house.wait_ended(2)
    assert [run["outcome"] for run in runs] == ["warning", "warning"]

    expected = portrait(house.documents)
    del expected[names[-1]]
    assert all(house.restored(snapshot) == expected for snapshot in house.snapshots())
    for command in (*COMMANDS, *(("history", run["run"]) for run in runs)):
        shown, said = house.done(*command), house.done(*command, "--json")
        assert harmless(shown), (command, shown)
        assert harmless(said), (command, said)
        json.loads(said)
    (seen,) = [each for each in house.json("status")["drives"] if each["uuid"]]
    assert seen["label"] == LABEL
    assert "evil" in house.done("history", runs[0]["run"])
    assert harmless(house.agent.log.read_text())
    assert all(map(harmless, house.agent.status_lines))
    logs = list((house.person.home / ".local/state/usbbackup").rglob("*.log"))
    assert len(logs) == 2
    assert all(harmless(log.read_text()) for log in logs)


def test_a_drive_with_a_hundred_thousand_strange_entries_beside_ours_works_as_ever(house, stick):
    """In the top directory of ours on the drive, and in the job's."""
    house.configure(house.job("rsync"))
    drive = stick(size=500 << 20)  # with an inode for every 4 KiB, as mke2fs does it below 512 MiB
    drive.plug()
    drive.mount()
    house.done("drives", "enrol")
    house.done("start", "--wait")
    top = drive.mount_point / "usbbackup"
    (job,) = top.glob("*/*/rsync")
    for folder, count in ((top, 100_000), (job, 1_000), (job / "snapshots", 1_000)):
        crowd(folder, count)
    house.done("start", "--wait")
    assert len(house.snapshots()) == 2
    assert all(house.restored(snapshot) == portrait(house.documents) for snapshot in house.snapshots())
    assert len(list(names(top))) >= 100_000


def crowd(folder: Path, count: int) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(count):
            os.mknod(f"stranger-{number}", 0o600, dir_fd=fd)
    finally:
        os.close(fd)


def names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)


def test_a_ruined_history_is_set_aside_by_name_and_takes_no_enrolment_with_it(house, stick):
    house.configure(house.job("rsync", every="1d"))
    drive = stick()
    drive.plug()
    drive.mount()
    house.done("drives", "enrol")
    house.done("start", "--wait")
    ruins = os.urandom(5000)
    for file in house.history.parent.glob("history.db*"):
        file.unlink()
    house.write(house.history, "").write_bytes(ruins)

    agent = house.start()
    house.wait_ended(1)  # nothing is known of the first any more, so it is made anew
    assert house.drive()["enrolled"]
    assert [run["outcome"] for run in house.runs()] == ["success"]
    assert len(house.snapshots()) == 2
    (aside,) = [
        path for path in house.history.parent.iterdir() if path.is_file() and path.read_bytes() == ruins
    ]
    until(lambda: aside.name in agent.log.read_text(), "the name of what was set aside to be told")
