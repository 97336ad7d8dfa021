"""One whole run, from the first look at the drive to its one result."""

import asyncio
import errno
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from usbbackup.backup import command, hooks, layout
from usbbackup.backup.borg.engine import Borg
from usbbackup.backup.catalogue.noting import Note
from usbbackup.backup.catalogue.recording import Draft
from usbbackup.backup.engine import Copied, Engine, Over, Request, Work, failed, gone, unless
from usbbackup.backup.proof import Flaw, Proof
from usbbackup.backup.prune import prune
from usbbackup.backup.rsync.engine import Rsync
from usbbackup.backup.rsync.mirror import Mirror
from usbbackup.backup.survey import Survey
from usbbackup.backup.trouble import explained, parting
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing, make_folder, open_folder
from usbbackup.offload import in_thread
from usbbackup.outcome import Outcome, Phase, Progress, Result, Stop
from usbbackup.text import human_bytes, safe

_SET_ASIDE = 20.0  # seconds that leaving the drive in order may take: the agent has to leave in time


async def perform(request: Request) -> Result:
    """Run the job on the drive: hooks, engine, hooks. Whatever is expected to go wrong is in the result."""
    result = await hooks.before(request)
    if result is None:
        result = await _run(request)
    return await hooks.after(request, result)


async def _run(request: Request) -> Result:
    try:
        if request.job.engine == "command":
            return await command.run(request)
        return await _back_up(request)
    except UsbbackupError as error:
        return Result(Outcome.FAILED, error.message, error.hint)
    except (Over, OSError) as trouble:
        return await explained(request, trouble)


async def _back_up(request: Request) -> Result:
    request.report(Progress(Phase.PROBE))
    _look(request)
    survey = await in_thread(Survey, request)
    engine = _engine(request)
    with closing(await in_thread(_job_folder, request, unwanted=os.close)) as job:
        time = await in_thread(layout.free_time, job, request.clock.now())
        work = Work(request, job, time, survey.scan)
        if request.dry_run:
            return _rehearsed(survey, await engine.rehearse(work))
        copied = await _copied(work, engine, survey)
        note = _note(work, engine)
        draft = await _synced(work, engine, note)
        await _published(work, engine)
        await _tidied(work, engine)
        left = await _pruned(work, engine)
        await _noted(work, note, draft, left)
        result = _result(work, survey, replace(copied, files=survey.scan.files))
        return await _proven(work, engine, result)


def _engine(request: Request) -> Engine:
    match request.job.engine, request.job.layout:
        case "borg", _:
            return Borg()
        case _, "mirror":
            return Mirror()
        case _:
            return Rsync()


async def _copied(work: Work, engine: Engine, survey: Survey) -> Copied:
    async with _in_order(work, engine):
        work.enter(Phase.STAGE)
        await engine.stage(work)
        work.enter(Phase.TRANSFER)
        copied = await engine.transfer(work)
        survey.judge_copy(max(copied.missed, len(copied.unread)))
        return copied


async def _synced(work: Work, engine: Engine, note: Note | None) -> Draft | None:
    """Have all of it on the disk; meanwhile what will be noted of it is compared with what is."""
    async with _in_order(work, engine):
        work.enter(Phase.SYNC)
        await in_thread(layout.announce, work.job_fd, work.time)
        draft, _ = await asyncio.gather(_drafted(work, note), work.sync())
        work.enter(Phase.PUBLISH)
        return draft


@asynccontextmanager
async def _in_order(work: Work, engine: Engine) -> AsyncIterator[None]:
    """Before there is a snapshot: where it ends early, the drive is left in order."""
    try:
        yield
    except (Over, OSError):
        await _set_aside(work, engine)
        raise


async def _published(work: Work, engine: Engine) -> None:
    """A wish to stop comes too late for what was published; the last look does not."""
    await engine.publish(work)
    _look(work.request)


async def _set_aside(work: Work, engine: Engine) -> None:
    if work.request.target.still_there() is not None:
        return
    limit = Stop()
    timer = work.request.clock.later(
        _SET_ASIDE, lambda: limit.set(Outcome.INTERRUPTED, "the drive takes too long")
    )
    try:
        await unless(limit, engine.set_aside(work))
    except (Over, OSError, UsbbackupError) as trouble:
        work.request.log(f"what was copied is left as it is: {trouble}")
    finally:
        timer.cancel()


async def _pruned(work: Work, engine: Engine) -> list[str] | None:
    """Apply retention; returns the times of what is left, None where nothing was asked.

    The snapshot is good, whatever becomes of this: what stays too long is tried again by the next run.
    """
    shelf, keep = engine.shelf(work), work.request.job.keep
    if shelf is None or keep is None:
        return None
    try:
        work.enter(Phase.PRUNE)
        return [one.time for one in await prune(shelf, keep, work.request.log) if one.reasons]
    except (Over, OSError, UsbbackupError) as trouble:
        work.request.log(f"the next run will remove old snapshots: {trouble}")
        return None


