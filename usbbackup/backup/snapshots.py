"""The restorable points in time that a drive holds, of whichever engine; nothing incomplete is among them."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from usbbackup.backup import borg, layout, secret
from usbbackup.backup.borg_repository import exists
from usbbackup.backup.borg_session import Session
from usbbackup.backup.secret import NO_SECRET, Secret, WaitingForSecret
from usbbackup.clock import Clock, from_compact_utc
from usbbackup.config import JobConfig
from usbbackup.errors import UsbbackupError
from usbbackup.folders import LayoutError, closing, open_folder
from usbbackup.outcome import Stop
from usbbackup.paths import Paths
from usbbackup.programs import Programs
from usbbackup.target import Target
from usbbackup.text import safe

_JOB = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True)
class Snapshot:
    """One restorable point in time."""

    snapshot: str  # `<job>@<time>`
    job: str
    engine: str
    time: float | None  # wall seconds; None where a borg archive is named otherwise
    path: str | None  # rsync: its directory


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


async def on(target: Target, reader: Reader) -> Found:
    """Everything that this user has on a drive, also of jobs that the configuration no longer has."""
    found: list[Snapshot] = []
    troubles: list[str] = []
    for job in sorted(filter(_JOB.fullmatch, os.listdir(target.fd))):  # noqa: PTH208 - by descriptor
        try:
            with closing(open_folder(target.fd, job)) as job_fd:
                found += _of_rsync(job_fd, job, _where(target, job))
                found += await _of_borg(job_fd, job, reader)
        except (LayoutError, UsbbackupError) as error:
            troubles.append(f"job '{safe(job)}': {error.message}")
    return Found(found, troubles)


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
    session = Session(job_fd, reader.programs, reader.paths, await _passphrase(job, reader))
    times = [name.rpartition("@")[2] for name in await borg.snapshots(session, job)]
    return [
        Snapshot(f"{job}@{time}", job, "borg", from_compact_utc(time), None)
        for time in layout.in_order(job_fd, times)
    ]


async def _passphrase(job: str, reader: Reader) -> Secret:
    config = reader.jobs.get(job)
    if config is None or config.passcommand is None:
        return NO_SECRET
    answer = await secret.ask(config.passcommand, reader.programs, reader.clock, Stop())
    if isinstance(answer, WaitingForSecret):
        raise UsbbackupError(answer.message, answer.hint)
    return answer
