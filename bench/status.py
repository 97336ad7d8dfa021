"""How long the commands take that people and scripts wait for, against a Python that does nothing."""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

import _common
from _common import Figure, figure

CONFIG = "jobs:\n  - {name: home, engine: rsync, sources: [~/]}\n"
FLOOR = "python3 -c pass"
STATUS, SCRIPT = 100 / 15, 60 / 15  # milliseconds wanted where the floor takes 15


def seconds(command: list[str], env: Mapping[str, str]) -> float:
    """How long one call takes."""
    start = time.monotonic()
    subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """All commands in turns, first with an agent, then without."""
    with ExitStack() as stack:
        env = _common.a_home(stack.enter_context(_common.temporary()), CONFIG)
        commands = {
            "status --json": (_common.usbbackup("status", "--json"), SCRIPT),
            "status": (_common.usbbackup("status"), STATUS),
            "history --json": (_common.usbbackup("history", "--json"), SCRIPT),
        }
        with _common.an_agent(env):
            figures = rounds(commands, env, arguments.rounds, "")
        return figures + rounds(commands, env, arguments.rounds, ", no agent")[1:]


def rounds(
    commands: Mapping[str, tuple[list[str], float]], env: Mapping[str, str], count: int, how: str
) -> list[Figure]:
    """Each command once a round, so that all meet the same noise."""
    floor: list[float] = []
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(count + 1):
        floor.append(1000 * seconds([sys.executable, "-c", "pass"], env))
        for name, (command, _) in commands.items():
            taken[name].append(1000 * seconds(command, env))
    base = figure(FLOOR, "ms", floor[1:])  # the first round warmed the caches
    return [
        base,
        *(against(base, name + how, taken[name][1:], wanted) for name, (_, wanted) in commands.items()),
    ]


def against(base: Figure, what: str, taken: list[float], wanted: float) -> Figure:
    """A command, as so many times the floor."""
    found = figure(what, "ms", taken)
    return replace(found, ratio=found.p50 / base.p50, of=FLOOR, target=wanted)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21, help="calls of each command (21)")
    _common.main(parser, measure)
