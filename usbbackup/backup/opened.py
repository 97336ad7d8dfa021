"""An open snapshot, the same for both engines: what it holds, the bytes of a file, and copies of entries.

`agent/reading.py` finds a snapshot by its name and opens it. Then:

    for entry in await entries(snapshot, [b"home/david"]):  # it, all below it, and the directories above it
        ...
    await snapshot.read(b"home/david/letter.txt", sink)  # the bytes of one file
    await snapshot.copy([b"home/david/.ecryptfs"], stage)  # exact copies below an open, private directory

Paths are bytes, as in `Entry.path`: the original absolute path less its leading slash. Nothing is ever
written to a snapshot. borg that is asked for files one by one reads the list of all files for each: where
more than a few are wanted, `copy` them to a private directory and read them there.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from usbbackup.backup.entry import Entry, sound
from usbbackup.errors import UsageError
from usbbackup.outcome import Stop
from usbbackup.running import Sink
from usbbackup.text import safe

Moved = Callable[[int], None]  # told how many bytes were copied so far


@dataclass(frozen=True)
class Snapshot:
    """One restorable point in time."""

    snapshot: str  # `<job>@<time>`
    job: str
    engine: str
    time: float | None  # wall seconds; None where a borg archive is named otherwise
    path: str | None  # rsync: its directory


class Opened(Protocol):
    """A snapshot that can be read.

    Every method may raise UsbbackupError, and OSError for trouble with the drive.
    """

    snapshot: Snapshot

    async def each(self, take: Callable[[Entry], None], below: Sequence[bytes] = ()) -> None:
        """Tell every entry that is one of `below`, is in one of them or leads to one; all where it is empty.

        In no certain order, and unproven: see `entries`. `take` may be called on another thread.
        """
        ...

    async def read(self, path: bytes, sink: Sink) -> None:
        """The bytes of a file, piece by piece."""
        ...

    def same_content(self, entry: Entry, fd: int) -> bool:
        """Does an open file, which looks like the entry, have its content for certain? It may block."""
        ...

    async def copy(
        self,
        paths: Sequence[bytes],
        into: int,
        *,
        alone: Sequence[bytes] = (),
        stop: Stop | None = None,
        moved: Moved = lambda _: None,
    ) -> tuple[str, ...]:
        """Copy entries, and all that is in them, each to its own path below the open directory `into`.

        With all that belongs to them, and with the directories that lead there; `alone` are directories that
        are copied without what is in them. Where an earlier attempt left something, it is gone on from.
        Returns a sentence for each thing that could not be kept.
        """
        ...


async def entries(snapshot: Opened, below: Sequence[bytes] = ()) -> list[Entry]:
    """The entries in order, a directory before what is in it, each proven to lie in the snapshot.

    Raises UsageError where one of `below` is not there.
    """
    found: list[Entry] = []
    await snapshot.each(found.append, below)
    there = sound(found)
    paths = {entry.path for entry in there}
    for path in below:
        if path and path not in paths:
            raise UsageError(
                f"'/{safe(path)}' is not in the snapshot {snapshot.snapshot.snapshot}",
                f"see what is: usbbackup ls {snapshot.snapshot.snapshot}",
            )
    return there


def untouched(snapshot: Snapshot, fd: int) -> bool:
    """Has nothing about an open file changed since the snapshot was begun? Nobody can set that time back."""
    return snapshot.time is not None and os.fstat(fd).st_ctime < snapshot.time