def _note(work: Work, engine: Engine) -> Note | None:
    try:
        seen = engine.seen()
    except OSError as error:
        _unnoted(work, error)
        return None
    return None if seen is None else Note(work, seen)


async def _drafted(work: Work, note: Note | None) -> Draft | None:
    """None where there is nothing to note, or it is not yet known how: then it is tried again."""
    if note is None:
        return None
    try:
        return await work.blocking(note.draft)
    except (OSError, sqlite3.Error):
        return None


async def _noted(work: Work, note: Note | None, draft: Draft | None, left: list[str] | None) -> None:
    """Note at home what the snapshot holds; without that it is only not found by `find`."""
    if note is None:
        return
    try:
        await work.blocking(note.write, draft, left)
    except (Over, OSError, sqlite3.Error) as trouble:
        _unnoted(work, trouble)


def _unnoted(work: Work, trouble: Exception) -> None:
    work.request.log(f"what is in the snapshot could not be noted for `find`: {trouble}")


async def _proven(work: Work, engine: Engine, result: Result) -> Result:
    """Prove that files can be restored, where that is due; a flaw makes a success a warning."""
    request, wish = work.request, work.request.job.verify
    if wish is None:
        return result
    due = request.last_proven is None or request.clock.now() - request.last_proven >= wish.every
    proof = await _proof(work, engine, wish.sample if due else None)
    if proof is None:
        return result
    if not proof.flaws and not proof.files:
        request.log("nothing was proven: there is no file, or none that may be restored for that at home")
        return result
    if not proof.flaws:
        request.on_proven(work.snapshot)
        request.log(f"proven: {proof.files} files were restored, and are as they were kept")
        return result
    return replace(
        result,
        outcome=Outcome.WARNING,
        message=f"{result.message}, but {len(proof.flaws)} files or parts cannot be restored as they were",
        hint=f"the drive may be failing; which they are: usbbackup history {request.run}",
        notes=(*result.notes, *(flaw.sentence for flaw in proof.flaws)),
    )


async def _proof(work: Work, engine: Engine, sample: int | None) -> Proof | None:
    """None where there was nothing to compare, or it could not be; a drive that cannot be read is a flaw."""
    try:
        work.enter(Phase.VERIFY)
        return await engine.prove(work, sample)
    except (Over, OSError, UsbbackupError) as trouble:
        work.request.log(f"nothing was proven, the next run tries again: {trouble}")
        if isinstance(trouble, OSError) and trouble.errno == errno.EIO and not await parting(work.request):
            return Proof(flaws=[Flaw(f"the drive could not be read: {trouble.strerror}")])
        return None


async def _tidied(work: Work, engine: Engine) -> None:
    try:
        await engine.tidy(work)
    except (Over, OSError) as trouble:
        work.request.log(f"the next run will clear away what is of no more use: {trouble}")


def _look(request: Request) -> None:
    if (reason := request.target.still_there()) is not None:
        raise gone(reason)


def _job_folder(request: Request) -> int:
    """The job's folder on the drive, for this run alone; a rehearsal that finds none takes the one above."""
    name, above = request.job.name, request.target.fd
    if request.dry_run:
        try:
            return open_folder(above, name)
        except FileNotFoundError:
            return os.dup(above)
    folder = make_folder(above, name, 0o700)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise failed(
            f"another run of job '{name}' is writing to this drive", "wait until it has ended"
        ) from None
    return folder


def _result(work: Work, survey: Survey, copied: Copied) -> Result:
    missed = survey.unreadable + max(copied.missed, len(copied.unread))
    unread = (*survey.scan.unread.lines, *copied.unread)
    drive = safe(work.request.target.facts.name)
    done = f"{_amount(copied)} backed up to '{drive}'"
    return Result(
        Outcome.WARNING if missed else Outcome.SUCCESS,
        f"{done}, but {missed} could not be read or kept" if missed else done,
        f"the rest is safe; which they are: usbbackup history {work.request.run}" if missed else None,
        snapshot=work.snapshot if work.request.job.layout != "mirror" else None,
        bytes=copied.bytes,
        files=copied.files,
        notes=(*unread, *copied.notes),
        sources=survey.seen(),
    )


def _rehearsed(survey: Survey, copied: Copied) -> Result:
    return Result(
        Outcome.SUCCESS,
        f"{_amount(copied)} would be copied; nothing was written",
        bytes=copied.bytes,
        files=copied.files,
        notes=(*survey.scan.unread.lines, *copied.unread, *copied.notes),
    )


def _amount(copied: Copied) -> str:
    files = "the files" if copied.files is None else f"{copied.files} file{'s' * (copied.files != 1)}"
    return files if copied.bytes is None else f"{files} ({human_bytes(copied.bytes)})"
