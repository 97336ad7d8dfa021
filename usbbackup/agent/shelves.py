"""What the plugged-in drives hold: their snapshots, for the command line and for scripts."""

import os
from collections.abc import AsyncIterator, Sequence
from itertools import islice

from usbbackup.agent.desk import Answer, Record, no_such_job, not_ready, sighting_named
from usbbackup.agent.world import World
from usbbackup.backup.opened import Snapshot
from usbbackup.backup.snapshots import Ask, Reader, jobs_on, on
from usbbackup.clock import rfc3339
from usbbackup.drives.sighting import Sighting

AT_ONCE = 500  # snapshots in one answer, so that any number of them goes over the socket


async def snapshots(
    world: World, sightings: Sequence[Sighting], word: str | None, job: str | None, ask: Ask | None = None
) -> AsyncIterator[Answer]:
    """What the enrolled drives hold that are plugged in, and the troubles met on the way, in several answers.

    Raises UsageError for a drive or job that nothing is known of, or why no drive can be read.
    """
    among = [sighting_named(sightings, word)] if word else list(sightings)
    readable = [s for s in among if s.verdict.row is not None and s.verdict.record is not None]
    if not readable:
        raise not_ready(among)
    jobs = {job.name: job for job in world.config.jobs}
    reader = Reader(jobs, world.programs, world.paths, world.clock, ask)
    known = set(jobs)
    for sighting in readable:
        for folder in sighting.readable(world):
            with folder as pin:
                known.update(jobs_on(pin))
                found = await on(pin, reader, job)
            records = (snapshot_record(s, sighting) for s in found.snapshots)
            while some := list(islice(records, AT_ONCE)):
                yield {"snapshots": some, "troubles": []}
            yield {"snapshots": [], "troubles": list(found.troubles)}
    if job is not None and job not in known:
        raise no_such_job(job, sorted(known))


def snapshot_record(snapshot: Snapshot, sighting: Sighting) -> Record:
    """A snapshot for scripts."""
    path = snapshot.path and os.fsencode(snapshot.path).decode("utf-8", "backslashreplace")
    return {
        "snapshot": snapshot.snapshot,
        "job": snapshot.job,
        "drive": sighting.uuid,
        "engine": snapshot.engine,
        "time": rfc3339(snapshot.time),
        "path": path,
    }
