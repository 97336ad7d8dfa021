"""Older snapshots stay as they are, whatever happens to the sources between runs and during them."""

import random
import shutil
import subprocess
import tempfile
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from runs import Place, everything
from wild import Wild

from usbbackup.outcome import Outcome, Result
from usbbackup.programs import Program

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")

few = settings(
    max_examples=20, phases=[Phase.generate], deadline=None, suppress_health_check=list(HealthCheck)
)
seeds = st.integers(0, 2**32)
BY_MANIFEST, BY_RSYNC = "what looks as it did", "everything: the last snapshot has no manifest"
ways = st.sampled_from((BY_MANIFEST, BY_RSYNC))


def planted(folder: str, seed: int) -> tuple[Place, Wild]:
    place = Place(Path(folder))
    wild = Wild(random.Random(seed), place.source)  # noqa: S311 - no secret
    (place.source / "first").write_text("first")
    wild.grow(25)
    return place, wild


def cleared(folder: str) -> None:
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)


def run(place: Place, way: str) -> Result:
    """Its manifest lost, rsync decides what differs."""
    if way == BY_RSYNC:
        shutil.rmtree(place.top / "home/.cache", ignore_errors=True)
    return place.run(accept_source=True)


@few
@given(seed=seeds, way=ways)
def test_changes_between_runs_are_in_the_next_snapshot_and_in_no_older_one(seed: int, way: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place, wild = planted(folder, seed)
        known: list[object] = []
        for _ in range(4):
            result = run(place, way)
            assert result.outcome is Outcome.SUCCESS, result
            known.append(everything(place.stored()))
            assert known[-1] == everything(place.source)
            assert [everything(place.stored(number)) for number in range(len(known))] == known
            wild.change(12)
        assert sum(way in line for line in place.log) == 3
        assert sum(" left to rsync" in line for line in place.log) == 3
        cleared(folder)


@few
@given(seed=seeds, way=ways)
def test_changes_during_runs_never_reach_an_older_snapshot(seed: int, way: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place, wild = planted(folder, seed)
        known = []
        for _ in range(3):
            run(place, way)
            known.append(everything(place.stored()))
            with busy(place, wild):
                disturbed = run(place, way)
            assert [everything(place.stored(number)) for number in range(len(known))] == known
            if disturbed.outcome.good:  # rsync gives up where a file has become a device
                known.append(everything(place.stored()))
        run(place, way)
        assert everything(place.stored()) == everything(place.source)
        assert [everything(place.stored(number)) for number in range(len(known))] == known
        cleared(folder)


class busy:  # noqa: N801 - reads as what it does
    """Changes the sources before each program of a run, and all the time that one is running."""

    def __init__(self, place: Place, wild: Wild) -> None:
        self._place, self._wild = place, wild
        self._over = Event()
        self._thread = Thread(target=self._go_on)

    def __enter__(self) -> None:
        self._place.programs.before = self._before

    def __exit__(self, *_: object) -> None:
        self._place.programs.before = lambda program: program
        self._over.set()
        if self._thread.ident:
            self._thread.join()

    def _before(self, program: Program) -> Program:
        self._wild.change(10)
        if not self._thread.ident:
            self._thread.start()
        return program

    def _go_on(self) -> None:
        while not self._over.is_set():
            self._wild.change(1)


def test_the_naive_way_would_be_caught(tmp_path: Path) -> None:
    """Links to everything, and an rsync that writes into them."""
    caught = 0
    for seed in range(5):
        folder = tmp_path / str(seed)
        place, wild = planted(str(folder), seed)
        old, new = folder / "old", folder / "new"
        subprocess.run(["cp", "-a", str(place.source), str(old)], check=True)
        before = everything(old)
        wild.change(12)
        subprocess.run(["cp", "-al", str(old), str(new)], check=True)
        subprocess.run(["rsync", "-aHAX", "--delete", f"{place.source}/", f"{new}/"], check=True)
        caught += everything(old) != before
        cleared(str(folder))
    assert caught >= 3
