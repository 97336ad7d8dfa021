"""Passphrases: asked of the user's own passcommand, kept in memory, handed on through a pipe only.

Not in arguments, environment or logs: the passcommand's output is never shown, also not where it fails.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from usbbackup.clock import Clock
from usbbackup.outcome import Outcome, Stop
from usbbackup.programs import Program, Programs
from usbbackup.running import FIRMLY

TIME_LIMIT = 60.0  # seconds; a keyring may be asking the user for its password meanwhile
_LONGEST = 4096  # bytes; a pipe holds that much with nobody reading yet (pipe(7))


@dataclass(frozen=True)
class Secret:
    """A passphrase; does not show itself."""

    value: bytes = field(repr=False)
    # with its last new line, where there is one
    printed: bytes = field(default=b"", repr=False, compare=False)

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
class NoSecret:
    """The passcommand gave none; `reason` goes on from its name."""

    reason: str


async def passphrase(
    passcommand: tuple[str, ...],
    programs: Programs,
    clock: Clock,
    stop: Stop,
    on_start: Callable[[int, int], None] | None = None,
) -> Secret | NoSecret:
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
        return NoSecret(f"did not answer within {TIME_LIMIT:.0f} seconds")
    if ended.code != 0:
        return NoSecret(ended.how)
    return _secret(b"".join(chunks))


def _secret(printed: bytes) -> Secret | NoSecret:
    value = printed.removesuffix(b"\n")
    if not value:
        return NoSecret("printed nothing")
    if len(value) > _LONGEST:
        return NoSecret(f"printed more than {_LONGEST} bytes")
    return Secret(value, printed)
