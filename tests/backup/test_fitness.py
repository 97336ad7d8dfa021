"""What a file system can keep."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystems import mounted
from runs import ROOT, Place

from usbbackup.backup.fitness import Fitness, doubt, probe, told
from usbbackup.config import JobConfig
from usbbackup.outcome import Outcome


def test_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    found = probe(fd)
    os.close(fd)
    assert list(tmp_path.iterdir()) == []
    assert (found.hard_links, found.symlinks, found.fifos, found.modes) == (True,) * 4


def test_what_is_missing_is_told_in_words() -> None:
    assert Fitness().missing == ()
    assert Fitness(hard_links=False, window=2).missing == ("hard links", "exact times")


@pytest.mark.parametrize(
    ("job", "fs_type", "doubted"),
    [
        ({}, "vfat", True),
        ({}, "exfat", True),
        ({}, "ext4", False),
        ({}, "ntfs3", False),
        ({"layout": "mirror"}, "vfat", False),
        ({"engine": "borg"}, "vfat", False),
        ({"engine": "command"}, "vfat", False),
    ],
)
def test_snapshots_are_doubted_where_the_kind_of_file_system_cannot_keep_them(
    job: dict[str, str], fs_type: str, doubted: bool
) -> None:
    said = doubt(JobConfig(**({"name": "home", "engine": "rsync"} | job)), fs_type)
    assert (said is not None) == doubted
    assert said is None or fs_type in said


def test_everything_that_an_ordinary_file_system_keeps_is_found(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    found = probe(fd)
    os.close(fd)
    assert (found.case, found.huge) == (True, True)


def test_people_are_told_what_it_means(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    sentences = told(fd, "ext4")
    os.close(fd)
    assert not any("rsync snapshots" in sentence for sentence in sentences)
    assert list(tmp_path.iterdir()) == []


def test_limits_are_named() -> None:
    assert "files of 4 GiB and more" in Fitness(huge=False).missing
    assert "names that differ in case only" in Fitness(case=False).missing


ALL = Fitness()
LIMITS = {
    "ext4": ALL,
    "xfs": ALL,
    "btrfs": ALL,
    "ntfs": Fitness(modes=False, owners=False, acls=False, names=False, window=0),
    "exfat": Fitness(*[False] * 7, case=False, names=False, window=0),
}


@pytest.fixture(scope="module", params=LIMITS)
def drive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(request.param, tmp_path_factory.mktemp(request.param)) as where:
        yield where


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="mounting needs root")
def test_every_kind_of_file_system_is_known_by_trying_it(drive: Path) -> None:
    kind = next(name for name in LIMITS if drive.parent.name.startswith(name))
    own = drive / "own"
    own.mkdir()
    fd = os.open(own, os.O_RDONLY)
    try:
        found, sentences = probe(fd), told(fd, kind)
    finally:
        os.close(fd)
    assert found == LIMITS[kind]
    assert list(own.iterdir()) == []
    assert any("makes snapshots of its own" in sentence for sentence in sentences) == (kind == "btrfs")
    assert any("use the borg engine" in sentence for sentence in sentences) == (kind == "exfat")
    if kind == "ntfs":
        (sentence,) = sentences
        assert "cannot keep: permissions, owners, access control lists, names with" in sentence


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="mounting needs root")
def test_a_run_does_what_was_told(drive: Path, tmp_path: Path) -> None:
    """Snapshots where links are kept, an advice where not, and what the advice says works."""
    kind = next(name for name in LIMITS if drive.parent.name.startswith(name))
    place = Place(tmp_path, drive)
    (place.source / "letter").write_text("dear")
    (place.source / "link").symlink_to("letter")
    result = place.run()
    if kind == "exfat":
        assert result.outcome is Outcome.FAILED
        assert "snapshots need hard links and symbolic links" in result.message
        place.job = place.with_job(layout="mirror")
        result = place.run()
        (kept,) = place.job_folder.glob("mirror/**/letter")
    else:
        place.run()
        kept = place.stored() / "letter"
        assert kept.stat().st_ino == (place.stored(0) / "letter").stat().st_ino or kind == "btrfs"
    assert result.outcome.good, result
    assert kept.read_text() == "dear"
