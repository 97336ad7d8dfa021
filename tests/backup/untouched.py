"""What every kind of drive has to hold: older snapshots stay as they are, whatever happens to the sources."""

import random
import shutil
import subprocess
from pathlib import Path
from threading import Event, Thread

from runs import Place, everything
from wild import Wild

from usbbackup.outcome import Outcome, Result
from usbbackup.programs import Program

Everything = dict[str, tuple[object, ...]]

BY_MANIFEST, BY_RSYNC = "by the manifest", "by rsync"


def planted(folder: Path, seed: int, drive: Path | None = None, *, pipes: bool = True) -> tuple[Place, Wild]:
    """A source that has grown at random, and a drive.

    Without pipes for changes during runs: a run ends that meets a file which has become one.
    """
    place = Place(folder, drive)
    wild = Wild(random.Random(seed), place.source, pipes)  # noqa: S311 - no secret
    (place.source / "first").write_text("first")
    wild.grow(25)
    return place, wild


def run(place: Place, way: str) -> Result:
    """Its manifest lost, rsync decides what differs."""
    if way == BY_RSYNC:
        shutil.rmtree(place.top / "home/.cache", ignore_errors=True)
    return place.run(accept_source=True)


def changed_between(place: Place, wild: Wild, way: str) -> None:
    known: list[Everything] = []
    for _ in range(4):
        result = run(place, way)
        assert result.outcome is Outcome.SUCCESS, result
        known.append(everything(place.stored()))
        assert differences(known[-1], everything(place.source)) == {}
        assert old(place, len(known)) == known
        wild.change(12)


def changed_during(place: Place, wild: Wild, way: str) -> None:
    known: list[Everything] = []
    for _ in range(3):
        run(place, way)
        known.append(everything(place.stored()))
        with Busy(place, wild):
            disturbed = run(place, way)
        assert old(place, len(known)) == known
        if disturbed.outcome.good:  # rsync gives up where a file has become a device
            known.append(everything(place.stored()))
    run(place, way)
    assert differences(everything(place.stored()), everything(place.source)) == {}
    assert old(place, len(known)) == known


def differences(one: Everything, other: Everything) -> dict[str, object]:
    """What differs, by name."""
    names = one.keys() | other.keys()
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def old(place: Place, count: int) -> list[Everything]:
    return [everything(place.stored(number)) for number in range(count)]


def cleared(folder: Path) -> None:
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)


class Busy:
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
