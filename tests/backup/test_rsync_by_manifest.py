"""Which way a new snapshot is made, and that the log says so."""

import os
import shutil
from pathlib import Path

import pytest
from runs import Place, everything

from usbbackup.outcome import Outcome

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")

BY_MANIFEST = "what looks as it did"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    (made.source / "d").mkdir()
    (made.source / "d/file").write_text("one")
    (made.source / "d/other").write_text("other")
    (made.source / "top").write_text("two")
    return made


def manifest(place: Place) -> Path:
    (found,) = (place.top / "home/.cache/usbbackup/manifests").iterdir()
    return found


def how(place: Place) -> str:
    """Run, and say what the log said of the way."""
    place.log.clear()
    assert place.run().outcome is Outcome.SUCCESS
    return next(line for line in place.log if BY_MANIFEST in line or "rsync compares everything" in line)


def test_an_unchanged_source_needs_no_rsync_at_all(place: Place) -> None:
    assert "there is no snapshot yet" in how(place)
    place.programs.seen.clear()
    assert BY_MANIFEST in how(place)
    assert place.programs.seen == []
    assert "3 linked, 0 left to rsync" in place.log
    assert (place.stored(0) / "top").samefile(place.stored(1) / "top")
    assert everything(place.stored()) == everything(place.source)


def test_only_what_changed_is_left_to_rsync(place: Place) -> None:
    place.run()
    (place.source / "top").write_text("changed")
    place.run()
    assert "2 linked, 1 left to rsync" in place.log
    assert everything(place.stored()) == everything(place.source)


def test_a_renamed_directory_is_not_copied_again(place: Place) -> None:
    place.run()
    (place.source / "d").rename(place.source / "renamed")
    place.run()
    assert (place.stored(0) / "d/file").samefile(place.stored(1) / "renamed/file")
    assert everything(place.stored()) == everything(place.source)


def test_what_is_no_longer_excluded_comes_back_in(place: Place) -> None:
    place.job = place.with_job(exclude=("file",))
    place.run()
    place.job = place.with_job(exclude=("other",))
    assert BY_MANIFEST in how(place)
    assert sorted(path.name for path in (place.stored() / "d").iterdir()) == ["file"]


def test_what_had_only_just_changed_is_looked_at_by_rsync(place: Place) -> None:
    place.clock.wall = (place.source / "top").stat().st_ctime - 60
    place.run()
    place.programs.seen.clear()
    place.run()
    assert "0 linked, 3 left to rsync" in place.log
    assert len(place.programs.seen) == 1


def lose(place: Place) -> None:
    manifest(place).unlink()


def damage(place: Place) -> None:
    content = bytearray(manifest(place).read_bytes())
    content[40] ^= 1
    manifest(place).write_bytes(content)


def touch_snapshot(place: Place) -> None:
    (place.snapshots()[-1] / "mine").touch()


def replace_source(place: Place) -> None:
    place.source.rename(place.top / "aside")
    shutil.copytree(place.top / "aside", place.source)


def drop_snapshot(place: Place) -> None:
    place.run()
    shutil.rmtree(place.snapshots()[-1])


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (lose, "the last snapshot has no manifest"),
        (damage, "the manifest cannot be read: damaged"),
        (touch_snapshot, "the last snapshot is not as it was left"),
        (replace_source, "the sources are others, or elsewhere, than last time"),
        (drop_snapshot, "the last snapshot has no manifest"),
    ],
)
def test_a_manifest_that_does_not_fit_is_not_believed(place: Place, act, why: str) -> None:
    place.run()
    act(place)
    assert f"rsync compares everything: {why}" in how(place)
    assert everything(place.stored()) == everything(place.source)
    assert BY_MANIFEST in how(place), "and the next one fits again"


def test_after_every_ten_snapshots_rsync_compares_everything(place: Place) -> None:
    ways = [BY_MANIFEST in how(place) for _ in range(13)]
    assert ways == [False] + [True] * 10 + [False, True]


def test_a_snapshot_that_lost_a_file_gets_it_back(place: Place) -> None:
    place.run()
    (place.stored() / "d/file").unlink()
    place.run()
    assert everything(place.stored()) == everything(place.source)


