"""The rsync engine without snapshots: one plain copy, `<job>/mirror`, for drives that cannot keep more."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import BinaryIO

from usbbackup.backup import layout, removal
from usbbackup.backup.engine import Copied, Work
from usbbackup.backup.fitness import Fitness, probe
from usbbackup.backup.layout import Stage
from usbbackup.backup.rsync import commands, engine, leading, run
from usbbackup.backup.rsync.commands import Copy
from usbbackup.backup.walk import Group
from usbbackup.folders import closing, make_folder, open_folder
from usbbackup.offload import in_thread
from usbbackup.running import Feed

MIRROR = "mirror"
_DEEPEST = 200  # directories


class Mirror:
    """The engine of one run (engine.Engine); made anew for each."""

    def __init__(self) -> None:
        self._fitness = Fitness()
        self._wanted: set[bytes] = set()
        self._doubts: list[Stage] = []  # of earlier runs, which did not end with a sync

    async def stage(self, work: Work) -> None:
        """Find out what the drive can keep; from now on, until the sync, the copy is in doubt."""
        await work.blocking(removal.sweep, work.job_fd, work.check)
        self._doubts = await work.blocking(_doubts, work.job_fd)
        self._fitness = await work.blocking(_staged, work)
        if self._fitness.missing:
            work.request.log(f"the drive cannot keep: {', '.join(self._fitness.missing)}")

    async def transfer(self, work: Work) -> Copied:
        """Bring the copy up to date, then remove what the sources no longer hold."""
        base = leading.base_of(work.scan)
        self._wanted.update(_folded(path) for path in commands.above(base).split(b"\0"))
        await work.blocking(leading.make_way, work.job_fd, MIRROR, base)
        account = await run.run(work, self._copy(work, base), self._fitness, self._named(work, base))
        await work.blocking(self._prune, work)
        return engine.copied(account, work.scan)

    def _copy(self, work: Work, base: bytes) -> Copy:
        plain = Copy(base, MIRROR)
        match {stage.state for stage in self._doubts}:
            case states if ".lost" in states:
                work.request.log("the drive has lost some of what was written to it: all is copied anew")
                return replace(plain, anew=True)
            case states if states:
                work.request.log("the last run was cut off: what there is is compared by content")
                return replace(plain, by_content=True)
            case _:
                return plain

    async def publish(self, work: Work) -> None:
        """The copy is where it belongs, and no longer in doubt."""
        for stage in (*self._doubts, Stage(work.time)):
            await in_thread(removal.set_apart, work.job_fd, work.job_fd, stage.name)

    def seen(self) -> None:
        """None: there are no snapshots to find anything in."""

    def shelf(self, work: Work) -> None:
        """None: a mirror has no past."""

    async def prove(self, work: Work, sample: int | None) -> None:
        """Nothing: the copy is compared with its sources by every run."""

    async def tidy(self, work: Work) -> None:
        """Empty what was taken out of the copy."""
        await work.blocking(removal.sweep, work.job_fd, work.check)

    async def set_aside(self, work: Work) -> None:
        """The next run brings the copy up to date: by size and time, where what there is was synced."""
        if Stage(work.time) not in await in_thread(layout.stages, work.job_fd):
            return
        try:
            await in_thread(work.writes.sync, work.job_fd)
        except OSError:
            await in_thread(_believe_nothing, work.job_fd, Stage(work.time))
            raise
        await in_thread(_believe, work.job_fd, Stage(work.time))

    async def rehearse(self, work: Work) -> Copied:
        """Let rsync compare with the copy."""
        return await engine.rehearsed(work, [MIRROR])

    def _named(self, work: Work, base: bytes) -> Feed:
        def feed(out: BinaryIO) -> None:
            for group in self._noted(work.scan.groups()):
                out.write(commands.named(group, base))

        return feed

    def _noted(self, groups: Iterable[Group]) -> Iterator[Group]:
        for group in groups:
            self._wanted.update(_folded(name) for name in (group.directory or b"", *group.names))
            yield group

    def _prune(self, work: Work) -> None:
        with closing(open_folder(work.job_fd, MIRROR)) as top:
            self._prune_in(work, top, b"", 1)

    def _prune_in(self, work: Work, folder: int, path: bytes, depth: int) -> None:
        work.check()
        with os.scandir(folder) as found:
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        for name, directory in entries:
            below = path + b"/" + os.fsencode(name)
            match _folded(below) in self._wanted, directory:
                case True, True if depth < _DEEPEST:
                    with closing(open_folder(folder, name)) as fd:
                        self._prune_in(work, fd, below, depth + 1)
                case False, True:
                    removal.set_apart(work.job_fd, folder, name)
                case False, False:
                    os.unlink(name, dir_fd=folder)


def _folded(path: bytes) -> bytes:
    """A path as FAT may give it back: in any case, without dots and blanks at the end of a name."""
    return b"/".join(part.rstrip(b". ").lower() for part in path.split(b"/"))


def _staged(work: Work) -> Fitness:
    """The stage stays empty; it is there for as long as the copy is in doubt."""
    stage = layout.make_stage(work.job_fd, work.time)
    with closing(open_folder(work.job_fd, stage.name)) as folder:
        fitness = probe(folder)
    os.fsync(work.job_fd)
    with closing(make_folder(work.job_fd, MIRROR, 0o700)):
        return fitness


def _doubts(job: int) -> list[Stage]:
    return [stage for stage in layout.stages(job) if stage.state in ("", ".lost")]


def _believe(job: int, stage: Stage) -> None:
    os.rmdir(stage.name, dir_fd=job)


def _believe_nothing(job: int, stage: Stage) -> None:
    """Not even what is read: the kernel may show what has never reached the drive."""
    os.rename(stage.name, replace(stage, state=".lost").name, src_dir_fd=job, dst_dir_fd=job)
    os.fsync(job)
