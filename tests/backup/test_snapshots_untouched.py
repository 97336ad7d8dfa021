"""Older snapshots stay as they are, whatever happens to the sources between runs and during them."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystems import mounted
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from runs import ROOT, everything
from untouched import BY_MANIFEST, BY_RSYNC, changed_between, changed_during, cleared, planted

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")

few = settings(max_examples=15, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32)
ways = st.sampled_from((BY_MANIFEST, BY_RSYNC))


@few
@given(seed=seeds, way=ways)
def test_changes_between_runs_are_in_the_next_snapshot_and_in_no_older_one(seed: int, way: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place, wild = planted(Path(folder), seed)
        changed_between(place, wild, way)
        assert sum("what looks as it did" in line for line in place.log) == 3 * (way == BY_MANIFEST)
        assert sum(" left to rsync" in line for line in place.log) == 3
        cleared(Path(folder))


@few
@given(seed=seeds, way=ways)
def test_changes_during_runs_never_reach_an_older_snapshot(seed: int, way: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place, wild = planted(Path(folder), seed, pipes=False)
        changed_during(place, wild, way)
        cleared(Path(folder))


def test_the_naive_way_would_be_caught(tmp_path: Path) -> None:
    """Links to everything, and an rsync that writes into them."""
    caught = 0
    for seed in range(5):
        folder = tmp_path / str(seed)
        place, wild = planted(folder, seed)
        old, new = folder / "old", folder / "new"
        subprocess.run(["cp", "-a", str(place.source), str(old)], check=True)
        before = everything(old)
        wild.change(12)
        subprocess.run(["cp", "-al", str(old), str(new)], check=True)
        subprocess.run(["rsync", "-aHAX", "--delete", f"{place.source}/", f"{new}/"], check=ROOT)
        caught += everything(old) != before
        cleared(folder)
    assert caught >= 3


@pytest.fixture(scope="module", params=["btrfs", "xfs"])
def drive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with mounted(request.param, tmp_path_factory.mktemp(request.param)) as where:
        yield where


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="mounting needs root")
@pytest.mark.parametrize("way", [BY_MANIFEST, BY_RSYNC])
@pytest.mark.parametrize("check", [changed_between, changed_during])
@pytest.mark.parametrize("seed", range(2))
def test_the_same_on_other_file_systems(drive: Path, tmp_path: Path, seed: int, way: str, check) -> None:
    own = drive / f"{seed} {way} {check.__name__}"
    own.mkdir()
    kind = drive.parent.name
    place, wild = planted(tmp_path, seed, own, pipes=check is changed_between)
    check(place, wild, way)
    whole = [line for line in place.log if "is copied as a whole, by btrfs" in line]
    assert bool(whole) == kind.startswith("btrfs")
