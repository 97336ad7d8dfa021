"""What is mounted where: the kernel's mount table, read and watched (proc_pid_mountinfo(5))."""

import os
import re
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from usbbackup.drives.watch import Watch

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


class MountTable(Protocol):
    """Where mounts are looked up; the kernel, or a test."""

    def read(self) -> Sequence[MountRow]:
        """Every mount of our namespace now, in the kernel's order: of a stack the top comes last."""
        ...

    def watch(self, callback: Callable[[], None]) -> Watch:
        """Call back on the event loop after each change. Watch first, then read, or a mount is missed."""
        ...


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


class KernelMountTable:
    """The mount table of this process."""

    def __init__(self, path: str = MOUNTINFO) -> None:
        self.path = path
        self.malformed = 0  # lines skipped by the last `read`

    def read(self) -> list[MountRow]:
        """Every mount of our namespace now."""
        rows, self.malformed = parse(Path(self.path).read_bytes())
        return rows

    def watch(self, callback: Callable[[], None]) -> Watch:
        """Call back on the running event loop after each mount, unmount, move and remount.

        The kernel keeps the file always readable and marks a change as exceptional (EPOLLPRI), for which an
        event loop has no word: hence an epoll of our own inside it. It marks nothing when it stops writing
        after an error.
        """
        import asyncio  # not above: commands that only read the table start faster without it

        loop = asyncio.get_running_loop()
        table = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        changes = select.epoll()
        changes.register(table, select.EPOLLPRI | select.EPOLLERR)

        def changed() -> None:
            changes.poll(0)
            callback()

        def close() -> None:
            loop.remove_reader(changes.fileno())
            changes.close()
            os.close(table)

        loop.add_reader(changes.fileno(), changed)
        return Watch(close)
