"""What a run's guards cost: the same run with all of them, and with none.

The guards are the pin (the way to our folder without links, the marker, the mount asked for at every phase)
and Landlock around every program. Both write to the same loop image, in turns. Needs root and loop devices.
"""

import argparse
import asyncio
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import _common
from _common import Figure, figure
from overhead import TARGET, Place, a_tree, change

from demo import loop_drive
from demo.loop_drive import LoopDrive
from usbbackup.backup.engine import Request
from usbbackup.backup.perform import perform
from usbbackup.clock import SystemClock
from usbbackup.config import DriveConfig, JobConfig
from usbbackup.drives.enrolment import enrol
from usbbackup.drives.host import Host
from usbbackup.drives.mounts import KernelMountTable
from usbbackup.drives.pin import Pin
from usbbackup.drives.ready import Verdict, decide
from usbbackup.drives.records import Records
from usbbackup.drives.survey import KernelLookups
from usbbackup.drives.udev import KernelUdev
from usbbackup.outcome import Stop
from usbbackup.paths import Paths
from usbbackup.programs import Ended, Program, SystemPrograms
from usbbackup.target import Target

LABEL = "usbbackup-guard"


class Trusting(SystemPrograms):
    """The real programs, with no sandbox around them."""

    async def run(self, program: Program, **more: Any) -> Ended:
        """Run it."""
        return await super().run(replace(program, sandbox=None), **more)


class Runs:
    """Runs of one job with all guards, or with none."""

    def __init__(self, engine: str, source: Path, env: dict[str, str], drive: "Drive", guarded: bool) -> None:
        self._drive, self._env, self._guarded = drive, env, guarded
        kind: Any = {"engine": engine, "encryption": "none" if engine == "borg" else None}
        self._job = JobConfig(name=f"{engine}-{guarded}".lower(), sources=(str(source),), **kind)

    def run(self) -> tuple[float, float]:
        """One run: seconds by the clock, and of processors, its programs' included."""
        clock = SystemClock()
        programs = (SystemPrograms if self._guarded else Trusting)(clock, self._env)
        start, worked = time.monotonic(), processors()
        with self._drive.guarded() if self._guarded else self._drive.bare() as target:
            request = Request(
                job=self._job,
                target=target,
                run="bench",
                programs=programs,
                clock=clock,
                paths=Paths.of(self._env),
                stop=Stop(),
                report=lambda progress: None,
                log=lambda line: None,
            )
            result = asyncio.run(perform(request))
        if not result.outcome.good:
            raise SystemExit(f"the run was no success: {result.message}")
        return time.monotonic() - start, processors() - worked


def processors() -> float:
    """Seconds that this process and those that it has waited for have used."""
    both = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


class Drive:
    """A real, enrolled drive."""

    def __init__(self, records: Path) -> None:
        self._mounts, self._host = KernelMountTable(), Host("0badcafe", "bench", "bench")
        self._records = Records(records)
        first = self._verdict()
        assert first.device is not None and first.row is not None
        enrol(first.device, first.row, self._host, self._records, name=LABEL, now=time.time())
        self._enrolled = self._verdict()

    def _verdict(self) -> Verdict:
        entry = DriveConfig(name=LABEL, label=LABEL, bus="any")
        devices, records = KernelUdev().devices(), self._records.read()
        (verdict,) = decide(devices, self._mounts.read(), records, [entry], KernelLookups())
        return verdict

    def guarded(self) -> Pin:
        """As a run has it."""
        return Pin(self._enrolled, self._mounts, self._host)

    @contextmanager
    def bare(self) -> Iterator[Target]:
        """An open directory of which nothing is asked."""
        mounted = self._enrolled.facts().mount_point
        yield Place(mounted / "usbbackup" / self._host.folder / self._host.user, mounted)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Rounds with few changes, after a full copy of each."""
    _common.need("rsync", "borg")
    if reason := loop_drive.missing():
        _common.skip(reason)
    with ExitStack() as stack:
        here = stack.enter_context(_common.temporary())
        env = _common.a_home(here, "jobs: []\n")
        source = a_tree(here / "source", arguments.files)
        stack.enter_context(loop_drive.udevd())
        drive = LoopDrive(here, label=LABEL, size=(2 << 30) + arguments.files * 80_000)
        stack.callback(drive.close)
        drive.plug()
        drive.mount()
        enrolled = Drive(here / "drives.json")
        figures = []
        for engine in ("rsync", "borg"):
            both = [Runs(engine, source, env, enrolled, guarded) for guarded in (True, False)]
            for each in both:
                each.run()
            times: list[list[tuple[float, float]]] = [[], []]
            for number in range(arguments.rounds):
                change(source, arguments.files, number)
                order = (0, 1) if number % 2 else (1, 0)
                for which in order:
                    times[which].append(both[which].run())
            for number, what in enumerate(("", ", time of processors")):
                guarded, bare = ([one[number] for one in each] for each in times)
                figures.append(compared(f"{engine}, 1 % changed{what}", guarded, bare))
        return figures


def compared(what: str, guarded: list[float], bare: list[float]) -> Figure:
    """With guards, against without."""
    ratio = figure("", "s", guarded).p50 / figure("", "s", bare).p50
    return figure(what, "s", guarded, ratio=ratio, of="the same with no guard", target=TARGET)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000, help="files in the tree (20000)")
    parser.add_argument("--rounds", type=int, default=9, help="runs with few changes (9)")
    _common.main(parser, measure)
