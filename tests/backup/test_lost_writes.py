"""A drive that loses what was written to it, and goes on showing it for as long as it is mounted.

The image of the drive lies on a file system that is smaller than it: what finds no room there is lost, as on
a stick that breaks, and the kernel tells of it only when it is asked to sync.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import ROOT, Place, everything
from shelf import Shelf

from usbbackup.outcome import Outcome, Phase, Progress

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not ROOT, reason="mounting needs root"),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed"),
]


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Failing:
    """The drive, and the room below it."""

    def __init__(self, top: Path) -> None:
        self.room, self.mounted = top / "room", top / "mounted"
        for folder in (self.room, self.mounted):
            folder.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=24m", "none", self.room)
        try:
            with (self.room / "image").open("wb") as image:
                image.truncate(200 << 20)
            options = ("-O", "^has_journal", "-E", "nodiscard,lazy_itable_init=0")  # metadata finds room
            run("mkfs.ext4", "-q", *options, self.room / "image")
            self.plug()
        except BaseException:
            run("umount", self.room)
            raise

    def plug(self) -> None:
        run("mount", "-o", "loop", self.room / "image", self.mounted)

    def pull(self) -> None:
        run("umount", self.mounted)

    def heal(self) -> None:
        """There is room for everything from now on."""
        run("mount", "-o", "remount,size=400m", self.room)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    drive = Failing(tmp_path)
    try:
        yield drive
    finally:
        drive.pull()
        run("umount", drive.room)


def fill(place: Place, *numbers: int) -> None:
    for number in numbers:
        (place.source / f"{number}").write_bytes(os.urandom(500_000))


@pytest.mark.parametrize(
    ("layout", "before", "empty"),
    [("snapshots", 0, 0), ("snapshots", 4, 0), ("snapshots", 4, 3200), ("mirror", 4, 0)],
    ids=["first", "later", "while many are linked", "mirror"],
)
def test_what_it_has_lost_is_copied_again_whatever_it_shows(
    tmp_path: Path, failing: Failing, layout: str, before: int, empty: int
) -> None:
    place = Place(tmp_path / "place", failing.mounted)
    place.job = place.with_job(layout=layout)
    fill(place, *range(before))
    for number in range(empty):
        (place.source / f"empty {number}").touch()
    if before:
        assert place.run().outcome is Outcome.SUCCESS
    fill(place, *range(before, 60))
    assert place.run().outcome is Outcome.FAILED
    failing.heal()
    assert place.run().outcome is Outcome.SUCCESS
    failing.pull()
    failing.plug()  # now only what is on the disk is there
    mirror = place.job_folder / "mirror" / str(place.source)[1:]
    assert everything(mirror if layout == "mirror" else place.stored()) == everything(place.source)
    assert place.stages() == (["mirror"] if layout == "mirror" else [])


def test_nor_is_an_earlier_copy_believed_that_was_cut_off_before(tmp_path: Path, failing: Failing) -> None:
    place = Place(tmp_path / "place", failing.mounted)
    fill(place, *range(60))

    def cut_off(progress: Progress) -> None:
        if progress.phase is Phase.SYNC:
            raise KeyboardInterrupt  # as if it was killed

    with pytest.raises(KeyboardInterrupt):
        place.run(report=cut_off)
    assert place.run().outcome is Outcome.FAILED
    failing.heal()
    assert place.run().outcome is Outcome.SUCCESS
    failing.pull()
    failing.plug()
    assert everything(place.stored()) == everything(place.source)


def test_what_is_restored_gets_its_name_when_it_is_on_the_disk(tmp_path: Path, failing: Failing) -> None:
    place = Place(tmp_path / "place")
    fill(place, *range(60))
    place.run()
    shelf = Shelf(place)
    with pytest.raises(OSError, match=r"Input/output|No space"):
        shelf.restore(to=failing.mounted)
    assert not list(failing.mounted.rglob("1*"))
    failing.heal()
    assert shelf.restore(to=failing.mounted).whole
    failing.pull()
    failing.plug()
    assert everything(Path(f"{failing.mounted}{place.source}")) == everything(place.source)