def test_a_home_without_room_costs_no_snapshot(place: Place) -> None:
    cache = place.top / "home/.cache/usbbackup"
    cache.parent.mkdir()
    cache.touch()
    place.run()
    assert place.run().outcome is Outcome.SUCCESS
    assert any("the next run will be slower" in line for line in place.log)
    assert len(place.snapshots()) == 2


def test_a_doubtful_source_is_found_before_anything_is_linked(place: Place) -> None:
    place.run()
    shutil.rmtree(place.source / "d")
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert "3" in result.message
    assert [
        path for path in place.job_folder.glob("incomplete*") if any(p.is_file() for p in path.rglob("*"))
    ] == []


@pytest.fixture
def large(place: Place) -> Place:
    """So much that it is linked by processes, while the walk goes on."""
    for number in range(32):
        (folder := place.source / f"many {number}").mkdir()
        for name in range(100):
            (folder / f"{name}").touch()
    place.run()
    return place


def test_what_is_much_is_linked_while_the_walk_goes_on(large: Place) -> None:
    (large.source / "many 7/3").write_text("changed")
    (large.source / "many 8/50").unlink()
    (large.source / "many 9").rename(large.source / "renamed")
    large.programs.seen.clear()
    large.run()
    assert "3201 linked, 1 left to rsync" in large.log
    rsync = next(program for program in large.programs.seen if program.argv[0] == b"rsync")
    assert not any(b"--link-dest" in word for word in rsync.argv), "nothing could be linked"
    assert everything(large.stored()) == everything(large.source)


def test_what_is_much_is_linked_while_rsync_compares(large: Place) -> None:
    (large.source / "many 7/3").write_text("changed")
    (large.source / "many 8/50").unlink()
    (large.source / "many 9").rename(large.source / "renamed")
    manifest(large).unlink()
    assert "rsync compares everything" in how(large)
    assert everything(large.stored()) == everything(large.source)
    assert (large.stored() / "many 8/49").samefile(large.stored(0) / "many 8/49")


@pytest.mark.parametrize("remembered", [True, False], ids=["by the manifest", "by comparison"])
def test_a_doubtful_source_ends_the_run_though_much_is_linked(large: Place, remembered: bool) -> None:
    if not remembered:
        manifest(large).unlink()
    for number in range(30):
        shutil.rmtree(large.source / f"many {number}")
    result = large.run()
    assert result.outcome is Outcome.FAILED
    assert "last time it held" in result.message
    assert len(large.snapshots()) == 1


def test_what_differs_in_its_attributes_alone_is_linked_or_copied_by_rsync(place: Place) -> None:
    place.run()
    (place.source / "top").chmod(0o600)
    os.link(place.source / "d/file", place.source / "d/same")
    place.programs.seen.clear()
    place.run()
    (rsync,) = [program for program in place.programs.seen if program.argv[0] == b"rsync"]
    assert any(b"--link-dest" in word for word in rsync.argv)
    assert (place.stored() / "d/same").samefile(place.stored(0) / "d/file")
    assert everything(place.stored()) == everything(place.source)


def test_where_rsync_compares_a_new_name_of_a_file_is_linked_too(place: Place) -> None:
    place.run()
    manifest(place).unlink()
    os.link(place.source / "d/file", place.source / "d/same")
    assert "rsync compares everything" in how(place)
    assert (place.stored() / "d/same").samefile(place.stored(0) / "d/file")
    assert everything(place.stored()) == everything(place.source)


def test_several_sources_one_of_them_a_file(place: Place) -> None:
    other = place.top / "other"
    other.mkdir()
    (other / "alone").write_text("x")
    os.link(place.source / "top", other / "top again")
    place.job = place.with_job(
        sources=tuple(map(str, (place.source, other / "top again", place.source / "d/file")))
    )
    place.run()
    (place.source / "d/other").chmod(0o600)
    assert BY_MANIFEST in how(place)
    assert everything(place.stored()) == everything(place.source)
    assert (place.stored() / "top").samefile(place.stored(of=other) / "top again")
    assert sorted(path.name for path in place.stored(of=other).iterdir()) == ["top again"]
