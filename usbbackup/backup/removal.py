"""Removing a tree from a drive: renamed aside first, then emptied, so that it is never half a snapshot."""

import os
import stat
from collections.abc import Callable
from itertools import count
from pathlib import Path

from usbbackup.backup import subvolume
from usbbackup.backup.layout import Stage, stages
from usbbackup.clock import compact_utc, from_compact_utc
from usbbackup.folders import closing, names_in, open_folder

_DEEPEST = 100  # directories held open at once
_OWN = stat.S_IRWXU

Check = Callable[[], None]  # raises where the drive must be let go of


def set_apart(job: int, folder: int, name: str) -> None:
    """Rename a stage or snapshot in `folder` to what `sweep` removes; from now on it counts for nothing."""
    stage = Stage.named(name)
    first = from_compact_utc(stage.time if stage else name) or 0.0
    used = {other.time for other in stages(job) if other.state == ".removed"}
    time = next(time for second in count(first) if (time := compact_utc(second)) not in used)
    os.rename(name, Stage(time, ".removed").name, src_dir_fd=folder, dst_dir_fd=job)


def sweep(job: int, check: Check) -> int:
    """Remove everything that was set apart, now or by an earlier run; returns how many trees that were.

    Blocks for as long as the drive needs; `check` is called for each directory.
    """
    with closing(
        os.dup(job)
    ) as own:  # a thread may outlive the run, and a closed descriptor mean another folder
        trees = [stage for stage in stages(own) if stage.state == ".removed"]
        for tree in trees:
            if _at_once(own, tree.name):
                continue
            with closing(_opened(own, tree.name)) as top:
                _Removal(top, check).empty()
            os.rmdir(tree.name, dir_fd=own)
    return len(trees)


def _at_once(job: int, name: str) -> bool:
    with closing(open_folder(job, name)) as top:
        whole = subvolume.is_one(top)
    return whole and subvolume.delete(job, name)


def empty(folder: int, check: Check = lambda: None) -> None:
    """Remove everything in an open directory."""
    _Removal(folder, check).empty()


def remove(folder: int, name: str) -> None:
    """Remove a directory in an open one, with everything in it."""
    _Removal(folder, lambda: None).remove(folder, name, 1)


class _Removal:
    def __init__(self, top: int, check: Check) -> None:
        self._top = top
        self._check = check
        self._numbers = count()

    def empty(self) -> None:
        """Empty the tree; what lies too deep is lifted to its top, until nothing is there any more."""
        while names_in(self._top):
            self._empty(self._top, 1)

    def _empty(self, fd: int, depth: int) -> None:
        self._check()
        with os.scandir(fd) as found:
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        for name, directory in entries:
            if not directory:
                os.unlink(name, dir_fd=fd)
            elif depth < _DEEPEST:
                self.remove(fd, name, depth)
            else:
                self._lift(fd, name)

    def remove(self, fd: int, name: str, depth: int) -> None:
        with closing(_opened(fd, name)) as below:
            self._empty(below, depth + 1)
        os.rmdir(name, dir_fd=fd)

    def _lift(self, fd: int, name: str) -> None:
        used = names_in(self._top)
        free = next(new for number in self._numbers if (new := f"lifted-{number}") not in used)
        os.rename(name, free, src_dir_fd=fd, dst_dir_fd=self._top)


def _opened(parent: int, name: str) -> int:
    """A directory that may be emptied: what its owner may not do to it is allowed first."""
    with closing(
        os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    ) as it:
        if os.fstat(it).st_mode & _OWN != _OWN:
            Path(f"/proc/self/fd/{it}").chmod(_OWN)
    return open_folder(parent, name)
