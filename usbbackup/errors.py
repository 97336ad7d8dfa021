"""What can go wrong for a user, and the exit code that each kind of trouble has.

    UsbbackupError
    |- UsageError        2   the command line asked for something that is not there
    |  |- NoSuchJobError      no job of the configuration is called so
    |  `- NoSuchDriveError    no drive is called so
    |- NoAgentError     69   there is no agent to talk to
    |  `- SilentAgentError    there is one, and it does not answer
    |- NotNowError      75   the drive is absent or not ready, or another agent runs
    |- NotAllowedError  77   the drive is not enrolled
    `- ConfigError      78   the configuration is wrong

Any other exception that reaches the command line is a bug of ours and exits with 70.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; `--help` prints this table, scripts rely on it (sysexits.h where a code exists there)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_AGENT = 69
    BUG = 70
    NOT_NOW = 75
    NOT_ALLOWED = 77
    CONFIG = 78


MEANING = {
    Exit.DONE: "done, also with warnings",
    Exit.FAILED: "a job failed, or a check found something wrong",
    Exit.USAGE: "wrong usage, or no such job, drive or snapshot",
    Exit.NO_AGENT: "no agent to talk to",
    Exit.BUG: "a bug in usbbackup",
    Exit.NOT_NOW: "not now: drive absent or not ready, busy, or another agent runs",
    Exit.NOT_ALLOWED: "not allowed: the drive is not enrolled",
    Exit.CONFIG: "the configuration is wrong",
}


class UsbbackupError(Exception):
    """An expected trouble: one sentence for the user, and one on what to do next."""

    code = Exit.FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(UsbbackupError):
    """The command line asked for something that does not exist or does not fit together."""

    code = Exit.USAGE


class NoSuchJobError(UsageError):
    """No job of the configuration has that name."""


class NoSuchDriveError(UsageError):
    """No drive has that name, UUID, label, device node or mount point."""


class NoAgentError(UsbbackupError):
    """The command needs a running agent and there is none."""

    code = Exit.NO_AGENT


class SilentAgentError(NoAgentError):
    """An agent is there, and does not answer in time."""


class NotNowError(UsbbackupError):
    """It cannot be done at this moment; the same command may succeed later."""

    code = Exit.NOT_NOW


class NotAllowedError(UsbbackupError):
    """The drive has not been enrolled for this user's backups."""

    code = Exit.NOT_ALLOWED


class ConfigError(UsbbackupError):
    """The configuration cannot be used; the message says file, line, column and what."""

    code = Exit.CONFIG


BY_CODE: dict[int, type[UsbbackupError]] = {
    kind.code: kind
    for kind in (UsbbackupError, UsageError, NoAgentError, NotNowError, NotAllowedError, ConfigError)
}
