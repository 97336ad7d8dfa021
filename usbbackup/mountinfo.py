"""The rows of the kernel's mount table, as read from mountinfo (proc_pid_mountinfo(5))."""

import os
import re
from dataclasses import dataclass
from typing import NamedTuple

MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class MountRow:
    """One line of mountinfo. Paths are bytes, as the kernel has them, with its octal escapes undone."""

    mount_id: int
    parent_id: int
    devnum: tuple[int, int]  # st_dev of the files there; on btrfs not that of the block device
    root: bytes  # the directory of the file system that is seen at the mount point
    mount_point: bytes
    options: frozenset[str]  # of this mount
    fs_type: str
    source: bytes
    super_options: frozenset[str]  # of the file system, whichever mount it is seen through

    @property
    def read_only(self) -> bool:
        """Is writing refused through this mount? `rw` proves nothing: only a write does."""
        return "ro" in self.options or "ro" in self.super_options

    @property
    def stopped(self) -> bool:
        """Has the file system given up after an error, or been shut down, though it may still say `rw`?"""
        return not self.super_options.isdisjoint(("emergency_ro", "shutdown"))


class Parsed(NamedTuple):
    """A mount table as far as it could be read."""

    rows: list[MountRow]
    malformed: int  # lines that were skipped


def parse(data: bytes) -> Parsed:
    """Read the text of a mountinfo file; a line that makes no sense is skipped and counted."""
    rows = [_row(line) for line in data.split(b"\n") if line]
    good = [row for row in rows if row is not None]
    return Parsed(good, len(rows) - len(good))


def _row(line: bytes) -> MountRow | None:
    # Only blanks part fields: of white space the kernel escapes blank, tab and newline, nothing else.
    fields = line.split(b" ")
    try:
        separator = fields.index(b"-", 6)
        fs_type, source, *super_options = fields[separator + 1 :]
        major, minor = fields[2].split(b":")
        return MountRow(
            mount_id=_number(fields[0]),
            parent_id=_number(fields[1]),
            devnum=(_number(major), _number(minor)),
            root=_unescaped(fields[3]),
            mount_point=_absolute(_unescaped(fields[4])),
            options=_options(fields[5]),
            fs_type=os.fsdecode(_unescaped(fs_type)),
            source=_unescaped(source),
            super_options=_options(b" ".join(super_options)),
        )
    except (ValueError, IndexError):
        return None


def _number(field: bytes) -> int:
    if not field.isdigit() or len(field) > 20:
        raise ValueError(field)
    return int(field)


def _absolute(path: bytes) -> bytes:
    if not path.startswith(b"/"):
        raise ValueError(path)
    return path


def _options(field: bytes) -> frozenset[str]:
    return frozenset(os.fsdecode(_unescaped(option)) for option in field.split(b","))


def _unescaped(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    return re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes([int(found[1], 8)]), field)
