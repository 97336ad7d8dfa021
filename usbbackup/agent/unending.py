"""Processes that even SIGKILL does not end, since a drive and the kernel hang: a run tells of them."""

from collections.abc import Callable
from dataclasses import replace

from usbbackup.outcome import Result, Stop
from usbbackup.programs import Ended, Program, Programs
from usbbackup.running import Sink


class Remembering:
    """The programs of one run, and which processes of theirs are still there."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._left: list[int] = []

    async def run(
        self,
        program: Program,
        *,
        stop: Stop,
        on_stdout: Sink | None = None,
        on_stderr: Sink | None = None,
        on_start: Callable[[int, int], None] | None = None,
    ) -> Ended:
        """As the programs themselves do."""
        ended = await self._programs.run(
            program, stop=stop, on_stdout=on_stdout, on_stderr=on_stderr, on_start=on_start
        )
        self._left += ended.left
        return ended

    def told(self, result: Result) -> Result:
        """The result of the run, and what it has left behind."""
        if not self._left:
            return result
        one = len(self._left) == 1
        who = f"process{'' if one else 'es'} {', '.join(map(str, self._left))}"
        return replace(
            result,
            message=f"{result.message}; {who} did not end, not even by SIGKILL: the drive hangs",
            hint=f"unplug the drive, then {'it goes' if one else 'they go'}; restart the computer if not",
        )
