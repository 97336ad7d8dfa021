"""What a file system can keep."""

import os
from pathlib import Path

import pytest

from usbbackup.backup.fitness import Fitness, doubt, probe
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
