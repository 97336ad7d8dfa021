"""What a restore would do: each entry of the snapshot beside what stands in its place now."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from usbbackup import kernel
from usbbackup.backup.entry import Entry, Kind, is_below, outermost
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing, open_below
from usbbackup.text import safe

# How exactly file systems keep times, in nanoseconds: ext4 and its like, NTFS, whole seconds, FAT.
_UNITS = (1, 100, 1000, 10**9, 2 * 10**9)

SameContent = Callable[[Entry, int], bool]  # an entry, and the open file in its place


class Act(StrEnum):
    """What becomes of one entry."""

    MAKE = "make"  # nothing is there
    REPLACE = "replace"  # something else is there, and is to give way
    ALTER = "alter"  # the directory is there; its mode, owner, times and attributes are to be as they were
    SAME = "same"  # it is there already
    KEEP = "keep"  # something else is there, and stays


class Place(NamedTuple):
    """Where things can be renamed to from each other: one mount, one file system."""

    mount: int
    device: int


class Top(NamedTuple):
    """An entry to be put in place with all that is in it; its directory is there."""

    entry: Entry
    act: Act
    place: Place


@dataclass
class Plan:
    """What is to be done below one directory."""

    acts: dict[bytes, Act] = field(default_factory=dict)  # by path, in order
    tops: list[Top] = field(default_factory=list)
    entries: Sequence[Entry] = ()
    wanted: Sequence[bytes] = ()
    alike: set[bytes] = field(default_factory=set)  # directories that are there as they were

    def with_act(self, *acts: Act) -> list[Entry]:
        """The entries of which this becomes."""
        return [entry for entry in self.entries if self.acts[entry.path] in acts]

    def trees(self, tops: Iterable[Top]) -> list[bytes]:
        """What has to be copied, with all that is in it; directories that only lead there come along."""
        found: list[bytes] = []
        for top in tops:
            path = top.entry.path
            whole = not self.wanted or is_below(path, self.wanted)
            found += [path] if whole else [below for below in self.wanted if is_below(below, {path})]
        return outermost(found)

    def room(self, place: Place) -> int:
        """Bytes that are needed at least in a place; names of one file count once."""
        there = {top.entry.path: top.place for top in self.tops}
        seen: set[bytes] = set()
        total, within = 0, None
        for entry in self.with_act(Act.MAKE, Act.REPLACE):
            within = there.get(entry.path, within)  # what is in a top follows it
            if within == place and not (entry.node and entry.node in seen):
                seen.add(entry.node)
                total += entry.room
        return total


def plan(
    entries: Sequence[Entry],
    wanted: Sequence[bytes],
    root: int,
    *,
    overwrite: bool,
    same_content: SameContent,
) -> Plan:
    """Compare entries, in order, with what is below the open directory `root`; nothing is written.

    Entries that are not among the `wanted` only lead there: where such a directory exists it stays as it is.
    """
    made = Plan(entries=entries, wanted=wanted)
    for parent, group in groupby(_by_parent(entries), key=lambda entry: entry.parent):
        match made.acts.get(parent, Act.SAME):
            case Act.KEEP:
                made.acts.update((entry.path, Act.KEEP) for entry in group)
            case Act.MAKE | Act.REPLACE:
                made.acts.update((entry.path, Act.MAKE) for entry in group)
            case _:
                with closing(_opened(root, parent)) as folder:
                    judge = _Judge(folder, wanted, overwrite, same_content)
                    _add(made, folder, [(entry, judge.act(entry)) for entry in group])
                made.alike |= judge.alike
    return made


def _by_parent(entries: Iterable[Entry]) -> Iterator[Entry]:
    """A directory's own entries together, after the directory itself."""
    return iter(sorted(entries, key=lambda entry: (entry.parent.split(b"/"), entry.path)))


def _add(made: Plan, folder: int, judged: list[tuple[Entry, Act]]) -> None:
    made.acts.update((entry.path, act) for entry, act in judged)
    doing = [(entry, act) for entry, act in judged if act in (Act.MAKE, Act.REPLACE, Act.ALTER)]
    if doing:
        place = Place(kernel.mount_id(folder), os.fstat(folder).st_dev)
        made.tops += [Top(entry, act, place) for entry, act in doing]


def _opened(root: int, path: bytes) -> int:
    try:
        return open_below(root, path)
    except PermissionError as error:
        raise UsbbackupError(
            f"you may not look into '{safe(path)}' where it is to be restored", "do it as root, with sudo"
        ) from error


@dataclass(frozen=True)
class _Judge:
    folder: int
    wanted: Sequence[bytes]
    overwrite: bool
    same_content: SameContent
    alike: set[bytes] = field(default_factory=set)

    def act(self, entry: Entry) -> Act:
        name = entry.path.rpartition(b"/")[2]
        try:
            there = os.lstat(name, dir_fd=self.folder)
        except FileNotFoundError:
            return Act.MAKE
        kind = Kind.of(there.st_mode)
        if kind is not entry.kind:  # a directory is never removed for something else
            return Act.REPLACE if self.overwrite and kind is not Kind.DIRECTORY else Act.KEEP
        if kind is Kind.DIRECTORY:
            return self._directory(entry, there)
        if _alike(entry, there) and self._same(entry, name):
            return Act.SAME
        return Act.REPLACE if self.overwrite else Act.KEEP

    def _directory(self, entry: Entry, there: os.stat_result) -> Act:
        if _alike(entry, there):
            self.alike.add(entry.path)
            return Act.SAME
        leads = entry.made_up or (bool(self.wanted) and not is_below(entry.path, self.wanted))
        return Act.ALTER if self.overwrite and not leads else Act.SAME

    def _same(self, entry: Entry, name: bytes) -> bool:
        if entry.kind is Kind.SYMLINK:
            return os.readlink(name, dir_fd=self.folder) == entry.target
        if entry.kind is not Kind.FILE:
            return True
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.folder)
        except PermissionError:
            return True
        with closing(fd):  # what is not to be replaced need not be read
            return not self.overwrite or self.same_content(entry, fd)


def _alike(entry: Entry, there: os.stat_result) -> bool:
    """Does what stands there look like the entry? Who owns it counts where that can be changed."""
    return (
        (entry.kind is not Kind.FILE or there.st_size == entry.size)
        and (entry.kind is Kind.SYMLINK or stat.S_IMODE(there.st_mode) == entry.mode)
        and (os.geteuid() != 0 or (there.st_uid, there.st_gid) == (entry.uid, entry.gid))
        and same_time(there.st_mtime_ns, entry.mtime_ns)
    )


def same_time(kept: int, wanted: int) -> bool:
    """Is it the same time, as exactly as the file system keeps times?

    >>> same_time(1_000_000_100, 1_000_000_123), same_time(1_000_000_101, 1_000_000_123)
    (True, False)
    """
    return any(kept % unit == 0 and abs(kept - wanted) < unit for unit in _UNITS)
