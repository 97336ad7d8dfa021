"""What a file system can keep."""

import os
from pathlib import Path

from usbbackup.backup.fitness import Fitness, probe


def test_trying_leaves_nothing_behind(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    found = probe(fd)
    os.close(fd)
    assert list(tmp_path.iterdir()) == []
    assert (found.hard_links, found.symlinks, found.fifos, found.modes) == (True,) * 4


def test_what_is_missing_is_told_in_words() -> None:
    assert Fitness().missing == ()
    assert Fitness(hard_links=False, window=2).missing == ("hard links", "exact times")
