"""Passphrases: asked of the user's own passcommand, kept in memory, handed on through a pipe only.

Not in arguments, environment or logs: the passcommand's output is never shown, also not where it fails.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from usbbackup.clock import Clock
from usbbackup.outcome import Outcome, Result, Stop
from usbbackup.programs import Program, Programs
from usbbackup.running import FIRMLY

TIME_LIMIT = 60.0  # seconds; a keyring may be asking the user for its password meanwhile
_LONGEST = 4096  # bytes; a pipe holds that much with nobody reading yet (pipe(7))


@dataclass(frozen=True)
class Secret:
    """A passphrase; does not show itself."""

    value: bytes = field(repr=False)

    @contextmanager
    def readable(self) -> Iterator[int]:
        """A descriptor that the passphrase can be read from, once."""
        reader, writer = os.pipe()
        try:
            os.write(writer, self.value)
        finally:
            os.close(writer)
        try:
            yield reader
        finally:
            os.close(reader)


NO_SECRET = Secret(b"")


@dataclass(frozen=True)
class WaitingForSecret(Result):
    """The result of a run that could not get its passphrase: it was not the backup that failed."""

    @classmethod
    def because(cls, reason: str) -> "WaitingForSecret":
        """The passcommand gave none, for this reason."""
        return cls(
            Outcome.SKIPPED,
            f"there is no passphrase: the passcommand {reason}",
            "unlock your keyring, or try the passcommand in a terminal; nothing was written to the drive",
        )


async def ask(
    passcommand: tuple[str, ...],
    programs: Programs,
    clock: Clock,
    stop: Stop,
    on_start: Callable[[int, int], None] | None = None,
) -> Secret | WaitingForSecret:
    """Run the passcommand as in a login shell; its whole output, less the last newline, is the passphrase.

    A wish to stop ends it; the caller then looks at `stop`. Raises UsbbackupError where it is not installed.
    """
    chunks: list[bytes] = []
    limit = Stop()
    stop.on_set(end := lambda: limit.set(Outcome.CANCELLED, "the run was asked to stop"))
    timer = clock.later(TIME_LIMIT, lambda: limit.set(Outcome.FAILED, "took too long"))
    try:
        program = Program(passcommand, stopping=FIRMLY)
        ended = await programs.run(program, stop=limit, on_stdout=chunks.append, on_start=on_start)
    finally:
        timer.cancel()
        stop.off(end)
    if limit:
        return WaitingForSecret.because(f"did not answer within {TIME_LIMIT:.0f} seconds")
    if ended.code != 0:
        return WaitingForSecret.because(ended.how)
    return _secret(b"".join(chunks).removesuffix(b"\n"))


def _secret(value: bytes) -> Secret | WaitingForSecret:
    if not value:
        return WaitingForSecret.because("printed nothing")
    if len(value) > _LONGEST:
        return WaitingForSecret.because(f"printed more than {_LONGEST} bytes")
    return Secret(value)
