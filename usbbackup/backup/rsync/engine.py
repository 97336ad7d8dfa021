"""The rsync engine: each snapshot a plain directory, its unchanged files hard links to the last one's.

What is copied is decided by the manifest of the last snapshot, or by rsync: `ways`. The log says which.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import BinaryIO, TypeVar

from usbbackup.backup import layout, removal, subvolume
from usbbackup.backup.engine import Copied, Work, failed
from usbbackup.backup.fitness import Fitness, probe
from usbbackup.backup.layout import Stage
from usbbackup.backup.manifest import Manifest, Recorder
from usbbackup.backup.opened import Snapshot
from usbbackup.backup.proof import Proof, drill
from usbbackup.backup.prune import RsyncShelf, Shelf
from usbbackup.backup.rsync import commands, leading, remembered, run
from usbbackup.backup.rsync.checksums import Checksums
from usbbackup.backup.rsync.commands import Copy
from usbbackup.backup.rsync.log import Account, Kind
from usbbackup.backup.rsync.room import TooSmall
from usbbackup.backup.rsync.tree import Tree
from usbbackup.backup.rsync.ways import Transfer
from usbbackup.backup.scan import Scan
from usbbackup.folders import closing, open_folder
from usbbackup.offload import in_thread
from usbbackup.running import Feed
from usbbackup.text import safe

T = TypeVar("T")

_AT_MOST = 15  # folders to link from; rsync allows twenty
_LEAST_ROOM = 32 << 20  # bytes; a drive with less than half of it, or of this, counts as full before a run
_LEAST_INODES = 200


@dataclass(frozen=True)
class Links:
    """Where unchanged files can be linked from."""

    folders: tuple[str, ...] = ()  # in the job's folder, the best first
    by_content: bool = False  # size and time prove nothing there: compare checksums


class Rsync:
    """The engine of one run (engine.Engine); made anew for each."""

    def __init__(self) -> None:
        self._fitness = Fitness()
        self._links = Links()
        self._before: Manifest | str = "nobody has looked yet"
        self._recorder = Recorder(0)
        self._too_small = False  # the drive, for all of it
        self._seed: str | None = None  # the stage is a copy of this folder, and shares no file with it
        self._complete = False  # all that the manifest tells of is in the stage

    async def stage(self, work: Work) -> None:
        """A fresh directory: through the links in a used one rsync would change older snapshots."""
        await work.blocking(_drop_unproven, work)
        self._links = await work.blocking(links, work.job_fd)
        self._fitness = await work.blocking(_staged, work)
        await work.blocking(layout.announce, work.job_fd, work.time)  # while there is little to sync with it
        self._seed = await work.blocking(_seeded, work, self._fitness, self._links.folders)
        self._before = await work.blocking(remembered.recall, work)
        if self._seed not in (None, *self._links.folders[:1]):
            self._before = "the last run was cut off"
        self._recorder = Recorder(self._began(work))
        for line in self._decided():
            work.request.log(line)

    def _decided(self) -> list[str]:
        """Which way, and why, for the log."""
        how = "content" if self._links.by_content else "size and time"
        if self._seed is not None:
            by = "its manifest" if isinstance(self._before, Manifest) else f"rsync: {self._before}"
            return [f"{self._seed} is copied as a whole, by btrfs; what changed is said by {by}"]
        also = [
            f"what is the same in {folder}, by {how}, is linked and not copied"
            for folder in self._links.folders
        ]
        if isinstance(self._before, Manifest):
            return [
                f"what looks as it did for {self._links.folders[0]} is linked; rsync gets the rest",
                *also[1:],
            ]
        return [f"rsync compares everything: {self._before}", *also]

    async def transfer(self, work: Work) -> Copied:
        """Copy what changed, link what did not; then see to the directories that lead to the sources."""
        stage, base = Stage(work.time).name, leading.base_of(work.scan)
        await work.blocking(leading.make_way, work.job_fd, stage, base)
        folders = tuple(folder for folder in self._links.folders if leading.has(work.job_fd, folder, base))
        if self._seed is not None:
            folders = ()
        tree = Copy(base, stage, folders, self._links.by_content)
        transfer = Transfer(work, tree, self._fitness, self._recorder, self._seed is not None)
        try:
            account = await self._transferred(transfer)
        except TooSmall:
            self._too_small = True
            raise
        led = await work.blocking(leading.dress, work, stage, self._fitness)
        self._complete = not (account.missed or led)
        return copied(account, work.scan, self._recorder.bytes, led)

    async def _transferred(self, transfer: Transfer) -> Account:
        work = transfer.work
        last = self._links.folders[:1] if self._seed is None else (self._seed,)
        whole = self._seed is not None or (
            self._fitness == Fitness() and not self._links.by_content and last == transfer.tree.links[:1]
        )
        match self._before:
            case Manifest() as before if whole:
                return await transfer.by_manifest(last[0], before)
            case _ if whole and last:
                if (account := await transfer.by_comparison(last[0])) is not None:
                    return account
                work.request.log("rsync could not compare all of it, and begins anew")
                await work.blocking(_start_anew, work, transfer.tree)
                self._recorder = Recorder(self._began(work))
                return await replace(transfer, recorder=self._recorder, seeded=False).by_rsync()
            case _:
                return await transfer.by_rsync()

    def _began(self, work: Work) -> int:
        return int(work.request.clock.now() * 1e9)

    async def publish(self, work: Work) -> None:
        """One rename makes it a snapshot."""
        await in_thread(layout.publish, work.job_fd, Stage(work.time))

    def seen(self) -> Manifest:
        """What the walk has noted."""
        return Manifest(self._recorder.flush())

    def shelf(self, work: Work) -> Shelf:
        """Its directories."""
        return RsyncShelf(work.job_fd, work.check)

    async def prove(self, work: Work, sample: int | None) -> Proof | None:
        """Note the checksums of what is new, while memory still holds it; restore, and compare with them."""
        snapshot = Snapshot(work.snapshot, work.request.job.name, "rsync", None, None)
        sums = await work.blocking(Checksums.read, work.job_fd)
        with Tree(snapshot, work.job_fd, work.request.programs) as tree:
            await work.blocking(sums.complete, tree, work.check)
            if sample is None:
                return None
            return await drill(tree, sample, work.drill, work.check, sums.of, work.request.stop)

    async def tidy(self, work: Work) -> None:
        """Keep what the sources looked like for the next run, and remove the stages of earlier ones."""
        if self._complete and self._fitness == Fitness():
            try:
                await work.blocking(self._remember, work)
            except OSError as error:
                work.request.log(
                    f"the next run will be slower, its manifest could not be kept: {error.strerror}"
                )
        await work.blocking(_drop, work, layout.stages(work.job_fd))

    def _remember(self, work: Work) -> None:
        before = self._before.binding["unchecked"] + 1 if isinstance(self._before, Manifest) else 0
        binding = remembered.binding(work, work.time, before) | {"files": self._recorder.files}
        remembered.keep(work, self._recorder.seal(binding))

    async def set_aside(self, work: Work) -> None:
        """Keep what was copied for the next run to link from, proven to be on the disk.

        Not on a drive that is full of it: no run could begin there any more. Nor where nothing was copied.
        Where the drive has lost writes, nobody knows whose: the kernel would go on showing all of them.
        """
        stage, stages = Stage(work.time), await in_thread(layout.stages, work.job_fd)
        if stage not in stages:
            return
        if self._too_small or not await in_thread(_has_room, work.job_fd):  # a sync could take all the time
            await in_thread(_drop, work, [stage], lambda: None)  # though the run was asked to stop
        elif not await _is_synced(work):
            await in_thread(_drop, work, _unproven(stages), lambda: None)
        else:
            layout.mark_synced(work.job_fd, stage)

    async def rehearse(self, work: Work) -> Copied:
        """Let rsync compare with the last snapshot."""
        return await rehearsed(work, [_snapshot(time) for time in layout.published(work.job_fd)[-1:]])


async def rehearsed(work: Work, folders: list[str]) -> Copied:
    """What rsync would copy into one of these folders, or into a directory that is not there."""
    base = leading.base_of(work.scan)
    known = [folder for folder in folders if leading.has(work.job_fd, folder, base)]
    what = Copy(base, known[0], dry=True) if known else Copy(b"/", Stage(work.time).name, dry=True)
    account = await run.run(work, what, Fitness(), named(work.scan, what.base))
    return replace(copied(account, work.scan), bytes=account.copied_bytes, files=account.copied)


def named(scan: Scan, base: bytes) -> Feed:
    """The names of a scan, for rsync."""

    def feed(out: BinaryIO) -> None:
        for group in scan.groups():
            out.write(commands.named(group, base))

    return feed


def copied(account: Account, scan: Scan, size: int | None = None, led: Sequence[str] = ()) -> Copied:
    """What there is to tell of a transfer; `size` of the sources, `led` what the way to them lacks."""
    return Copied(
        account.total_bytes if size is None else size,
        scan.files,
        (*account.lines(Kind.MISSED), *led),
        account.lines(Kind.CHANGED),
        account.missed + len(led),
    )


def links(job: int) -> Links:
    """Where to link from: the last snapshot, and stages that were left in order.

    Of any other stage size and time may be on the disk without the data. Where there is no snapshot it is
    still worth comparing with.
    """
    stages = [stage for stage in reversed(layout.stages(job)) if stage.state != ".removed"]
    match layout.published(job)[-1:]:
        case [last]:
            synced = [stage.name for stage in stages if stage.state == ".synced"]
            return Links((_snapshot(last), *synced)[:_AT_MOST])
        case _:
            return Links(tuple(stage.name for stage in stages)[:_AT_MOST], by_content=bool(_unproven(stages)))


def _snapshot(time: str) -> str:
    return f"{layout.SNAPSHOTS}/{time}"


def _staged(work: Work) -> Fitness:
    stage = layout.make_stage(work.job_fd, work.time)
    with closing(open_folder(work.job_fd, stage.name)) as folder:
        fitness = probe(folder)
    if not (fitness.hard_links and fitness.symlinks):
        os.rmdir(stage.name, dir_fd=work.job_fd)
        facts = work.request.target.facts
        raise failed(
            f"snapshots need hard links and symbolic links, which the drive '{safe(facts.name)}' "
            f"({facts.fs_type}) cannot keep",
            "use the borg engine, or write `layout: mirror` for a plain copy without snapshots",
        )
    if fitness.missing:
        work.request.log(f"the drive cannot keep: {', '.join(fitness.missing)}")
    return fitness


def _seeded(work: Work, fitness: Fitness, folders: Sequence[str]) -> str | None:
    """On btrfs make the stage a subvolume: a copy of the folder that came furthest, which is returned.

    None where it is empty, or a plain directory because what it follows is one: hard links cannot lead from
    one subvolume into another.
    """
    if fitness != Fitness() or not subvolume.possible(work.job_fd):
        return None
    cut_off_last = bool(folders) and folders[0].startswith(layout.SNAPSHOTS)
    order = (*folders[1:], folders[0]) if cut_off_last else folders
    seed = next((folder for folder in order if _in_folder(work.job_fd, folder, subvolume.is_one)), None)
    if folders and seed is None:
        return None
    stage = Stage(work.time).name
    os.rmdir(stage, dir_fd=work.job_fd)
    try:
        if seed is None:
            subvolume.create(work.job_fd, stage)
        else:
            _in_folder(work.job_fd, seed, lambda fd: subvolume.copy(fd, work.job_fd, stage))
    except OSError as error:
        work.request.log(f"without subvolumes of btrfs: {error.strerror}")
        layout.make_stage(work.job_fd, work.time)
        return None
    with closing(open_folder(work.job_fd, stage)) as top:
        os.fchmod(top, 0o700)
    return seed


def _in_folder(job: int, folder: str, act: Callable[[int], T]) -> T:
    with ExitStack() as opened:
        fd = job
        for name in folder.split("/"):
            fd = opened.enter_context(closing(open_folder(fd, name)))
        return act(fd)


def _start_anew(work: Work, tree: Copy) -> None:
    """Another empty stage in the place of this one."""
    removal.set_apart(work.job_fd, work.job_fd, tree.to)
    layout.make_stage(work.job_fd, work.time)
    _seeded(work, Fitness(), ())
    leading.make_way(work.job_fd, tree.to, tree.base)


async def _is_synced(work: Work) -> bool:
    try:
        await in_thread(work.writes.sync, work.job_fd)
    except OSError as error:
        work.request.log(f"the drive has lost some of what was copied, which is removed: {error.strerror}")
        return False
    return True


def _drop_unproven(work: Work) -> None:
    """With a snapshot to link from, a stage that was not left in order is of no use."""
    _drop(work, _unproven(layout.stages(work.job_fd)) if layout.published(work.job_fd) else [])


def _unproven(stages: list[Stage]) -> list[Stage]:
    return [stage for stage in stages if stage.state != ".synced"]


def _has_room(job: int) -> bool:
    about = os.statvfs(job)
    inodes = about.f_favail >= _LEAST_INODES or about.f_files == 0  # btrfs and FAT count none
    return inodes and about.f_bavail * about.f_frsize >= _LEAST_ROOM


def _drop(work: Work, stages: list[Stage], check: removal.Check | None = None) -> None:
    for stage in stages:
        if stage.state != ".removed":
            removal.set_apart(work.job_fd, work.job_fd, stage.name)
    removal.sweep(work.job_fd, check or work.check)
