"""Removing the snapshots that retention gives up: those of one job on one drive, of either engine."""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from usbbackup.backup import layout, removal
from usbbackup.backup.borg import commands as borg_commands
from usbbackup.backup.borg.session import Answer
from usbbackup.backup.retention import Judged, judge, removed
from usbbackup.config import Keep
from usbbackup.folders import closing, open_folder
from usbbackup.offload import in_thread

Log = Callable[[str], None]
Ask = Callable[[tuple[str, ...]], Awaitable[Answer]]  # of borg; raises unless the answer is good


class Shelf(Protocol):
    """The snapshots of one job on one drive, held by the one run that may change them."""

    async def times(self) -> list[str]:
        """What their names say of their times, in order of publishing."""
        ...

    async def remove(self, times: Sequence[str]) -> None:
        """Remove exactly these. Cut off, it leaves no half a snapshot under its name."""
        ...


async def judged(shelf: Shelf, keep: Keep | None) -> list[Judged]:
    """All of them, with the reasons why they stay; nothing is removed."""
    return judge(await shelf.times(), keep)


async def prune(shelf: Shelf, keep: Keep | None, log: Log) -> list[Judged]:
    """Remove what retention gives up; returns what was judged. Only for after a good run."""
    found = await judged(shelf, keep)
    if gone := removed(found):
        await shelf.remove(gone)
        log(f"removed by retention: {', '.join(gone)}")
    return found


@dataclass(frozen=True)
class RsyncShelf:
    """Directories: renamed aside, all of them, then emptied; what is left the next run sweeps up."""

    job_fd: int
    check: removal.Check  # raises where the drive must be let go of

    async def times(self) -> list[str]:
        """Ask the folder."""
        return await in_thread(layout.published, self.job_fd)

    async def remove(self, times: Sequence[str]) -> None:
        """On a thread: it takes as long as the drive needs."""
        await in_thread(self._remove, times)

    def _remove(self, times: Sequence[str]) -> None:
        with closing(open_folder(self.job_fd, layout.SNAPSHOTS)) as folder:
            for time in times:
                self.check()
                removal.set_apart(self.job_fd, folder, time)
            os.fsync(folder)  # no moment may find one under its name and no longer whole
            os.fsync(self.job_fd)
        removal.sweep(self.job_fd, self.check)


@dataclass(frozen=True)
class BorgShelf:
    """Archives: deleted by name in one transaction, then the repository gives back the room."""

    job: str
    job_fd: int
    ask: Ask

    async def times(self) -> list[str]:
        """Ask borg, and the folder for the order."""
        answer = await self.ask(borg_commands.list_archives(self.job))
        times = [name.rpartition("@")[2] for name in answer.archives]
        return await in_thread(layout.in_order, self.job_fd, times)

    async def remove(self, times: Sequence[str]) -> None:
        """By name, so that nothing but these can go; `borg prune` would choose by rules of its own."""
        await self.ask(borg_commands.delete(*(f"{self.job}@{time}" for time in times)))
        await self.ask(borg_commands.compact())
