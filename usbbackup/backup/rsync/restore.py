"""rsync, asked to copy entries of a snapshot off the drive."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from usbbackup.backup.fitness import Fitness, probe
from usbbackup.backup.opened import Moved
from usbbackup.backup.rsync.commands import PACKAGE, PROGRAM, TELLS_PROGRESS, kept
from usbbackup.backup.rsync.log import Account, Kind, unfit
from usbbackup.errors import NotNowError, UsbbackupError
from usbbackup.outcome import Stop
from usbbackup.programs import Lines, Program, Programs
from usbbackup.sandbox import Sandbox

Names = Callable[[], Iterable[bytes]]  # the paths to copy, a directory without what is in it

_ENVIRONMENT = {"LC_ALL": "C", "RSYNC_ICONV": None, "RSYNC_PARTIAL_DIR": None}


def arguments(fitness: Fitness, into: bytes) -> tuple[bytes, ...]:
    """The argument list; rsync runs in the snapshot, so that no path leads to it.

    >>> arguments(Fitness(), b"/tmp/stage")[-3:]
    (b'--sparse', b'./', b'/tmp/stage/')
    """
    return (*PROGRAM, *TELLS_PROGRESS, *kept(fitness), b"--sparse", b"./", into + b"/")


def _path_of(fd: int) -> bytes:
    return os.fsencode(Path(f"/proc/self/fd/{fd}").readlink())


async def copy(
    programs: Programs, snapshot: int, names: Names, into: int, stop: Stop, moved: Moved
) -> tuple[str, ...]:
    """Copy entries of the open directory `snapshot` to their paths below the open directory `into`.

    The kernel holds rsync to `into` itself (Landlock), wherever its path may lead by then.
    """
    account, fitness, way = Account(), probe(into), _path_of(into)

    def feed(out: BinaryIO) -> None:
        for path in names():
            out.write(b"/%b\0" % path)

    def hear(line: bytes) -> None:
        if (progress := account.out(line)) is not None:
            moved(progress.bytes)

    ended = await programs.run(
        Program(
            arguments(fitness, way),
            env=_ENVIRONMENT,
            package=PACKAGE,
            cwd_fd=snapshot,
            stdin=feed,
            sandbox=Sandbox((into,)),
        ),
        stop=stop,
        on_stdout=Lines(hear),
        on_stderr=Lines(account.err),
    )
    if stop:
        raise NotNowError(stop.message)
    if (reason := unfit(ended, account)) is not None:
        raise UsbbackupError(reason, "what was copied so far is kept: run the same command again")
    missing = [f"the file system cannot keep: {', '.join(fitness.missing)}"] if fitness.missing else []
    return (*missing, *account.lines(Kind.MISSED), *account.lines(Kind.CHANGED))
