"""Giving files back from a drive that is plugged in: found, compared, agreed to, restored."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usbbackup.agent.reading import Held, Reading
from usbbackup.backup import restore
from usbbackup.backup.entry import Entry, relative
from usbbackup.backup.naming import Wish
from usbbackup.backup.opened import Moved
from usbbackup.backup.plan import Act
from usbbackup.backup.restore import Restored
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing
from usbbackup.outcome import Stop
from usbbackup.text import safe

# Told what would be replaced, before anything is written; False where that is not wanted.
Agree = Callable[[Sequence[Entry]], bool]


@dataclass(frozen=True)
class Order:
    """What is to be given back, and where to."""

    wish: Wish
    paths: Sequence[str]  # none: everything
    to: Path | None  # None: in place
    overwrite: bool = False
    job: str | None = None


@dataclass(frozen=True)
class Given:
    """What was found, and what came of it; None where it was not agreed to."""

    held: Held
    to: Path
    restored: Restored | None


async def give_back(reading: Reading, order: Order, agree: Agree, begin: Callable[[int], Moved]) -> Given:
    """Restore; `begin` is told how many bytes that will be, and returns who is told how many there are.

    Raises UsbbackupError where it cannot be done at all.
    """
    wanted = [relative(path) for path in order.paths]
    held = await reading.find(order.wish, order.job)
    snapshot = await reading.open(held)
    to = order.to or Path("/")
    with closing(_opened(to)) as root:
        plan = await restore.prepared(snapshot, wanted, root, overwrite=order.overwrite)
        replaced = plan.with_act(Act.REPLACE, Act.ALTER)
        if order.overwrite and not agree(replaced):
            return Given(held, to, None)
        mark = f"{held.candidate.uuid} {snapshot.snapshot.snapshot}"
        moved = begin(sum(entry.size for entry in plan.with_act(Act.MAKE, Act.REPLACE)))
        done = await restore.carry_out(snapshot, plan, root, mark, stop=Stop(), moved=moved)
    if (reason := held.pin.still_there()) is not None:
        raise UsbbackupError(reason, "plug the drive in again, and run the same command again: it goes on")
    return Given(held, to, done)


def _opened(to: Path) -> int:
    try:
        to.mkdir(parents=True, exist_ok=True)
        return os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsbbackupError(f"{safe(str(to))} cannot be used: {error.strerror}") from error
