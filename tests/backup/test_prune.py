"""Retention carried out: exactly the chosen snapshots go, after good runs only, and no half of one stays."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Place
from shelf import ENGINES, Shelf

from usbbackup.backup import layout, removal
from usbbackup.config import JobConfig, Keep
from usbbackup.folders import closing, open_folder
from usbbackup.outcome import Outcome, Phase

pytestmark = pytest.mark.skipif(not ENGINES, reason="neither rsync nor borg is installed")


def place_of(engine: str, top: str, **keep: int) -> Place:
    more = {"encryption": "none"} if engine == "borg" else {}
    place = Place(Path(top), job=JobConfig(name="home", engine=engine, keep=Keep(**keep), **more))
    (place.source / "file").write_text("something")
    return place


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="usbbackup-", dir="/var/tmp") as top:
        yield place_of(request.param, top, last=2)


@pytest.fixture
def plain() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="usbbackup-", dir="/var/tmp") as top:
        yield place_of(ENGINES[0], top, last=2)


def times(place: Place) -> list[str]:
    return [one.snapshot.rpartition("@")[2] for one in Shelf(place).snapshots()]


def test_every_good_run_leaves_what_the_rules_want(place: Place) -> None:
    made = []
    for _ in range(3):
        assert place.run().outcome is Outcome.SUCCESS
        made += [time for time in times(place) if time not in made]
    assert times(place) == made[-2:]
    assert Phase.PRUNE in {progress.phase for progress in place.progress}
    if place.job.engine == "rsync":
        assert place.stages() == []


def test_a_run_that_is_not_good_removes_nothing(plain: Place) -> None:
    for _ in range(2):
        plain.run()
    before = times(plain)
    (plain.source / "file").unlink()
    plain.job = plain.with_job(keep=Keep(last=1))
    assert plain.run().outcome is Outcome.FAILED  # a source that is empty now is doubtful
    assert times(plain) == before


def test_a_clock_at_1970_removes_nothing_but_by_its_place(plain: Place) -> None:
    for _ in range(2):
        plain.run()
    before = times(plain)
    plain.clock.wall = 0.0
    plain.run()
    assert times(plain) == [before[1], "1970-01-01T000100Z"]


def test_a_drive_that_leaves_meanwhile_is_let_go_of_and_the_run_stays_good(plain: Place) -> None:
    for _ in range(2):
        plain.run()

    def leave(progress) -> None:
        if progress.phase is Phase.PRUNE:
            assert plain.drive is not None
            plain.drive.reason = "The drive was unmounted."

    assert plain.run(report=leave).outcome is Outcome.SUCCESS
    assert len(times(plain)) == 3
    plain.run()
    assert len(times(plain)) == 2


def test_what_was_set_apart_is_no_snapshot_and_the_next_run_sweeps_it_up(plain: Place) -> None:
    for _ in range(2):
        plain.run()
    first = times(plain)[0]
    with (
        plain.opened() as target,
        closing(open_folder(target.fd, "home")) as job,
        closing(open_folder(job, layout.SNAPSHOTS)) as folder,
    ):
        removal.set_apart(job, folder, first)
    assert len(times(plain)) == 1
    assert len(plain.stages()) == 1
    plain.run()
    assert plain.stages() == []
    assert len(times(plain)) == 2


def test_other_snapshots_keep_their_files(plain: Place) -> None:
    for number in range(3):
        (plain.source / f"{number}").write_text(str(number))
        plain.run()
    assert (plain.stored() / "0").read_text() == "0"
    assert (plain.stored(0) / "1").read_text() == "1"


def test_nothing_is_removed_without_a_rule(plain: Place) -> None:
    plain.job = plain.with_job(keep=None)
    for _ in range(3):
        plain.run()
    assert len(times(plain)) == 3
