"""What it means that a run ended early: a drive that was pulled looks like many other things at first."""

import asyncio
import errno

from usbbackup.backup.engine import Doubtful, Over, Request, full, gone
from usbbackup.outcome import Outcome, Result
from usbbackup.text import safe

AFTERMATH = 2.0  # seconds: a pulled drive refuses writes before anything says that it was pulled


async def explained(request: Request, trouble: Over | OSError) -> Result:
    """The result of a run that ended with this; an interruption where the drive turns out to be gone."""
    match trouble:
        case Doubtful(result=result):
            return result
        case Over(result=result) if result.outcome is not Outcome.FAILED:
            return result
        case Over(result=result):
            return await _unless_pulled(request, result)
        case OSError():
            return await _unless_pulled(request, _of_the_drive(request, trouble))


def _of_the_drive(request: Request, error: OSError) -> Result:
    where = f"the drive '{safe(request.target.facts.name)}'"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return full(request.target).result
        case errno.EROFS:
            message = f"{where} does not let itself be written to any more"
            hint = "unmount it and check its file system; earlier snapshots are untouched"
        case _:
            message = f"{where} does not work: {error.strerror or error}"
            hint = "try another cable or port; if it happens again, replace the drive"
    return Result(Outcome.FAILED, message, hint)


async def _unless_pulled(request: Request, result: Result) -> Result:
    return await parting(request) or result


async def parting(request: Request) -> Result | None:
    """How the run ends because its drive turns out to be gone, or because it was asked to; else None.

    It waits for as long as the kernel takes to tell that a drive was pulled.
    """
    if request.target.still_there() is None:
        await _news(request)
    if request.stop:
        return request.stop.result()
    reason = request.target.still_there()
    return None if reason is None else gone(reason).result


async def _news(request: Request) -> None:
    """Wait for a wish to stop, for as long as the kernel takes to tell that a drive was pulled."""
    heard = asyncio.Event()
    timer = request.clock.later(AFTERMATH, heard.set)
    request.stop.on_set(heard.set)
    try:
        await heard.wait()
    finally:
        timer.cancel()
        request.stop.off(heard.set)
