"""What an idle agent costs: the system calls of a quiet time, which should be the watchdog's; memory.

Needs strace; as root also loop devices, to measure memory again after a run of 10,000 files.
Devices and mounts of others are news for an agent, so as root the quiet time is measured in namespaces of
its own, network and mount, which udev's events and others' mounts do not reach.
"""

import argparse
import collections
import os
import re
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import _common
from _common import Figure

from demo import loop_drive
from demo.loop_drive import LoopDrive

CONFIG = """\
drives:
  - {label: usbbackup-idle, bus: any, trust: label}
jobs:
  - {name: many, engine: rsync, sources: [~/many]}
"""
# Without what is mounted now: that a mount point is removed is news wherever its mount was copied to.
LEAVE_OUT = "awk '$2 ~ \"^/(tmp|mnt|media|run/media)/\" {print $2}' /proc/self/mounts | xargs -r umount -l"
APART = ("unshare", "--net", "--mount", "--", "sh", "-c", f'{LEAVE_OUT}; exec "$@"', "sh")
FILES = 10_000
WATCHDOG = 60  # seconds; half of it is how often the agent says that it lives


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Start, rest, run, rest."""
    _common.need("strace")
    with ExitStack() as stack:
        here = stack.enter_context(_common.temporary())
        env = _common.a_home(here, CONFIG) | {"WATCHDOG_USEC": str(WATCHDOG * 1_000_000)}
        agent = stack.enter_context(_common.an_agent(env))
        figures = memory(agent.pid, "at start")
        if loop_drive.missing() is None:
            stack.enter_context(loop_drive.udevd())
            after_a_run(here, env, stack)
            figures += memory(agent.pid, f"after a run of {FILES} files")
    with _common.temporary() as here:
        env = _common.a_home(here, CONFIG) | {"WATCHDOG_USEC": str(WATCHDOG * 1_000_000)}
        with _common.an_agent(env, *(APART if os.geteuid() == 0 else ())) as agent:
            return figures + quiet(agent.pid, arguments.seconds, here / "trace")


def after_a_run(here: Path, env: dict[str, str], stack: ExitStack) -> None:
    """Let the agent back up many files."""
    many = Path(env["HOME"], "many")
    for number in range(FILES):
        folder = many / str(number // 200)
        if number % 200 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number}").write_bytes(b"x" * 100)
    drive = LoopDrive(here, label="usbbackup-idle"[:16], owner=(os.getuid(), os.getgid()), size=256 << 20)
    stack.callback(drive.close)
    with _common.client(env) as listener:
        events = listener.call_more("Watch")
        drive.plug()
        drive.mount()
        for answer in events:
            if answer["event"]["event"] == "ended":
                if answer["event"]["outcome"] != "success":
                    raise SystemExit(f"the run was no success: {answer['event']['message']}")
                return


def memory(pid: int, when: str) -> list[Figure]:
    """Resident memory, and its share after what it has in common with others is divided up."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {
        name: int(size) / 1024 for name, size in re.findall(r"^(Rss|Pss): +(\d+) kB", rollup, re.MULTILINE)
    }
    return [
        Figure(f"resident memory {when}", "MiB", found["Rss"], target=30.0),
        Figure(f"its proportional share {when}", "MiB", found["Pss"]),
    ]


def quiet(pid: int, seconds: int, trace: Path) -> list[Figure]:
    """Count the system calls of that many seconds, by name."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", trace, "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    tracer.terminate()
    tracer.wait()
    calls = collections.Counter(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    waits = calls.get("epoll_wait", 0) + calls.get("epoll_pwait", 0)
    words = trace.read_text().count("WATCHDOG=1")
    return [
        Figure(f"wake-ups in {seconds} s", "", waits),
        Figure(f"words to the watchdog in {seconds} s", "", words),
        *(Figure(f"  calls of {name}", "", count) for name, count in sorted(calls.items())),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long to watch (60)")
    _common.main(parser, measure)
