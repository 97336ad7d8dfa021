"""Restoring as people meet it: killed in the middle, watched, without room, from drives that mean harm."""

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from agent_process import alive, family, until
from trees import noise, portrait

pytestmark = pytest.mark.root
SIZE = 80_000_000  # bytes: no engine writes them in the time that it takes to be killed
STAGE = ".usbbackup-restore-*"


@pytest.fixture
def backed_up(house, stick):
    """A drive with one snapshot of each job, of documents with a large file among them."""

    def make(*jobs, size=SIZE):
        noise(house.documents / "large", size, house.person.owner)
        house.configure(*jobs)
        drive = stick(size=3 * size + (200 << 20))
        drive.plug()
        drive.mount()
        house.done("drives", "enrol")
        house.done("start", "--wait")
        return drive

    return make


def somewhere(house, name):
    path = house.person.home / name
    path.mkdir()
    os.chown(path, *house.person.owner)
    return path


def half_there(folder):
    """How many bytes of the large file are in a private directory already."""
    found = [path.stat().st_size for path in folder.glob(f"**/{STAGE}/**/*large*") if path.is_file()]
    return sum(found)


def killed(house, order, folder):
    """Run a command that restores below `folder`, and kill it when half of the large file is there."""
    running = house.begun(*order)
    written = until(lambda: half_there(folder), "half of the file")
    children = family(running.pid)
    running.kill()
    running.communicate()
    until(lambda: not alive(children), "its programs to end with it")
    assert written < SIZE


@pytest.mark.parametrize("engine", ["rsync", "borg"])
def test_killed_in_the_middle_it_goes_on_when_it_is_run_again(house, backed_up, engine):
    backed_up(house.job(engine))
    before = portrait(house.documents)
    to = somewhere(house, "to")
    for folder, restored, where in (
        (to, Path(f"{to}{house.documents}"), ("--to", to)),
        (house.documents, house.documents, ("--in-place",)),
    ):
        (house.documents / "large").unlink(missing_ok=True)
        order = ("restore", f"{engine}@latest", *where)
        killed(house, order, folder)
        assert not (restored / "large").exists()
        assert folder is house.documents or [path.match(STAGE) for path in folder.iterdir()] == [True]
        assert "restored" in house.done(*order)
        there = portrait(restored)
        if folder is house.documents:  # which was not what was restored
            there[b"."] = before[b"."]
        assert there == before
        assert list(folder.glob(f"**/{STAGE}")) == []


def shown(house, *arguments):
    """What a terminal gets to see of a command's standard error."""
    person = house.person
    master, slave = pty.openpty()
    running = subprocess.Popen(
        person.command(person.code.python, "-m", "usbbackup", *arguments),
        env=house.environment | {"TERM": "xterm"},
        cwd=person.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    seen = b""
    with os.fdopen(master, "rb", buffering=0) as terminal:
        while piece := _read(terminal):
            seen += piece
    running.communicate()
    assert running.returncode == 0, seen
    return seen.decode()


def _read(terminal):
    try:
        return terminal.read(1 << 16)
    except OSError:  # EIO: everybody has let go of the terminal (pty(7))
        return b""


@pytest.mark.parametrize("engine", ["rsync", "borg"])
def test_how_far_it_is_and_how_much_room_is_missing(house, backed_up, engine):
    """A terminal gets a bar, anything else gets lines; without room nothing is written."""
    backed_up(house.job(engine), size=30_000_000)
    order = ("restore", f"{engine}@latest", "--to")
    seen = shown(house, *order, somewhere(house, "watched"))
    assert re.search(r"restoring .*/30\.\d MB", seen), seen
    assert "\x1b[" in seen
    ended = house.cli(*order, somewhere(house, "piped"))
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert all(line.isprintable() for line in ended.stdout.splitlines())
    assert "restored from" in ended.stdout

    to = somewhere(house, "small")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", to], check=True)
    try:
        error = house.refused(*order, to)
        left = list(to.iterdir())
    finally:
        subprocess.run(["umount", to], check=True)
    assert error["code"] == 75
    needs, free, missing = map(float, re.findall(r"([\d.]+) MB", error["message"]))
    assert needs >= 30
    assert abs(missing - (needs + 1.0 - free)) < 0.3
    assert "nothing was written" in error["hint"]
    assert left == []


class Outside:
    """What a hostile snapshot is after."""

    def __init__(self, house):
        self.path = somewhere(house, "outside")
        (self.path / "precious").write_text("precious\n")
        self.before = portrait(self.path)

    def is_as_it_was(self):
        return portrait(self.path) == self.before


def test_no_link_in_a_snapshot_of_rsync_leads_anywhere(house, backed_up):
    drive = backed_up(house.job("rsync"), size=1000)
    house.done("start", "--wait")
    outside = Outside(house)
    older, newer = (Path(snapshot["path"]) for snapshot in house.snapshots())
    inside = str(house.documents)[1:]
    (older / inside / "way").symlink_to(outside.path)
    (older / inside / "up").symlink_to("../" * 20 + str(outside.path)[1:])
    shutil.rmtree(older / inside / "letters")
    (older / inside / "letters").symlink_to(outside.path)
    for name in ("way", "up"):
        (newer / inside / name).mkdir()
        (newer / inside / name / "precious").write_text("not yours\n")
        (newer / inside / name / "new").write_text("not yours\n")

    to = somewhere(house, "to")
    for snapshot, options in ((older, []), (newer, []), (older, ["--overwrite"]), (newer, ["--overwrite"])):
        house.cli("restore", f"rsync@{snapshot.name}", "--to", to, "--json", *options)
        assert outside.is_as_it_was()
    restored = Path(f"{to}{house.documents}")
    assert not (restored / "way").is_symlink()
    assert (restored / "way/precious").read_text() == "not yours\n"
    path = f"{house.documents}/letters/precious"
    assert house.refused("restore", f"rsync@{older.name}", path, "--to", to)["code"] == 2

    shutil.rmtree(newer)
    newer.symlink_to(outside.path)
    error = house.refused("restore", f"rsync@{newer.name}", "--to", to)
    assert "is a symbolic link, not a folder of usbbackup" in error["message"]
    snapshots = newer.parent
    shutil.rmtree(snapshots)
    snapshots.symlink_to(outside.path)
    error = house.refused("restore", "rsync@latest", "--to", to)
    assert "is a symbolic link, not a folder of usbbackup" in error["message"]
    assert outside.is_as_it_was()
    assert drive.mount_point in snapshots.parents
