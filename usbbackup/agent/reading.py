"""Reading what the plugged-in drives hold, in the process of the command that asks; no agent is needed.

async with Reading(world) as reading:
    found = await reading.find(Wish.of("latest"))
    snapshot = await reading.open(found)          # an `opened.Opened`, until the block ends
    print(await opened.entries(snapshot, [b"home/david"]))
"""

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Self

from usbbackup.agent import desk, glance
from usbbackup.agent.world import World
from usbbackup.backup.catalogue.database import Catalogue
from usbbackup.backup.difference import Changed, changes
from usbbackup.backup.naming import Candidate, Wish, choose
from usbbackup.backup.opened import Opened, entries
from usbbackup.backup.snapshots import Ask, Reader, on, opened
from usbbackup.drives.pin import Pin
from usbbackup.drives.sighting import Sighting
from usbbackup.errors import NotNowError, UsageError, UsbbackupError
from usbbackup.text import safe


@dataclass(frozen=True)
class Held:
    """A snapshot on a drive that is held, and how to read there."""

    candidate: Candidate
    sighting: Sighting
    pin: Pin
    reader: Reader


class Reading:
    """The enrolled drives that are plugged in, held for as long as the block runs.

    `ask` is asked for the passphrase of a job where its passcommand is not known here; None: nobody knows.
    """

    def __init__(self, world: World, ask: Ask | None = None) -> None:
        self._world = world
        self._ask = ask
        self._stack = ExitStack()
        self._sightings = glance.picture(world).sightings
        self.troubles: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stack.close()

    async def find(self, wish: Wish, job: str | None = None) -> Held:
        """The snapshot that is meant. Raises UsageError, or why no drive can be read."""
        try:
            held = await self.all(wish.drive, wish.job or job)
            if not held and self.troubles:
                raise UsbbackupError(self.troubles[0])
            chosen = choose(wish, [one.candidate for one in held])
        except (UsageError, NotNowError):
            if elsewhere := self._elsewhere(wish):
                raise elsewhere from None
            raise
        return next(one for one in held if one.candidate is chosen)

    def _elsewhere(self, wish: Wish) -> NotNowError | None:
        """The drive to plug in, where it is known that another one has the snapshot."""
        if wish.time is None:
            return None
        with suppress(OSError, sqlite3.Error), closing(Catalogue.open(self._world.paths.state)) as catalogue:
            if labels := catalogue.holders(str(wish)):
                drives = " and ".join(f"'{safe(label)}'" for label in labels)
                return NotNowError(
                    f"the snapshot {wish} is on {drives}, which is not plugged in",
                    "plug it in, and run the same command again",
                )
        return None

    async def all(self, drive: str | None = None, job: str | None = None) -> list[Held]:
        """Every snapshot, in order of publishing within a job; what cannot be looked at is in `troubles`."""
        found: list[Held] = []
        for sighting in self._meant(drive):
            for pin in sighting.readable(self._world):
                found += await self._on(sighting, self._stack.enter_context(pin), job)
        return found

    async def _on(self, sighting: Sighting, pin: Pin, job: str | None) -> list[Held]:
        world, record = self._world, sighting.verdict.record
        reader = Reader(
            {config.name: config for config in world.config.jobs},
            world.programs,
            world.paths,
            world.clock,
            ask=self._ask,
            locking=record is not None and not record.read_only,
        )
        there = await on(pin, reader, job)
        self.troubles += [f"drive '{safe(sighting.name)}', {trouble}" for trouble in there.troubles]
        return [
            Held(Candidate(snapshot, sighting.name, sighting.uuid, pin.own), sighting, pin, reader)
            for snapshot in there.snapshots
        ]

    def _meant(self, word: str | None) -> Sequence[Sighting]:
        among = [desk.sighting_named(self._sightings, word)] if word else list(self._sightings)
        found = [s for s in among if s.verdict.row is not None and s.verdict.record is not None]
        if not found:
            raise desk.not_ready(among)
        return found

    async def difference(self, first: Wish, second: Wish | None) -> list[Changed]:
        """What is different in the second; where only one is named, in that since the one before it.

        Raises UsageError where there is none before it.
        """
        held = await self.find(first)
        if second is None:
            old, new = await self._before(held), held
        else:
            old, new = held, await self.find(second)
        opened = [await self.open(one) for one in (old, new)]
        before, after = [await entries(one) for one in opened]
        return list(changes(before, after))

    async def _before(self, held: Held) -> Held:
        name, job = held.candidate.snapshot.snapshot, held.candidate.snapshot.job
        same = [
            one
            for one in await self.all(held.candidate.uuid, job)
            if one.candidate.own == held.candidate.own and one.candidate.uuid == held.candidate.uuid
        ]
        place = [one.candidate.snapshot.snapshot for one in same].index(name)
        if place == 0:
            raise UsageError(f"'{name}' is the first snapshot of its job", "name another one to compare with")
        return same[place - 1]

    async def open(self, held: Held) -> Opened:
        """Open it, until the block of this reading ends."""
        if (reason := held.pin.still_there()) is not None:
            raise NotNowError(reason)
        return await opened(held.candidate.snapshot, held.pin, held.reader, self._stack)
