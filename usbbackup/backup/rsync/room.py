"""Has the drive room for what a run is going to copy? Asked before that, of what the walk has seen."""

import os
from array import array
from dataclasses import dataclass

from usbbackup.backup.engine import Over, Work
from usbbackup.backup.manifest import Directory, Manifest, Recorder
from usbbackup.outcome import Outcome, Result
from usbbackup.target import Target
from usbbackup.text import human_bytes, safe

_BLOCK = 4096  # bytes; what a folder takes
_HINT = "nothing was copied; free some space on it or use a larger one; earlier snapshots are untouched"
_MAY_COMPRESS = frozenset({"btrfs", "zfs", "bcachefs", "f2fs"})  # what a file takes there, nobody knows


@dataclass(frozen=True)
class Amount:
    """So much on a drive."""

    bytes: int
    inodes: int

    def fits(self, free: "Amount") -> bool:
        """Is it no more than that?"""
        return self.bytes <= free.bytes and self.inodes <= free.inodes


class TooSmall(Over):
    """The run ends before anything was copied: there is no room for it."""


def free(fd: int) -> Amount:
    """What can still be written to the drive by us; where inodes are not counted there are always enough."""
    room = os.statvfs(fd)
    blocks = room.f_bfree if os.geteuid() == 0 else room.f_bavail
    return Amount(blocks * room.f_frsize, room.f_ffree if room.f_files else 1 << 63)


def needed(now: Manifest, before: Manifest | None) -> Amount:
    """What a snapshot of `now` takes beside that of `before`: its folders, and each file that differs."""
    if before is not None:
        before.index()
    size = inodes = 0
    several: set[int] = set()  # files with several names are stored once
    for directory in now.records():
        size, inodes = size + _BLOCK, inodes + 1
        known = None if before is None else before.before(directory)
        for inode, length in _changed(directory, known):
            if inode & 1 and inode in several:
                continue
            several.update((inode,) if inode & 1 else ())
            size, inodes = size + length, inodes + 1
    return Amount(size, inodes)


def _changed(now: Directory, before: Directory | None) -> list[tuple[int, int]]:
    """Inode and size of each file that has to be copied."""
    if before is not None and (now.names, now.marks) == (before.names, before.marks):
        return []
    old = {} if before is None else before.known()
    marks = (array("q", mark) for name, mark in now.known().items() if old.get(name) != mark)
    return [(mark[0], mark[1]) for mark in marks]


def check(work: Work, recorder: Recorder, before: Manifest | None, there: Amount) -> None:
    """Raise `TooSmall` where what was recorded takes more than was `there`, beside what `before` tells of."""
    folders = sum(tally.directories for tally in work.scan.tallies.values())
    most = Amount(recorder.bytes + _BLOCK * folders, recorder.files + folders)
    if most.fits(there):
        return
    target = work.request.target
    if (what := lacking(target, needed(Manifest(recorder.flush()), before), there)) is not None:
        raise TooSmall(Result(Outcome.FAILED, what, _HINT))


def lacking(target: Target, need: Amount, there: Amount) -> str | None:
    """Why the drive is too small for that, and by how much; None where it is not, or nobody can know."""
    if need.fits(there) or target.facts.fs_type in _MAY_COMPRESS:
        return None
    if need.bytes > there.bytes:
        missing, wanted, have = map(human_bytes, (need.bytes - there.bytes, need.bytes, there.bytes))
        what = f"{missing} are missing: it needs about {wanted}, {have} are free"
    else:
        what = f"{need.inodes - there.inodes} files and folders more than it has room for"
    return f"the drive '{safe(target.facts.name)}' is too small for this backup, {what}"
