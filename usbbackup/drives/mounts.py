"""What is mounted where: the kernel's mount table, read and watched (proc_pid_mountinfo(5))."""

import os
import select
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from usbbackup.drives.watch import Watch
from usbbackup.mountinfo import MOUNTINFO, MountRow, Parsed, parse

__all__ = ["MOUNTINFO", "KernelMountTable", "MountRow", "MountTable", "Parsed", "parse"]


class MountTable(Protocol):
    """Where mounts are looked up; the kernel, or a test."""

    def read(self) -> Sequence[MountRow]:
        """Every mount of our namespace now, in the kernel's order: of a stack the top comes last."""
        ...

    def watch(self, callback: Callable[[], None]) -> Watch:
        """Call back on the event loop after each change. Watch first, then read, or a mount is missed."""
        ...

    def visit(self, mount_point: bytes) -> None:
        """Open a directory, so that whoever mounts there on demand does so. Blocks; raises OSError."""
        ...


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

    def visit(self, mount_point: bytes) -> None:
        """Open a directory; looking at it, or opening it with O_PATH, would mount nothing (open(2))."""
        os.close(os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
