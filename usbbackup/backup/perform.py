"""One whole run, from the first look at the drive to its one result."""

import asyncio
import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from usbbackup import kernel
from usbbackup.backup import hooks, layout
from usbbackup.backup.borg import Borg
from usbbackup.backup.command import run as run_command
from usbbackup.backup.engine import Copied, Engine, Over, Request, Work, failed, gone
from usbbackup.backup.matcher import Matcher
from usbbackup.backup.rsync import Rsync
from usbbackup.backup.scan import Scan
from usbbackup.backup.sources import Place, doubt_after, doubt_before, locate, seen
from usbbackup.backup.walk import Rules
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing, make_folder, open_folder
from usbbackup.mountinfo import parse
from usbbackup.offload import in_thread
from usbbackup.outcome import Outcome, Phase, Progress, Result
from usbbackup.text import human_bytes, safe

AFTERMATH = 2.0  # seconds: a pulled drive refuses writes before anything says that it was pulled
ACCEPT = "if that is right, say: usbbackup start {job} --accept-source"


async def perform(request: Request) -> Result:
    """Run the job on the drive: hooks, engine, hooks. Whatever is expected to go wrong is in the result."""
    result = await hooks.before(request)
    if result is None:
        result = await _run(request)
    return await hooks.after(request, result)


async def _run(request: Request) -> Result:
    try:
        match request.job.engine:
            case "command":
                return await run_command(request)
            case "rsync":
                return await _back_up(request, Rsync())
            case "borg":
                return await _back_up(request, Borg())
    except Over as over:
        return await _explained(request, over.result)
    except OSError as error:
        return await _explained(request, _trouble(request, error))
    except UsbbackupError as error:
        return await _explained(request, Result(Outcome.FAILED, error.message, error.hint))


async def _back_up(request: Request, engine: Engine) -> Result:
    request.report(Progress(Phase.PROBE))
    scan = await in_thread(_scan, request)
    with closing(await in_thread(_job_folder, request)) as job_fd:
        work = Work(request, job_fd, layout.free_time(job_fd, request.clock.now()), scan)
        work.check()
        if request.dry_run:
            return _rehearsed(work, await engine.rehearse(work))
        copied = await _staged(work, engine)
        return _result(work, copied)


async def _staged(work: Work, engine: Engine) -> Copied:
    try:
        await _enter(work, Phase.STAGE)
        await engine.stage(work)
        await _enter(work, Phase.TRANSFER)
        copied = await engine.transfer(work)
        await _enter(work, Phase.SYNC)
        await in_thread(kernel.syncfs, work.job_fd)
        await _enter(work, Phase.PUBLISH)
    except (Over, OSError):
        if work.request.target.still_there() is None:
            await engine.set_aside(work)
        raise
    await engine.publish(work)
    _still_there(work)
    return copied


async def _enter(work: Work, phase: Phase) -> None:
    work.check()
    work.report(phase)


def _still_there(work: Work) -> None:
    """The last look: what was published is on the drive that was meant, a wish to stop comes too late."""
    if (reason := work.request.target.still_there()) is not None:
        raise gone(reason)


def _job_folder(request: Request) -> int:
    """The job's folder on the drive; where there is none, a rehearsal makes do with the one above."""
    if not request.dry_run:
        return make_folder(request.target.fd, request.job.name, 0o700)
    try:
        return open_folder(request.target.fd, request.job.name)
    except FileNotFoundError:
        return os.dup(request.target.fd)


def _scan(request: Request) -> Scan:
    """Find the sources; `Over` where one is doubtful before it is read."""
    job = request.job
    mounts = parse(Path("/proc/self/mountinfo").read_bytes()).rows
    found = {source: locate(source, mounts) for source in job.sources}
    for source, place in found.items():
        _accept(request, doubt_before(source, place, request.last.get(source)))
    rules = Rules(
        Matcher(job.exclude, job.exclude_presets),
        job.one_file_system,
        {row.mount_point: row for row in mounts},
        _drive_itself(request),
        request.stop,
    )
    scan = Scan(
        [place for place in found.values() if isinstance(place, Place)],
        rules,
        lambda: _judge(request, scan, found),
    )
    return scan


