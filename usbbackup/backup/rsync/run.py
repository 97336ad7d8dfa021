"""Running one rsync below the job's folder, and what became of it."""

import os

from usbbackup.backup.engine import Work, failed, full
from usbbackup.backup.fitness import Fitness
from usbbackup.backup.rsync import commands
from usbbackup.backup.rsync.commands import Copy
from usbbackup.backup.rsync.log import Account, is_full, unfit
from usbbackup.outcome import Phase
from usbbackup.programs import Lines, Program
from usbbackup.running import Feed
from usbbackup.sandbox import Sandbox
from usbbackup.target import Target
from usbbackup.text import safe

UNTOUCHED = "nothing was published; earlier snapshots are untouched"

# With LC_ALL=C and --8-bit-output names come as they are, and words in English; the others would change what
# is copied.
_ENVIRONMENT = {"LC_ALL": "C", "RSYNC_ICONV": None, "RSYNC_PARTIAL_DIR": None}


async def run(work: Work, what: Copy, fitness: Fitness, feed: Feed) -> Account:
    """Run it on the names that `feed` writes; `Over` unless what it made may be published."""
    request, account = work.request, Account()

    def hear(line: bytes) -> None:
        if (moved := account.out(line)) is not None:
            work.report(Phase.TRANSFER, moved.percent, bytes=moved.bytes, files=work.scan.files)

    def complain(line: bytes) -> None:
        account.err(line)
        request.log(f"rsync: {safe(line)}")

    ended = await request.programs.run(
        Program(
            commands.copy(what, fitness),
            env=_ENVIRONMENT,
            package=commands.PACKAGE,
            cwd_fd=work.job_fd,
            stdin=feed,
            sandbox=Sandbox((work.job_fd,)),
            gentle=True,
            opens_pipes=False,
        ),
        stop=request.stop,
        on_stdout=Lines(hear),
        on_stderr=Lines(complain),
        on_start=request.on_start,
    )
    work.check()
    if (reason := unfit(ended, account)) is not None:
        raise (
            full(request.target, _missing(what, account, request.target))
            if is_full(account)
            else failed(reason, UNTOUCHED)
        )
    return account


def _missing(what: Copy, account: Account, target: Target) -> int | None:
    """By how many bytes the drive is too small; only for a first copy, as rsync's total counts all files."""
    if what.links or account.moved.total is None:
        return None
    room = os.statvfs(target.fd)
    return max(0, account.moved.total - account.moved.bytes - room.f_bavail * room.f_frsize)
