"""Which programs keep a drive from being unmounted, as far as /proc tells this user (proc(5))."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from usbbackup.text import safe

PROC = Path("/proc")


class Holder(NamedTuple):
    """A process that has something open on the drive, or works there."""

    pid: int
    program: str


def holders(mount_point: bytes, proc: Path = PROC) -> list[Holder]:
    """The processes with a directory, a file or a mapped file below a mount point; others' cannot be seen."""
    found = []
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()):
        process = proc / str(pid)
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            if any(_below(path, mount_point) for path in _paths(process)):
                found.append(Holder(pid, safe((process / "comm").read_bytes().rstrip(b"\n"))))
    return found


def told(holding: Sequence[Holder], most: int = 3) -> str:
    """Who holds it, in a sentence's words.

    >>> told([Holder(12, "vlc")]), told([])
    ('vlc (process 12)', 'a program of another user')
    """
    if not holding:
        return "a program of another user"
    named = [f"{holder.program} (process {holder.pid})" for holder in holding[:most]]
    more = [f"{len(holding) - most} more"] if len(holding) > most else []
    return " and ".join(filter(None, (", ".join([*named, *more][:-1]), [*named, *more][-1])))


def _paths(process: Path) -> Iterator[bytes]:
    """Everything that a process has to do with; what it holds may change while one looks."""
    links = [process / name for name in ("cwd", "root", "exe")]
    links += (process / "fd").iterdir()
    for link in links:
        with suppress(OSError):
            yield os.fsencode(link.readlink())
    for line in (process / "maps").read_bytes().splitlines():
        if len(fields := line.split(maxsplit=5)) == 6:
            yield fields[5]


def _below(path: bytes, mount_point: bytes) -> bool:
    return path == mount_point or path.startswith(mount_point.rstrip(b"/") + b"/")
