"""How long from a drive's row in the mount table to the engine: the agent against a systemd user unit.

Each round plugs in one drive for each contestant, in turns, so that all meet the same noise. The clock of all
is one process, which wakes for the mount table (EPOLLPRI) and for a word that the script says at once.
The agent's own write probe, which the yardsticks do not make, is measured on the same drive after each plug.

Needs root, loop devices and udev; systemd for its yardstick, without which that of a bare watcher must do.
"""

import argparse
import ctypes
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import _common
import _user_manager
from _common import Figure, figure

from demo import loop_drive
from demo.loop_drive import LoopDrive
from usbbackup.drives.probe import probe

CONFIG = """\
drives:
  - {{label: {label}, bus: any, trust: label}}
jobs:
  - name: script
    engine: command
    command: [{script}]
"""
SCRIPT = "#!/bin/sh\necho {name} > {fifo}\n"
QUIET = 0.4  # seconds after udev's last event before a desktop has mounted the drive; the agent has seen it
MNT_DETACH = 2


@dataclass
class Contestant:
    """A drive of its own, what is started when it is mounted, and how long that took."""

    name: str
    drive: LoopDrive
    taken: list[float] = field(default_factory=list)  # seconds
    probes: list[float] = field(default_factory=list)


class Stopwatch:
    """Waits for a mount and for the first word of a script, and tells the time between."""

    def __init__(self, fifo: Path) -> None:
        os.mkfifo(fifo)
        self._words = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._table, select.EPOLLPRI | select.EPOLLERR)
        self._epoll.register(self._words, select.EPOLLIN)

    def time(self, drive: LoopDrive) -> float:
        """Seconds from the row's appearance to the first word of this drive's script."""
        wanted, appeared = f" {drive.mount_point} ".encode(), None
        while events := self._epoll.poll(_common.PATIENCE):
            now = time.monotonic()
            for fd, _ in sorted(events, key=lambda event: event[0] == self._words):  # the mount came first
                if fd == self._words:
                    words = os.read(self._words, 1000).split()
                    if (
                        appeared is not None and drive.name.encode() in words
                    ):  # else one left over from before
                        return now - appeared
                elif appeared is None and wanted in Path("/proc/self/mountinfo").read_bytes():
                    appeared = now
        raise SystemExit(f"nothing was started for {drive.mount_point}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--plugs", type=int, default=100, help="how often each is plugged in (100)")
    parser.add_argument("--no-systemd", action="store_true", help="only the bare watcher as yardstick")
    _common.main(parser, measure)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    if reason := loop_drive.missing():
        _common.skip(reason)
    with ExitStack() as stack:
        here = stack.enter_context(_common.temporary())
        stack.enter_context(shared(here))
        stack.enter_context(loop_drive.udevd())
        stopwatch = Stopwatch(here / "fifo")
        contestants = contest(here, stack, systemd=not arguments.no_systemd)
        for number in range(-2, arguments.plugs):
            turn = number % len(contestants)
            for contestant in contestants[turn:] + contestants[:turn]:
                plugged(contestant, stopwatch, counts=number >= 0)
        return figures(contestants)


@contextmanager
def shared(here: Path) -> Iterator[None]:
    """Have what is mounted below seen in other mount namespaces as well."""
    subprocess.run(["mount", "--bind", here, here], check=True)
    try:
        subprocess.run(["mount", "--make-shared", here], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", here], check=True)


def contest(here: Path, stack: ExitStack, *, systemd: bool) -> list[Contestant]:
    """Who is measured, each running."""

    def drive(name: str) -> LoopDrive:
        made = LoopDrive(here, name=name, label=f"bench-{name}", owner=(os.getuid(), os.getgid()))
        made.mount_point.mkdir()
        stack.callback(made.close)
        return made

    def script(drive: LoopDrive) -> Path:
        made = here / f"{drive.name}.sh"
        made.write_text(SCRIPT.format(name=drive.name, fifo=here / "fifo"))
        made.chmod(0o755)
        return made

    mine, bare = drive("agent"), drive("bare")
    env = _common.a_home(here, CONFIG.format(label="bench-agent", script=script(mine)))
    stack.enter_context(_common.an_agent(env))
    stack.enter_context(watcher(bare.mount_point, script(bare)))
    yardsticks = [Contestant("bare watcher", bare)]
    if systemd and (reason := _user_manager.missing()):
        print(f"no systemd user unit: {reason}", file=sys.stderr)
    elif systemd:
        theirs = drive("systemd")
        stack.enter_context(_user_manager.user_manager(here, theirs.mount_point, script(theirs)))
        yardsticks.insert(0, Contestant("systemd user unit", theirs))
    return [Contestant("usbbackup", mine), *yardsticks]


@contextmanager
def watcher(mount_point: Path, script: Path) -> Iterator[None]:
    """The least that could do it."""
    program = Path(__file__).with_name("_watcher.py")
    process = subprocess.Popen([sys.executable, program, mount_point, script], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def plugged(contestant: Contestant, stopwatch: Stopwatch, *, counts: bool) -> None:
    """Plug the drive in, take the time, and pull it out again."""
    drive = contestant.drive
    devnode = drive.plug()
    time.sleep(QUIET)
    mounting = Thread(target=mount, args=(devnode, drive.mount_point))  # the row is there before it returns
    mounting.start()
    seconds = stopwatch.time(drive)
    mounting.join()
    time.sleep(QUIET)  # until its run is over
    if counts:
        contestant.taken.append(seconds)
        contestant.probes += probed(drive)
    unmount(drive.mount_point)
    drive.unplug()
    time.sleep(QUIET)


def probed(drive: LoopDrive) -> list[float]:
    """Seconds of the agent's write probe on its drive; none on those of others."""
    folders = []
    for folder in drive.mount_point.glob("usbbackup/*/*"):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        before = time.monotonic()
        probe(fd, str(drive.devnode).rpartition("/")[2])
        folders.append(time.monotonic() - before)
        os.close(fd)
    return folders


def mount(devnode: Path, where: Path) -> None:
    """As mount(8) does it, but from within: no process of ours then runs beside the contestants."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(devnode), os.fsencode(where), b"ext4", 0, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), where)


def unmount(where: Path) -> None:
    """Lazily, whoever still looks at it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(where), MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), where)


def figures(contestants: list[Contestant]) -> list[Figure]:
    mine, *yardsticks = contestants
    ours = [1000 * (taken - probe) for taken, probe in zip(mine.taken, mine.probes, strict=True)]
    rows = [
        figure("usbbackup, with its write probe", "ms", [1000 * taken for taken in mine.taken]),
        figure("the write probe alone", "ms", [1000 * taken for taken in mine.probes]),
    ]
    for yardstick in yardsticks:
        theirs = figure(yardstick.name, "ms", [1000 * taken for taken in yardstick.taken])
        rows.append(theirs)
        assert theirs.p99 is not None
        against = figure("usbbackup, less the probe", "ms", ours)
        rows.append(
            figure(
                "usbbackup, less the probe",
                "ms",
                ours,
                ratio=against.p50 / theirs.p50,
                ratio_p99=_common.p99(ours) / theirs.p99,
                of=yardstick.name,
                target=1.0 if yardstick.name.startswith("systemd") else None,
            )
        )
    return rows


if __name__ == "__main__":
    main()
