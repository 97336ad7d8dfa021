"""How time and memory of a snapshot by rsync grow with the number of files.

Ten times as many should take ten times as long. Small files, on a loop image; each run is a process of its
own, so that its memory can be told. Needs root and loop devices.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import _common
from _common import Figure, figure
from overhead import Ours, a_tree, change

from demo import loop_drive
from demo.loop_drive import LoopDrive

TIMES = 10
LINEAR = 1.2  # the time for each file, among ten times as many
MEMORY = 300.0  # MB, of the largest process
SMALL = 1000  # bytes; and up to twice as many


@dataclass(frozen=True)
class Grown:
    """What the runs with so many files took."""

    first: float  # seconds
    later: list[float]  # with one file of a hundred changed
    memory: float  # MB


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """The same with few files and with many."""
    _common.need("rsync")
    if reason := loop_drive.missing():
        _common.skip(reason)
    few, many = (grown(files, arguments.rounds) for files in (arguments.files // TIMES, arguments.files))
    return [
        compared(f"full copy of {arguments.files} files", [few.first], [many.first]),
        compared(f"{arguments.files} files, 1 % changed", few.later, many.later),
        figure("the largest process", "MB", [many.memory], target=MEMORY),
    ]


def compared(what: str, few: list[float], many: list[float]) -> Figure:
    """The time for each file, against that with few."""
    ratio = figure("", "s", many).p50 / figure("", "s", few).p50 / TIMES
    return figure(what, "s", many, ratio=ratio, of="as long for each file as with a tenth", target=LINEAR)


def grown(files: int, rounds: int) -> Grown:
    """Runs over so many files."""
    with ExitStack() as stack:
        here = stack.enter_context(_common.temporary())
        env = _common.a_home(here, "jobs: []\n")
        source = a_tree(here / "source", files, SMALL)
        stack.enter_context(loop_drive.udevd())
        drive = LoopDrive(here, label="usbbackup-bench", size=(512 << 20) + files * 20_000)
        stack.callback(drive.close)
        drive.plug()
        ours = Ours("rsync", drive.mount(), source, env)
        first, memory = alone(ours.run)
        later = []
        for _ in range(rounds):
            change(source, files, 0, SMALL)
            os.sync()
            taken, most = alone(ours.run)
            later.append(taken)
            memory = max(memory, most)
        return Grown(first, later, memory)


def alone(run: Callable[[], float]) -> tuple[float, float]:
    """Seconds, and MB of the largest of the processes: a child that runs it, and what that starts."""
    start = time.monotonic()
    if not (child := os.fork()):
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - a child that was forked ends here
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit("a run went wrong")
    return time.monotonic() - start, used.ru_maxrss / 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000, help="files in the larger tree (1000000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds with few changes (3)")
    _common.main(parser, measure)
