"""How long a new snapshot takes, as a share of what plain rsync takes: --link-dest, or only a dry run.

All in turns, on one tree and one loop image; each time the same one file of a hundred has changed. Needs root
and loop devices.
"""

import argparse
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import _common
from _common import Figure, figure
from overhead import RSYNC, Ours, a_tree, change

from demo import loop_drive
from demo.loop_drive import LoopDrive
from usbbackup.backup.rsync import cloning

# What is wanted of each, as a share of `rsync --link-dest`; the first also as one of a dry run.
TARGETS = {"by the manifest": 0.20, "one process": 0.25, "rsync decides": 0.33}
COLD = 0.4
OF_DRY = 0.8


class Plain:
    """`rsync --link-dest`, sync and a rename, with the priority that ours has."""

    def __init__(self, mounted: Path, source: Path) -> None:
        self._folder, self._source, self._number = mounted / "plain", source, 0
        self._folder.mkdir()

    def run(self) -> float:
        """One snapshot, in seconds."""
        self._number += 1
        new, last = self._folder / f"{self._number}.new", self._folder / f"{self._number - 1}"
        links = [f"--link-dest={last}"] if last.exists() else []
        return timed(
            lambda: self._do(*RSYNC, *links, f"{self._source}/", f"{new}/"),
            self._sync,
            lambda: new.rename(self._folder / f"{self._number}"),
        )

    def dry(self) -> float:
        """A comparison with the last, in seconds."""
        last = self._folder / f"{self._number}"
        return timed(lambda: self._do(*RSYNC, "--dry-run", "--delete", f"{self._source}/", f"{last}/"))

    def _sync(self) -> None:
        self._do("sync", "-f", str(self._folder))

    def _do(self, *command: str) -> None:
        gentle = ("nice", "ionice", "-c", "3")
        subprocess.run([*gentle, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


class Snapshots:
    """Ours, each in a way of its own, all of one job."""

    def __init__(self, mounted: Path, source: Path, env: dict[str, str]) -> None:
        self._ours = Ours("rsync", mounted, source, env)
        self._manifests = Path(env["HOME"], ".cache/usbbackup/manifests")
        self._most = cloning.MOST

    def first(self) -> float:
        """The first, full copy."""
        return self._ours.run()

    def by_manifest(self) -> float:
        """As it is."""
        return self._ours.run()

    def one_process(self) -> float:
        """With one process to link files."""
        cloning.MOST = 1
        try:
            return self._ours.run()
        finally:
            cloning.MOST = self._most

    def by_rsync(self) -> float:
        """Where the manifest is lost."""
        for manifest in self._manifests.iterdir():
            manifest.unlink()
        return self._ours.run()


def timed(*steps: Callable[[], object]) -> float:
    """How long these take, in seconds."""
    start = time.monotonic()
    for step in steps:
        step()
    return time.monotonic() - start


def forget() -> None:
    """Empty the caches of the kernel."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """First a full copy with each, then the rounds."""
    _common.need("rsync", "nice", "ionice")
    if reason := loop_drive.missing():
        _common.skip(reason)
    with ExitStack() as stack:
        here = stack.enter_context(_common.temporary())
        env = _common.a_home(here, "jobs: []\n")
        source = a_tree(here / "source", arguments.files)
        stack.enter_context(loop_drive.udevd())
        size = (512 << 20) + arguments.files * 150_000  # room and inodes for all rounds
        drive = LoopDrive(here, label="usbbackup-bench", size=size, fs_type=arguments.fs)
        stack.callback(drive.close)
        drive.plug()
        mounted = drive.mount()
        plain, ours = Plain(mounted, source), Snapshots(mounted, source, env)
        figures = [compared("full copy", [ours.first()], [plain.run()], "rsync", 1.02)]
        return figures + rounds(arguments, source, plain, ours) + cold(arguments, source, plain, ours)


def rounds(arguments: argparse.Namespace, source: Path, plain: Plain, ours: Snapshots) -> list[Figure]:
    """Every way in each round, the order turned from round to round."""
    ways: dict[str, Callable[[], float]] = {
        "link-dest": plain.run,
        "dry run": plain.dry,
        "by the manifest": ours.by_manifest,
        "one process": ours.one_process,
        "rsync decides": ours.by_rsync,
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(arguments.rounds):
        names = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for name in names:
            change(source, arguments.files, 0)
            taken[name].append(ways[name]())
    best, bare = taken["by the manifest"], taken["link-dest"]
    return [
        *(
            compared(f"{way}, 1 % changed", taken[way], bare, "rsync --link-dest", TARGETS[way])
            for way in TARGETS
        ),
        compared("by the manifest, 1 % changed", best, taken["dry run"], "rsync --dry-run", OF_DRY),
    ]


def cold(arguments: argparse.Namespace, source: Path, plain: Plain, ours: Snapshots) -> list[Figure]:
    """The same once with nothing in memory."""
    both: list[list[float]] = []
    for run in (plain.run, ours.by_manifest):
        change(source, arguments.files, 0)
        forget()
        both.append([run()])
    return [compared("by the manifest, cold", both[1], both[0], "rsync --link-dest", COLD)]


def compared(what: str, ours: list[float], other: list[float], of: str, target: float) -> Figure:
    """Ours, against another way."""
    base = figure("", "s", other).p50
    return figure(
        what, "s", ours, ratio=figure("", "s", ours).p50 / base, of=f"{of} ({base:.2f} s)", target=target
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000, help="files in the tree (100000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of snapshots with few changes (5)")
    parser.add_argument("--fs", default="ext4", help="file system of the drive (ext4)")
    _common.main(parser, measure)
