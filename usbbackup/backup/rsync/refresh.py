"""Bringing a copy of the last snapshot up to date: what is gone is removed, what changed is listed.

For stages that are copies of a btrfs subvolume. They share no file with the snapshot, so rsync may change
them in place, and only what did change is ever written. Of a file with several names rsync would change all,
so what is listed and has several is removed first.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from usbbackup.backup import removal
from usbbackup.backup.manifest import Directory, Manifest
from usbbackup.backup.rsync import name_list
from usbbackup.backup.rsync.clone import (
    Descent,
    Listing,
    Order,
    dress,
    leave_to_rsync,
    parts_of,
    take_out,
    unless_the_drive,
)
from usbbackup.folders import names_in


def refresh(
    order: Order,
    now: Manifest,
    before: Manifest | None,
    singles: Iterable[bytes],
    differing: Iterable[bytes] = (),
) -> None:
    """Bring the stage up to date; without `before`, `differing` says what changed. Raises OSError."""
    if before is not None:
        before.index()
    with Descent(order.job, order.stage) as stage, Listing(order) as listed:
        fresh = _Refresh(order, stage, listed, now, singles)
        fresh.make_directories()
        if before is not None:
            fresh.list_changes(before)
        fresh.tidy()
    leave_to_rsync(order, now, [*singles, *differing])


class _Refresh:
    def __init__(
        self, order: Order, stage: Descent, listed: Listing, now: Manifest, singles: Iterable[bytes]
    ) -> None:
        self._order, self._stage, self._listed, self._now = order, stage, listed, now
        self._paths = {directory.path for directory in now.records()}
        self._inside = _inside([*self._paths, *singles])
        self._made: set[bytes] = set()

    def make_directories(self) -> None:
        """Make those that are new, in the place of whatever else has their names."""
        for path in sorted(self._paths):
            names = parts_of(path)
            if not names or (parent := self._stage.to(names[:-1])) is None:
                continue
            with unless_the_drive():
                if _is_other(names[-1], parent):
                    _remove(names[-1], parent)
                with suppress(FileExistsError):
                    os.mkdir(names[-1], 0o700, dir_fd=parent)
                    self._made.add(path)

    def list_changes(self, before: Manifest) -> None:
        """List what does not look as it did; what a renamed directory holds gets its new names."""
        with Descent(self._order.job, self._order.stage) as origin:
            for directory in self._now.records():
                if (made := self._stage.to(parts_of(directory.path))) is not None:
                    known = before.before(directory)
                    same = set(self._same(directory, known, made, origin))
                    self._list(directory, made, same)

    def _same(self, directory: Directory, known: Directory | None, made: int, origin: Descent) -> list[bytes]:
        if known is None:
            return []
        same = directory.unchanged(known)
        if known.path == directory.path:
            return same
        # Renamed; to be moved only where neither place has been touched, or will be, by another move.
        if directory.path not in self._made or known.path in self._paths:
            return []
        if not same or (source := origin.to(parts_of(known.path))) is None:
            return []
        return [name for name in same if _moved(name, source, made)]

    def _list(self, directory: Directory, made: int, same: set[bytes]) -> None:
        names = directory.files()
        if len(same) == len(names):
            return
        inside = directory.path.rstrip(b"/") + b"/"
        for name, inode in zip(names, directory.inodes(), strict=True):
            if name not in same:
                take_out(name, made, in_place=True)
                self._listed.add(name_list.single(inside + name, self._order.start))
                self._listed.split((inode,))

    def tidy(self) -> None:
        """Remove what is gone, list what is missing or not ours to dress, dress what differs."""
        known = {directory.path: directory for directory in self._now.records()}
        for path in sorted({*known, *self._inside}):
            directory = known.get(path)
            if (made := self._stage.to(parts_of(path))) is None:
                self._list_all(directory)
                continue
            files = set(directory.files()) if directory else set()
            present = set(map(os.fsencode, names_in(made)))
            for name in present - files - self._inside.get(path, set()):
                _remove(name, made)
            if directory is not None:
                self._see_to(directory, made, files - present)

    def _see_to(self, directory: Directory, made: int, missing: set[bytes]) -> None:
        inside = directory.path.rstrip(b"/") + b"/"
        for name in missing:
            self._listed.add(name_list.single(inside + name, self._order.start))
        plain = not (directory.kept_empty or directory.adorned or os.listxattr(made))
        if not plain or not (_is_dressed(made, directory) or dress(made, directory)):
            self._listed.add(name_list.single(directory.path, self._order.start))

    def _list_all(self, directory: Directory | None) -> None:
        """What lies too deep, or cannot be entered."""
        if directory is None:
            return
        inside = directory.path.rstrip(b"/") + b"/"
        for path in (directory.path, *(inside + name for name in directory.files())):
            self._listed.add(name_list.single(path, self._order.start))


def _inside(paths: Iterable[bytes]) -> dict[bytes, set[bytes]]:
    """The names in each directory that lead to these paths.

    >>> _inside([b"/a/b", b"/c"]) == {b"/": {b"a", b"c"}, b"/a": {b"b"}}
    True
    """
    found: dict[bytes, set[bytes]] = {}
    for path in paths:
        while path != b"/":
            above, _, name = path.rpartition(b"/")
            names = found.setdefault(above or b"/", set())
            if name in names:
                break
            names.add(name)
            path = above or b"/"
    return found


def _is_other(name: bytes, folder: int) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _moved(name: bytes, source: int, made: int) -> bool:
    with unless_the_drive():
        os.link(name, name, src_dir_fd=source, dst_dir_fd=made, follow_symlinks=False)
        return True
    return False


def _is_dressed(made: int, directory: Directory) -> bool:
    found = os.fstat(made)
    return (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns) == (
        *(directory.mode, directory.uid, directory.gid, directory.mtime),
    )


def _remove(name: bytes, folder: int) -> None:
    os.chmod(folder, 0o700)
    if _is_other(name, folder):
        os.unlink(name, dir_fd=folder)
        return
    removal.remove(folder, os.fsdecode(name))
