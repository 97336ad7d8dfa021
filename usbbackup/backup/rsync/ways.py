"""The ways of filling a stage; each walks the sources once, and notes what everything looks like.

by_manifest    what looks as it did is linked by ourselves, rsync gets the rest
by_comparison  rsync compares with the last snapshot and writes nothing, while all of that is linked; what
               differs is taken out again, and rsync gets it
by_rsync       rsync gets everything, and links by itself (--link-dest); slow, and needs nothing
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from usbbackup.backup.engine import Doubtful, Over, Work
from usbbackup.backup.fitness import Fitness
from usbbackup.backup.manifest import Manifest, Recorder
from usbbackup.backup.rsync import clone, cloning, commands, room, run
from usbbackup.backup.rsync.clone import Order
from usbbackup.backup.rsync.cloning import Course, Filled, Wish
from usbbackup.backup.rsync.commands import Copy
from usbbackup.backup.rsync.log import Account
from usbbackup.backup.rsync.refresh import refresh
from usbbackup.backup.rsync.room import Amount
from usbbackup.backup.walk import Group, inside
from usbbackup.files import Held, nameless
from usbbackup.outcome import Outcome
from usbbackup.running import Feed

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Transfer:
    """One transfer into a stage that is empty but for the directories that lead to the sources."""

    work: Work
    tree: Copy
    fitness: Fitness
    recorder: Recorder
    seeded: bool = False  # the stage is a copy of the last snapshot and shares no file with it: refresh
    singles: list[bytes] = field(default_factory=list)  # sources that are single files

    async def by_manifest(self, last: str, before: Manifest) -> Account:
        """`before` is the manifest of the snapshot in the folder `last`."""
        order, course = self._order(last), Course()
        there = await self.work.blocking(room.free, self.work.job_fd)  # before anything is made there
        if self.seeded:
            await self.work.blocking(self._look, course, before, there)
            return await self._refreshed(order, before)
        files = before.binding.get("files", 0)
        cloned = asyncio.ensure_future(self._cloned(order, course, before, files))
        try:
            await self.work.blocking(self._look, course, before, there)
            return await self._rest(order, await cloned)
        finally:
            cloned.cancel()
            await asyncio.gather(cloned, return_exceptions=True)  # nobody writes to the stage any more

    async def by_comparison(self, last: str) -> Account | None:
        """None where rsync could not compare all of it: then the stage has to be made anew."""
        order, course = self._order(last), Course()
        compared = Copy(self.tree.base, last, by_content=self.tree.by_content, itemized=True)
        files = sum(seen.files for seen in self.work.request.last.values()) or cloning.FEW + 1  # nobody knows
        cloned = asyncio.ensure_future(self._cloned(order, course, None, files))
        try:
            heard = await run.run(self.work, compared, self.fitness, self._followed(course))
            filled = await cloned
        except Doubtful:
            raise
        except Over as over:
            if over.result.outcome is not Outcome.FAILED:
                raise
            return None
        finally:
            course.break_off()  # rsync may not even have begun
            cloned.cancel()
            await asyncio.gather(cloned, return_exceptions=True)  # nobody writes to the stage any more
        if heard.missed:
            return None
        base = inside(self.tree.base)
        differing = sorted({base + name for name in heard.differing if name != b"."})
        if self.seeded:
            return await self._refreshed(order, None, differing)
        await self.work.blocking(self._leave_to_rsync, order, differing)
        filled.linked, filled.listed = filled.linked - len(differing), filled.listed + len(differing)
        return await self._rest(order, filled)

    async def by_rsync(self) -> Account:
        """Everything."""

        def feed(out: BinaryIO) -> None:
            for group in self._walk():
                out.write(commands.named(group, self.tree.base))
            self._judge_room(None, room.free(self.work.job_fd))  # rsync waits for the end of its list

        return await run.run(self.work, self.tree, self.fitness, feed)

    def _judge_room(self, before: Manifest | None, there: Amount) -> None:
        """Raise `TooSmall`. What else is linked from may have it all: then nobody knows."""
        if self.seeded or len(self.tree.links) == (before is not None):
            room.check(self.work, self.recorder, before, there)

    async def _cloned(self, order: Order, course: Course, before: Manifest | None, files: int) -> Filled:
        if self.seeded:
            return Filled()
        wish = Wish(order, self.recorder.file, course, before, self.singles, files)
        return await cloning.cloned(self.work, wish)

    def _order(self, last: str) -> Order:
        start = len(inside(self.tree.base))
        return Order(self.work.job_fd, self.tree.to, last, start, nameless(), nameless(), self.seeded)

    async def _refreshed(
        self, order: Order, before: Manifest | None, differing: Sequence[bytes] = ()
    ) -> Account:
        self.recorder.flush()
        await self.work.blocking(self._refresh, order, before, differing)
        return await self._rest(order)

    def _refresh(self, order: Order, before: Manifest | None, differing: Sequence[bytes]) -> None:
        refresh(order, Manifest(self.recorder.file), before, self.singles, differing)

    def _leave_to_rsync(self, order: Order, paths: list[bytes]) -> None:
        clone.leave_to_rsync(order, Manifest(self.recorder.file), paths)

    async def _rest(self, order: Order, filled: Filled | None = None) -> Account:
        """Let rsync copy, or link, what is on the list."""
        tree = self.tree
        if filled is not None:
            self.work.request.log(f"{filled.linked} linked, {filled.listed} left to rsync")
            if not filled.alike and len(tree.links) == 1:
                tree = replace(tree, links=())  # rsync is slow where it may have to look there
        if not os.fstat(order.listed.fd).st_size:
            return Account()
        copying = run.run(self.work, tree, self.fitness, contents(order.listed))
        many = filled is not None and filled.linked > cloning.FEW
        return await (self._while_syncing(copying) if many else copying)

    async def _while_syncing(self, copying: Coroutine[None, None, Account]) -> Account:
        """Let the drive begin with the many links while rsync is at work."""
        syncing = asyncio.ensure_future(self.work.sync())
        try:
            account = await copying
            await syncing
            return account
        finally:
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)  # what was lost `work.writes` knows

    def _look(self, course: Course, before: Manifest, there: Amount) -> None:
        """Walk, and tell those who follow how far it is."""
        with course:
            for _ in self._walk():
                course.reach(self.recorder.reached)
            self._judge_room(before, there)
            self.recorder.flush()
            course.reach(self.recorder.reached)

    def _walk(self) -> Iterator[Group]:
        for group in self.work.scan.groups(closely=True):
            self.recorder.add(group)
            if group.directory is None:
                self.singles.extend(group.names)
            yield group

    def _followed(self, course: Course) -> Feed:
        """All names, for rsync, and for those who follow the walk."""

        def feed(out: BinaryIO) -> None:
            with course:
                for group in self._walk():
                    out.write(commands.named(group, self.tree.base))
                    course.reach(self.recorder.reached)
                self.recorder.flush()
                course.reach(self.recorder.reached)

        return feed


def contents(file: Held) -> Feed:
    """What is in a file, for rsync."""

    def feed(out: BinaryIO) -> None:
        at = 0
        while chunk := os.pread(file.fd, _CHUNK, at):
            at += len(chunk)
            out.write(chunk)

    return feed
