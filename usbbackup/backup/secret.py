"""The passphrase of a repository, or a run that waits for it."""

from collections.abc import Callable
from dataclasses import dataclass

from usbbackup.clock import Clock
from usbbackup.outcome import Outcome, Result, Stop
from usbbackup.passcommand import NO_SECRET, NoSecret, Secret, passphrase
from usbbackup.programs import Programs

__all__ = ["NO_SECRET", "Secret", "WaitingForSecret", "ask"]


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
    """Ask the passcommand. A wish to stop ends it. Raises UsbbackupError where it is not installed."""
    match await passphrase(passcommand, programs, clock, stop, on_start):
        case NoSecret(reason):
            return WaitingForSecret.because(reason)
        case secret:
            return secret
