"""The real agent, which holds still once, where a test wants it to.

gated_agent.py PHASE DIRECTORY

Before it enters that phase it makes DIRECTORY/reached, and does nothing at all until somebody has opened the
pipe DIRECTORY/go and closed it again. The phase `record` is the moment between the last look at the drive and
the entry in the history. `publish program` is the phase `publish`, when its first program is about to begin,
and `prune delete` when the first program with this word among its arguments is; `transfer /PATH` is the
moment before a program is handed this path on its list.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from usbbackup.agent import daemon
from usbbackup.agent.events import Event
from usbbackup.agent.journal import story
from usbbackup.programs import Ended, Program, Programs
from usbbackup.running import Feed


class Gate(logging.Handler):
    """Closed once: for whoever comes to the phase first."""

    def __init__(self, phase: str, directory: Path) -> None:
        super().__init__()
        self._phase, _, self._moment = phase.partition(" ")
        self._directory = directory
        self._in_phase = False

    def hear(self, event: Event) -> None:
        """Of the hub."""
        if event.progress is not None and event.progress.phase == self._phase:
            self._in_phase = True
            if not self._moment:
                self.hold()

    def emit(self, record: logging.LogRecord) -> None:
        """Of the agent's story: a run tells its end when its entry in the history is still on its way."""
        if self._phase == "record" and ": success: " in record.getMessage():
            self.hold()

    def start(self, argv: Sequence[str | bytes]) -> None:
        """Of the programs: one is held back until it is told to go."""
        if self._in_phase and self._moment in ("program", *map(os.fsdecode, argv)):
            self.hold()

    def list(self, feed: Feed | None) -> Feed | None:
        """Of the lists that programs are handed."""
        if feed is None or not self._moment.startswith("/"):
            return feed
        path = os.fsencode(self._moment) + b"\0"
        return lambda out: feed(Held(out, path, self.hold))

    def hold(self) -> None:
        """Hold whoever comes here; the first time only."""
        reached = self._directory / "reached"
        if not reached.exists():
            reached.touch()
            (self._directory / "go").read_bytes()


class Held:
    """A list on its way to a program, held before one of its paths."""

    def __init__(self, out: BinaryIO, path: bytes, hold: Callable[[], None]) -> None:
        self._out, self._path, self._hold = out, path, hold

    def write(self, records: bytes) -> None:
        """Take whole records."""
        if (at := records.find(self._path)) >= 0:
            self._out.write(records[:at])
            self._out.flush()
            self._hold()
            records = records[at:]
        self._out.write(records)


class Gated:
    """The machine's programs, each started with the gate's leave (programs.Programs)."""

    def __init__(self, programs: Programs, gate: Gate) -> None:
        self._programs, self._gate = programs, gate

    async def run(
        self, program: Program, *, on_start: Callable[[int, int], None] | None = None, **more: Any
    ) -> Ended:
        """Run it."""

        def started(pid: int, ticks: int) -> None:
            if on_start is not None:
                on_start(pid, ticks)
            self._gate.start(program.argv)

        listed = replace(program, stdin=self._gate.list(program.stdin))
        return await self._programs.run(listed, on_start=started, **more)


def main(phase: str, directory: Path) -> int:
    """Be the real agent."""
    gate = Gate(phase, directory)
    world = daemon.real_world(os.environ)
    world.programs = Gated(world.programs, gate)
    story.addHandler(gate)
    with world.hub.listening(gate.hear):
        return daemon.run(world)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
