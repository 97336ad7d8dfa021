"""`verify` when a user asks for it: what the drives hold is read and compared, in the command's process."""

import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass

from usbbackup.agent.reading import Held, Reading
from usbbackup.backup import proof
from usbbackup.backup.borg.archive import Archive
from usbbackup.backup.naming import Wish
from usbbackup.backup.proof import Proof
from usbbackup.backup.rsync.checksums import Checksums
from usbbackup.backup.rsync.tree import Tree
from usbbackup.errors import NotNowError
from usbbackup.folders import closing, open_folder
from usbbackup.offload import in_thread
from usbbackup.outcome import Stop


@dataclass(frozen=True)
class Proven:
    """What came of verifying one job on one drive."""

    job: str
    drive: str  # UUID
    snapshots: tuple[str, ...]  # that were read
    proof: Proof


async def verified(
    reading: Reading, wish: Wish | None, drive: str | None, sample: int | None
) -> list[Proven]:
    """Verify one snapshot, or all of every job on the drives that are plugged in; every byte, or a sample.

    Raises UsageError where there is no such snapshot, or why no drive can be read.
    """
    if wish is not None:
        chosen = await reading.find(wish)
        same = await reading.all(chosen.candidate.uuid, chosen.candidate.snapshot.job)
        every = [one for one in same if one.pin.folder == chosen.pin.folder]
        name = chosen.candidate.snapshot.snapshot
        wanted = [one for one in every if one.candidate.snapshot.snapshot == name]
        return [await _verified(reading, wanted, every, sample)]
    groups: dict[tuple[object, ...], list[Held]] = {}
    for one in await reading.all(drive):
        snapshot = one.candidate.snapshot
        groups.setdefault((one.candidate.uuid, one.pin.folder, snapshot.job, snapshot.engine), []).append(one)
    return [await _verified(reading, group, group, sample) for group in groups.values()]


async def _verified(
    reading: Reading, wanted: Sequence[Held], every: Sequence[Held], sample: int | None
) -> Proven:
    opened = {one.candidate.snapshot.snapshot: await reading.open(one) for one in every}
    names = tuple(one.candidate.snapshot.snapshot for one in wanted)
    some = [opened[name] for name in names]
    first = wanted[0]

    def check() -> None:
        if (reason := first.pin.still_there()) is not None:
            raise NotNowError(reason, "plug the drive in again, and verify it then")

    trees = [one for one in some if isinstance(one, Tree)]
    archives = [one for one in some if isinstance(one, Archive)]
    if archives:
        known = [one for one in opened.values() if isinstance(one, Archive)]
        found = await proof.verify_archives(archives[0].session, known, Stop(), None)
    else:
        job = first.candidate.snapshot.job
        others = [one for one in opened.values() if isinstance(one, Tree)]
        with closing(open_folder(first.pin.fd, job)) as folder:
            sums = await in_thread(Checksums.read, folder)
            learn = sample is None and first.reader.locking and _ours(folder)
            found = await in_thread(
                lambda: proof.verify_trees(trees, others, sums, check, sample, learn=learn)
            )
    check()
    return Proven(first.candidate.snapshot.job, first.candidate.uuid, names, found)


def _ours(folder: int) -> bool:
    """May this process add to what is known there? Not while a run does, nor on a drive that is only read."""
    if os.fstatvfs(folder).f_flag & os.ST_RDONLY or not os.access(".", os.W_OK, dir_fd=folder):
        return False
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
