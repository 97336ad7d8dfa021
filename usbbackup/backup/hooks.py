"""Programs of the user's that run before and after a job.

before: one after the other; the first that does not exit with 0 keeps the job from running: 75 makes the run
    `skipped`, anything else makes it `failed`.
after: all of them and always, with USBBACKUP_OUTCOME, also after a `before` that failed. One that fails is
    told in a note, and makes a `success` a `warning`: the backup is good, what should follow it is not.

They run in the home directory, because the drive may be gone by the time of `after`.
"""

import os
from dataclasses import replace

from usbbackup.backup import command
from usbbackup.backup.engine import Request
from usbbackup.clock import Timer
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing
from usbbackup.outcome import Outcome, Result, Stop
from usbbackup.text import safe

AFTER_A_STOP = (
    15.0  # seconds for each `after` of a run that was asked to stop: the agent has to leave in time
)


async def before(request: Request) -> Result | None:
    """Run the `before` programs; None where the job may run, else the result of its run."""
    if request.dry_run:
        return None
    for argv in request.job.before:
        result = await _run(request, "before", argv, request.stop)
        if request.stop:
            return request.stop.result()
        if result.outcome is not Outcome.SUCCESS:
            return result
    return None


async def after(request: Request, result: Result) -> Result:
    """Run the `after` programs; the result of the run, with what went wrong with them."""
    if request.dry_run:
        return result
    outcome = result.outcome
    for argv in request.job.after:
        stop = Stop()
        limit = _Limit(request, stop)
        try:
            ended = await _run(request, "after", argv, stop, USBBACKUP_OUTCOME=outcome)
        finally:
            limit.lift()
        if ended.outcome is not Outcome.SUCCESS:
            result = _with_trouble(result, ended.message)
    return result


class _Limit:
    """Ends a program some time after the run was asked to stop."""

    def __init__(self, request: Request, stop: Stop) -> None:
        self._request, self._stop = request, stop
        self._timer: Timer | None = None
        request.stop.on_set(self._count)

    def _count(self) -> None:
        self._timer = self._request.clock.later(
            AFTER_A_STOP, lambda: self._stop.set(Outcome.INTERRUPTED, "took too long")
        )

    def lift(self) -> None:
        self._request.stop.off(self._count)
        if self._timer is not None:
            self._timer.cancel()


async def _run(request: Request, which: str, argv: tuple[str, ...], stop: Stop, **more: str) -> Result:
    what = f"the {which} program '{safe(argv[0])}'"
    try:
        with closing(os.open(request.paths.home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as home:
            return command.judged(what, await command.script(request, argv, stop, home, **more))
    except UsbbackupError as error:
        return Result(Outcome.FAILED, f"{which}: {error.message}", error.hint)
    except OSError as error:
        return Result(Outcome.FAILED, f"{what} cannot be started: {error.strerror}")


def _with_trouble(result: Result, trouble: str) -> Result:
    told = replace(result, notes=(*result.notes, trouble))
    if result.outcome is not Outcome.SUCCESS:
        return told
    return replace(told, outcome=Outcome.WARNING, message=f"{result.message}; {trouble}")
