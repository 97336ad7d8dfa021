"""Finding files in what is noted of the drives, and noting it anew from those that are plugged in."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from usbbackup.agent.reading import Held, Reading
from usbbackup.agent.world import World
from usbbackup.backup.catalogue.database import Catalogue, Seen
from usbbackup.backup.catalogue.listing import of_entries
from usbbackup.backup.opened import entries
from usbbackup.errors import UsbbackupError


def found(world: World, pattern: str) -> list[Seen]:
    """Every path that fits, on every drive; no drive is needed. Raises UsbbackupError."""
    with _catalogue(world) as catalogue:
        return catalogue.find(pattern)


async def rebuilt(reading: Reading, world: World) -> None:
    """Note anew what the plugged-in drives hold, by reading the lists of all their snapshots."""
    groups: dict[tuple[str, str], list[Held]] = {}
    for one in await reading.all():
        groups.setdefault((one.candidate.uuid, one.candidate.snapshot.job), []).append(one)
    with _catalogue(world) as catalogue:
        for (drive, job), held in groups.items():
            catalogue.forget(drive, job)
            for one in held:
                listings = of_entries(await entries(await reading.open(one)))
                time = one.candidate.snapshot.snapshot.rpartition("@")[2]
                catalogue.record(drive, one.candidate.drive, job, time, listings, None)


@contextmanager
def _catalogue(world: World) -> Iterator[Catalogue]:
    try:
        with closing(Catalogue.open(world.paths.state)) as catalogue:
            yield catalogue
    except (OSError, sqlite3.Error) as error:
        raise UsbbackupError(
            f"the catalogue cannot be used: {error}", "look on the drives: usbbackup ls SNAPSHOT"
        ) from error
