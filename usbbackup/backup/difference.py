"""What is different between two snapshots: one pure function for both engines."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from usbbackup.backup.entry import Entry, Kind, order


class Change(StrEnum):
    """What happened to an entry."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content"  # a file's bytes, or where a symbolic link leads
    METADATA = "metadata"  # only its mode, owner or time
    KIND = "kind"  # it is something else now


class Changed(NamedTuple):
    """One entry that is not as it was."""

    change: Change
    old: Entry | None
    new: Entry | None

    @property
    def entry(self) -> Entry:
        """The later of the two that is there."""
        found = self.new or self.old
        assert found is not None  # noqa: S101 - one of them always is
        return found


def changes(old: Iterable[Entry], new: Iterable[Entry]) -> Iterator[Changed]:
    """What is different in `new`, by path; not told is a directory's time, which every change in it sets."""
    before = {entry.path: entry for entry in old}
    after = {entry.path: entry for entry in new}
    found = [_changed(before.get(path), after.get(path)) for path in before.keys() | after.keys()]
    return iter(sorted((one for one in found if one is not None), key=lambda one: order(one.entry)))


def _changed(old: Entry | None, new: Entry | None) -> Changed | None:
    if old is None or new is None:
        return Changed(Change.ADDED if old is None else Change.REMOVED, old, new)
    if old.kind is not new.kind:
        return Changed(Change.KIND, old, new)
    if not same_content(old, new):
        return Changed(Change.CONTENT, old, new)
    times = (old.mtime_ns, new.mtime_ns) if old.kind is not Kind.DIRECTORY else (0, 0)
    if (old.mode, old.uid, old.gid, times[0]) != (new.mode, new.uid, new.gid, times[1]):
        return Changed(Change.METADATA, old, new)
    return None


def same_content(old: Entry, new: Entry) -> bool:
    """Have two entries of one kind the same content? Told by borg's checksums, else by size and time."""
    if old.kind is Kind.SYMLINK:
        return old.target == new.target
    if old.kind is not Kind.FILE:
        return True
    if old.content and new.content:
        return old.content == new.content
    return (old.size, old.mtime_ns) == (new.size, new.mtime_ns)
