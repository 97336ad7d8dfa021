"""The command engine: the user's own script, with nothing between it and a login shell.

No sandbox, umask 022, the user's environment and a few words about the drive. It exits with 0 for success,
with 75 where it is not the time (skipped), with anything else where it failed. What it leaves running in the
background is ended with it.
"""

import os

from usbbackup import kernel
from usbbackup.backup.engine import Request, failed, gone
from usbbackup.errors import Exit
from usbbackup.folders import closing
from usbbackup.offload import in_thread
from usbbackup.outcome import Outcome, Phase, Progress, Result, Stop
from usbbackup.programs import Ended, Lines, Program
from usbbackup.text import safe

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def run(request: Request) -> Result:
    """Run the job's command in the top directory of the drive, and sync what it wrote."""
    assert request.job.command is not None  # noqa: S101 - a valid configuration has it
    if request.dry_run:
        return Result(Outcome.SUCCESS, "a command cannot be tried out; nothing was run")
    with closing(_top(request)) as top:
        request.report(Progress(Phase.TRANSFER))
        ended = await script(request, request.job.command, request.stop, top)
        if request.stop:
            return request.stop.result()
        result = judged("the command", ended)
        if result.outcome is Outcome.SUCCESS:
            request.report(Progress(Phase.SYNC))
            await in_thread(kernel.syncfs, top)
    _check(request)
    return result


async def script(request: Request, argv: tuple[str, ...], stop: Stop, folder: int, **more: str) -> Ended:
    """Run a program of the user's in an open directory, and write all that it says to the run's log."""

    def log(line: bytes) -> None:
        request.log(safe(line.expandtabs()))

    return await request.programs.run(
        Program(argv, env=environment(request) | more, cwd_fd=folder),
        stop=stop,
        on_stdout=Lines(log),
        on_stderr=Lines(log),
        on_start=request.on_start,
    )


def environment(request: Request) -> dict[str, str]:
    """What a program of the user's is told."""
    facts = request.target.facts
    return {
        "USBBACKUP_MOUNT": str(facts.mount_point),
        "USBBACKUP_LABEL": facts.label,
        "USBBACKUP_UUID": facts.uuid,
        "USBBACKUP_DEVNODE": facts.devnode,
        "USBBACKUP_JOB": request.job.name,
        "USBBACKUP_RUN": request.run,
    }


def judged(what: str, ended: Ended) -> Result:
    """What the exit code of a user's program means, told with its last words."""
    words = f": {ended.last_words[-1]}" if ended.last_words else ""
    match ended.code:
        case Exit.DONE:
            return Result(Outcome.SUCCESS, f"{what} ended well")
        case Exit.NOT_NOW:
            return Result(Outcome.SKIPPED, f"{what} says: not now{words}")
        case _:
            return Result(
                Outcome.FAILED, f"{what} {ended.how}{words}", f"the run's log has all that {what} said"
            )


def _top(request: Request) -> int:
    """The top directory of the mount that was proven, and of no other."""
    _check(request)
    point = request.target.facts.mount_point
    try:
        fd = os.open(point, _FOLDER)
    except OSError as error:
        raise failed(f"the mount point {safe(str(point))} cannot be opened: {error.strerror}") from error
    if kernel.mount_id(fd) != kernel.mount_id(request.target.fd):
        os.close(fd)
        raise gone(f"another drive is mounted on {safe(str(point))}")
    return fd


def _check(request: Request) -> None:
    if (reason := request.target.still_there()) is not None:
        raise gone(reason)
