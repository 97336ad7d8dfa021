"""The restorable points in time that a drive holds, of whichever engine; nothing incomplete is among them."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from usbbackup.backup import layout, secret
from usbbackup.backup.borg import engine as borg
from usbbackup.backup.borg.archive import Archive
from usbbackup.backup.borg.commands import REPOSITORY
from usbbackup.backup.borg.repository import exists
from usbbackup.backup.borg.session import Session
from usbbackup.backup.opened import Opened, Snapshot
from usbbackup.backup.rsync.tree import Tree
from usbbackup.backup.secret import NO_SECRET, Secret, WaitingForSecret
from usbbackup.clock import Clock, from_compact_utc
from usbbackup.config import JobConfig
from usbbackup.errors import UsbbackupError
from usbbackup.folders import LayoutError, closing, names_in, open_folder
from usbbackup.outcome import Stop
from usbbackup.paths import Paths
from usbbackup.programs import Programs
from usbbackup.target import Target
from usbbackup.text import safe

Ask = Callable[[str], bytes | None]  # of somebody: the passphrase of a job

_ATTEMPTS = 4  # the passcommand, and three tries of whoever is asked
_JOB = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True)
class Found:
    """What is there, in order of publishing within each job, and what could not be looked at."""

    snapshots: Sequence[Snapshot]
    troubles: Sequence[str] = ()


@dataclass(frozen=True)
class Reader:
    """What looking needs: borg has to be run, with the passphrase of its job."""

    jobs: Mapping[str, JobConfig]  # by name; a drive may hold more
    programs: Programs
    paths: Paths
    clock: Clock
    ask: Ask | None = None
    locking: bool = True  # False: not even a lock is written to the drive
    known: dict[tuple[int, str], Secret] = field(default_factory=dict)  # by descriptor of its folder, and job


async def on(target: Target, reader: Reader, only: str | None = None) -> Found:
    """Everything that a user has on a drive, also of jobs that the configuration no longer has.

    `only` names the one job to look at.
    """
    found: list[Snapshot] = []
    troubles: list[str] = []
    for job in jobs_on(target):
        if only not in (None, job):
            continue
        try:
            with closing(open_folder(target.fd, job)) as job_fd:
                found += _of_rsync(job_fd, job, _where(target, job))
                found += await _of_borg(job_fd, job, reader)
        except (LayoutError, UsbbackupError) as error:
            troubles.append(f"job '{safe(job)}': {error.message}")
    return Found(found, troubles)


def jobs_on(target: Target) -> list[str]:
    """The jobs that have a folder there."""
    return sorted(filter(_JOB.fullmatch, names_in(target.fd)))


def _where(target: Target, job: str) -> str:
    return f"{Path(f'/proc/self/fd/{target.fd}').readlink()}/{job}/{layout.SNAPSHOTS}"


def _of_rsync(job_fd: int, job: str, folder: str) -> list[Snapshot]:
    return [
        Snapshot(f"{job}@{time}", job, "rsync", from_compact_utc(time), f"{folder}/{time}")
        for time in layout.published(job_fd)
    ]


async def _of_borg(job_fd: int, job: str, reader: Reader) -> list[Snapshot]:
    if not exists(job_fd):
        return []
    names = await _opened_by(job_fd, job, reader)
    times = [name.rpartition("@")[2] for name in names]
    return [
        Snapshot(f"{job}@{time}", job, "borg", from_compact_utc(time), None)
        for time in layout.in_order(job_fd, times)
    ]


def session(job_fd: int, reader: Reader, secret: Secret) -> Session:
    """borg, to read a repository: where that cannot be written to, no lock is made in it."""
    writable = os.access(REPOSITORY, os.W_OK, dir_fd=job_fd, effective_ids=True)
    return Session(job_fd, reader.programs, reader.paths, secret, locking=reader.locking and writable)


async def _opened_by(job_fd: int, job: str, reader: Reader) -> list[str]:
    """The names of the archives, and on the way the passphrase that opens them; from people at last."""
    found = await passphrase(job, reader)
    for _ in range(_ATTEMPTS):
        try:
            names = await borg.snapshots(session(job_fd, reader, found), job)
        except borg.NoPassphraseError:
            if reader.ask is None or (word := reader.ask(job)) is None:
                raise
            found = Secret(word)
        else:
            reader.known[_key(job_fd, job)] = found
            return names
    raise borg.NoPassphraseError("the passphrase does not open the borg repository", "try again")


def _key(job_fd: int, job: str) -> tuple[int, str]:
    return os.fstat(job_fd).st_ino, job


async def opened(snapshot: Snapshot, target: Target, reader: Reader, stack: ExitStack) -> Opened:
    """Open a snapshot that `on` has found on this target; `stack` closes it."""
    job_fd = stack.enter_context(closing(open_folder(target.fd, snapshot.job)))
    if snapshot.engine == "rsync":
        return stack.enter_context(Tree(snapshot, job_fd, reader.programs))
    if (found := reader.known.get(_key(job_fd, snapshot.job))) is None:
        found = await passphrase(snapshot.job, reader)
    return Archive(snapshot, session(job_fd, reader, found))


async def passphrase(job: str, reader: Reader) -> Secret:
    """What the job's passcommand says; none where it has none.

    Raises UsbbackupError where it fails, and there is nobody else to ask.
    """
    config = reader.jobs.get(job)
    if config is None or config.passcommand is None:
        return NO_SECRET
    answer = await secret.ask(config.passcommand, reader.programs, reader.clock, Stop())
    if isinstance(answer, WaitingForSecret):
        if reader.ask is not None:
            return NO_SECRET
        raise UsbbackupError(answer.message, answer.hint)
    return answer