def _judge(request: Request, scan: Scan, found: Mapping[str, Place | OSError]) -> None:
    """At the end of the walk, before anything is published: is this what the sources should look like?"""
    for place in scan.places:
        now = seen(place.source, found[place.source], scan.tallies[place.source])
        _accept(request, doubt_after(now, request.last.get(place.source)))


def _accept(request: Request, doubt: str | None) -> None:
    if doubt is None:
        return
    if not request.accept_source:
        raise failed(
            f"{doubt}; nothing was published and nothing pruned", ACCEPT.format(job=request.job.name)
        )
    request.log(f"accepted, because you said so: {doubt}")


def _drive_itself(request: Request) -> frozenset[tuple[int, int]]:
    """The drive that the backup goes to is never part of it."""
    top = request.target.facts.mount_point.stat()
    mine = os.fstat(request.target.fd)
    return frozenset(((top.st_dev, top.st_ino), (mine.st_dev, mine.st_ino)))


def _result(work: Work, copied: Copied) -> Result:
    unread = (*work.scan.unread.lines, *copied.unread)
    sources = tuple(seen(place.source, place, work.scan.tallies[place.source]) for place in work.scan.places)
    done = Result(
        Outcome.SUCCESS,
        f"{_amount(copied)} backed up to '{safe(work.request.target.facts.label)}'",
        snapshot=work.snapshot,
        bytes=copied.bytes,
        files=copied.files,
        notes=(*unread, *copied.notes),
        sources=sources,
    )
    if not unread:
        return done
    return replace(
        done,
        outcome=Outcome.WARNING,
        message=f"{done.message}; {len(unread)} could not be read",
        hint=f"the others are safe; see which: usbbackup history {work.request.run}",
    )


def _rehearsed(work: Work, copied: Copied) -> Result:
    return Result(
        Outcome.SUCCESS,
        f"{_amount(copied)} would be looked at; nothing was written",
        bytes=copied.bytes,
        files=copied.files,
        notes=(*work.scan.unread.lines, *copied.unread, *copied.notes),
    )


def _amount(copied: Copied) -> str:
    files = "files" if copied.files is None else f"{copied.files} file{'s' * (copied.files != 1)}"
    return files if copied.bytes is None else f"{files}, {human_bytes(copied.bytes)},"


def _trouble(request: Request, error: OSError) -> Result:
    """What an error of the drive means to its owner."""
    where = f"'{safe(request.target.facts.label)}'"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            message = f"the drive {where} is full"
            hint = "free some space on it or use a larger one; earlier snapshots are untouched"
        case errno.EROFS:
            message = f"the drive {where} does not let itself be written to any more"
            hint = "unmount it and check its file system; earlier snapshots are untouched"
        case _:
            message = f"the drive {where} does not work: {error.strerror}"
            hint = "try another cable or port; if it happens again, replace the drive"
    return Result(Outcome.FAILED, message, hint)


async def _explained(request: Request, result: Result) -> Result:
    """A failure that was the drive being pulled is an interruption; the news of the pull may come later."""
    if result.outcome is not Outcome.FAILED:
        return result
    if request.target.still_there() is None:
        await _news(request)
    if request.stop:
        return request.stop.result()
    if (reason := request.target.still_there()) is not None:
        return gone(reason).result
    return result


async def _news(request: Request) -> None:
    """Wait for a wish to stop, for as long as the kernel takes to tell that a drive was pulled."""
    heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def hear() -> None:
        if not heard.done():
            heard.set_result(None)

    timer = request.clock.later(AFTERMATH, hear)
    request.stop.on_set(hear)
    try:
        await heard
    finally:
        timer.cancel()
        request.stop.off(hear)
