"""What a run costs beyond its bare steps: rsync, sync and a rename; borg create and info.

Both back up the same tree to the same loop image, in turns; each round changes one file of a hundred.
Needs root and loop devices.
"""

import argparse
import asyncio
import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import _common
from _common import Figure, figure

from demo import loop_drive
from demo.loop_drive import LoopDrive
from usbbackup.backup.engine import Request
from usbbackup.backup.perform import perform
from usbbackup.clock import SystemClock
from usbbackup.config import JobConfig
from usbbackup.outcome import Stop
from usbbackup.paths import Paths
from usbbackup.programs import SystemPrograms
from usbbackup.target import DriveFacts

RSYNC = ("rsync", "-aHAX", "--numeric-ids", "--modify-window=-1")
TARGET = 1.02


class Place:
    """A target that stays."""

    def __init__(self, folder: Path, mount_point: Path) -> None:
        self.fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.facts = DriveFacts("bench", "bench", "bench", "/dev/null", mount_point, "ext4")

    def still_there(self) -> str | None:
        """It is."""
        return None


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """First a full copy with each, then rounds with few changes."""
    _common.need("rsync", "borg")
    if reason := loop_drive.missing():
        _common.skip(reason)
    with ExitStack() as stack:
        here = stack.enter_context(_common.temporary())
        env = _common.a_home(here, "jobs: []\n")
        source = a_tree(here / "source", arguments.files)
        stack.enter_context(loop_drive.udevd())
        drive = LoopDrive(here, label="usbbackup-bench", size=(512 << 20) + arguments.files * 80_000)
        stack.callback(drive.close)
        drive.plug()
        mounted = drive.mount()
        figures: list[Figure] = []
        for engine in ("rsync", "borg"):
            ours, bare = Ours(engine, mounted, source, env), Bare(engine, mounted, source, env)
            first = [ours.run(), bare.run()]
            figures.append(compared(f"{engine}, full copy", [first[0]], [first[1]]))
            taken: tuple[list[float], list[float]] = ([], [])
            for number in range(arguments.rounds):
                change(source, arguments.files, number)
                both = list(zip((ours, bare), taken, strict=True))
                for one, times in both if number % 2 else reversed(both):
                    times.append(one.run())
            figures.append(compared(f"{engine}, 1 % changed", *taken))
        return figures


def compared(what: str, ours: list[float], bare: list[float]) -> Figure:
    """Ours, against the bare steps."""
    ratio = figure(what, "s", ours).p50 / figure(what, "s", bare).p50
    return figure(
        what, "s", ours, ratio=ratio, of=f"the bare steps ({figure('', 's', bare).p50:.2f} s)", target=TARGET
    )


def a_tree(top: Path, files: int, spread: int = 26_000) -> Path:
    """Many small files, as in a home: 14 kB each on average; of a thousand bytes, and up to `spread` more."""
    content = os.urandom(64_000)
    for number in range(files):
        folder = top / f"{number // 1000}" / f"{number // 20}"
        if number % 20 == 0:
            folder.mkdir(parents=True)
        size = 1000 + number * 7919 % spread
        (folder / f"{number}").write_bytes(content[number % 30_000 :][:size])
    return top


def change(top: Path, files: int, number: int, size: int = 14_000) -> None:
    """Write one file of a hundred anew."""
    for one in range(number % 100, files, 100):
        (top / f"{one // 1000}" / f"{one // 20}" / f"{one}").write_bytes(os.urandom(size))


class Ours:
    """A run of usbbackup, from the open drive to the result."""

    def __init__(self, engine: str, mounted: Path, source: Path, env: dict[str, str]) -> None:
        folder = mounted / f"ours-{engine}"
        folder.mkdir()
        self._place, self._env = Place(folder, mounted), env
        self._job = JobConfig(
            name="job", engine=engine, sources=(str(source),), encryption="none" if engine == "borg" else None  # type: ignore[arg-type] # one of the two
        )  # fmt: skip

    def run(self) -> float:
        """One run, in seconds."""
        clock = SystemClock()
        request = Request(
            job=self._job,
            target=self._place,
            run="bench",
            programs=SystemPrograms(clock, self._env),
            clock=clock,
            paths=Paths.of(self._env),
            stop=Stop(),
            report=lambda progress: None,
            log=lambda line: None,
        )
        start = time.monotonic()
        result = asyncio.run(perform(request))
        if not result.outcome.good:
            raise SystemExit(f"the run was no success: {result.message}")
        return time.monotonic() - start


class Bare:
    """The same steps by hand."""

    def __init__(self, engine: str, mounted: Path, source: Path, env: dict[str, str]) -> None:
        self._engine, self._folder, self._source = engine, mounted / f"bare-{engine}", source
        self._folder.mkdir()
        self._env = env | {
            "BORG_CACHE_DIR": f"{env['HOME']}/bare-cache",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        self._number = 0

    def run(self) -> float:
        """One run, in seconds."""
        self._number += 1
        start = time.monotonic()
        if self._engine == "rsync":
            self._rsync()
        else:
            self._borg()
        return time.monotonic() - start

    def _rsync(self) -> None:
        new, last = self._folder / f"{self._number}.new", self._folder / f"{self._number - 1}"
        links = [f"--link-dest={last}"] if last.exists() else []
        self._do(*RSYNC, *links, f"{self._source}/", f"{new}/")
        self._do("sync", "-f", str(self._folder))
        new.rename(self._folder / f"{self._number}")

    def _borg(self) -> None:
        repository = str(self._folder / "repository")
        if self._number == 1:
            self._do("borg", "init", "--encryption=none", repository)
        self._do("borg", "create", f"{repository}::{self._number}", str(self._source))
        self._do("sync", "-f", str(self._folder))
        self._do("borg", "info", f"{repository}::{self._number}")

    def _do(self, *command: str) -> None:
        gentle = ("nice", "ionice", "-c", "3")  # as our engines run: what else goes on weighs on both alike
        subprocess.run(
            [*gentle, *command],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="files in the tree (100000)")
    parser.add_argument("--rounds", type=int, default=5, help="runs with few changes (5)")
    _common.main(parser, measure)
