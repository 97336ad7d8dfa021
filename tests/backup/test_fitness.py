"""What a file system can keep."""

import os
from pathlib import Path

import pytest

from usbbackup.backup.fitness import Fitness, doubt, probe, told
from usbbackup.config import JobConfig


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
