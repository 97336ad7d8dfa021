"""The folder of one job on a drive: its stages, its snapshots, and the order in which they were published.

<job>/snapshots/<time>/           published; a directory is renamed to here when it is whole and synced
<job>/incomplete-<time>           a stage: being filled, or left by a run that was cut off; empty by a mirror
<job>/incomplete-<time>.synced    a stage left by a run that ended in order: its files are on the disk
<job>/incomplete-<time>.lost      empty: what was written to the mirror then was lost, at least some of it
<job>/incomplete-<time>.removed   on its way out
<job>/published                   the times of all snapshots, oldest first
"""

import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Self

from usbbackup.clock import compact_utc, from_compact_utc
from usbbackup.folders import closing, in_the_way, make_folder, names_in, open_folder

SNAPSHOTS = "snapshots"
_ORDER = "published"
_STAGE = re.compile(r"incomplete-(\d{4}-\d{2}-\d{2}T\d{6}Z)(\.synced|\.lost|\.removed)?", re.ASCII)
_LONGEST_ORDER = 1 << 20  # bytes; enough for fifty thousand snapshots
_REMEMBERED = 20_000  # snapshots


@dataclass(frozen=True)
class Stage:
    """A directory that is no snapshot yet, or no longer."""

    time: str
    state: str = ""  # as above

    @property
    def name(self) -> str:
        """The name of the directory."""
        return f"incomplete-{self.time}{self.state}"

    @classmethod
    def named(cls, name: str) -> Self | None:
        """The stage that has this name; None where the name is no stage's."""
        match = _STAGE.fullmatch(name)
        return cls(match[1], match[2] or "") if match and is_time(match[1]) else None


def published(job: int) -> list[str]:
    """The times of the rsync snapshots that are there, in the order they were published."""
    return in_order(job, _times(job))


def in_order(job: int, times: Iterable[str]) -> list[str]:
    """Times of snapshots in the order they were published, whatever the clock said.

    What the record does not know (it was lost, or somebody copied a snapshot) counts as older than the rest.
    """
    there = set(times)
    known = [time for time in _order(job) if time in there]
    return sorted(there.difference(known)) + known


def _times(job: int) -> list[str]:
    try:
        folder = open_folder(job, SNAPSHOTS)
    except FileNotFoundError:
        return []
    with closing(folder), os.scandir(folder) as entries:
        found = [entry for entry in entries if is_time(entry.name)]
        for entry in found:
            if not entry.is_dir(follow_symlinks=False):
                raise in_the_way(folder, entry.name, "folder")
        return [entry.name for entry in found]


def is_time(name: str) -> bool:
    """Is it spelled as the names of snapshots are?"""
    seconds = from_compact_utc(name)
    return seconds is not None and compact_utc(seconds) == name


def _order(job: int) -> list[str]:
    """What the record says, each time once."""
    try:
        fd = os.open(_ORDER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=job)
    except FileNotFoundError:
        return []
    with closing(fd):
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise in_the_way(job, _ORDER, "file")
        lines = os.read(fd, _LONGEST_ORDER).decode("ascii", "replace").splitlines()
    return list(dict.fromkeys(line for line in lines if is_time(line)))


def free_time(job: int, now: float) -> str:
    """The name for a snapshot that is made now; a second later where that name was used before, and so on."""
    taken = {*_times(job), *_order(job), *(stage.time for stage in stages(job))}
    return next(time for second in count(now) if (time := compact_utc(second)) not in taken)


def announce(job: int, time: str) -> None:
    """Record that the snapshot `time` comes after all others, if that is not done; before it is published.

    Cut off between the two, the record names a snapshot that is not there, which does no harm.
    """
    known = _order(job)[-_REMEMBERED:]
    if known[-1:] == [time]:
        return
    lines = sorted(set(_times(job)).difference(known)) + known + [time]
    new = f"{_ORDER}.new"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=job)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=job)
    with closing(fd):
        os.write(fd, "".join(f"{line}\n" for line in lines).encode())
        os.fsync(fd)
    os.rename(new, _ORDER, src_dir_fd=job, dst_dir_fd=job)


def stages(job: int) -> list[Stage]:
    """What runs left behind that is no snapshot, oldest first."""
    found = [stage for name in sorted(names_in(job)) if (stage := Stage.named(name)) is not None]
    for stage in found:
        if not stat.S_ISDIR(os.stat(stage.name, dir_fd=job, follow_symlinks=False).st_mode):
            raise in_the_way(job, stage.name, "folder")
    return found


def make_stage(job: int, time: str) -> Stage:
    """A new, empty stage, and the folder it is to be published in."""
    with closing(make_folder(job, SNAPSHOTS, 0o700)):
        stage = Stage(time)
        os.mkdir(stage.name, 0o700, dir_fd=job)
        return stage


def mark_synced(job: int, stage: Stage) -> None:
    """Say that the files of a stage are on the disk; call it after they were synced."""
    os.rename(stage.name, Stage(stage.time, ".synced").name, src_dir_fd=job, dst_dir_fd=job)
    os.fsync(job)


def publish(job: int, stage: Stage) -> None:
    """Make a stage the snapshot of its time; call it after the file system was synced."""
    with closing(open_folder(job, SNAPSHOTS)) as folder:
        with closing(open_folder(job, stage.name)) as top:
            os.fchmod(top, 0o700)  # a directory that its owner may not write to cannot be moved
        os.rename(stage.name, stage.time, src_dir_fd=job, dst_dir_fd=folder)
        os.fsync(folder)
        os.fsync(job)
