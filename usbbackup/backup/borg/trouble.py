"""What a failed borg means for the user: tables by errno, by borg's message ids, and by its exit codes.

Source: borg's "Message IDs" and "Return codes" (docs/internals/frontends and docs/usage/general), 1.2 to 1.4.
"""

import errno
import os
import re
from typing import NamedTuple

from usbbackup.backup.borg.log import Account
from usbbackup.text import safe


class Trouble(NamedTuple):
    """What happened, and what it means or what to do next."""

    message: str
    hint: str


_LOG = "the run's log has all that borg said"

LOCKED = Trouble(
    "the borg repository is locked",
    "wait until the other borg has ended; it is tried again later, and the lock is never broken by force",
)
WRONG_PASSPHRASE = Trouble(
    "the passphrase does not open the borg repository",
    "check the job's passcommand; the repository still has the passphrase that it was made with",
)
DAMAGED = Trouble(
    "the borg repository is damaged",
    "nothing was changed; look at the drive with `borg check`, and back up to another drive meanwhile",
)
_NO_REPOSITORY = Trouble(
    "the job's folder on the drive holds something that is no borg repository",
    "look into it, and move it away if it is nothing of yours; the next run then makes a new repository",
)
_NEWER = Trouble(
    "the borg repository needs a newer borg",
    "install the borg that wrote to it last; nothing was changed",
)
OLDER = Trouble(
    "the borg repository on the drive is older than last time",
    "an old copy may have been put in its place; nothing was changed",
)
_OTHER_ENCRYPTION = Trouble(
    "the borg repository is not encrypted as it was last time",
    "somebody may have replaced it; nothing was sent to it",
)
_KEY = Trouble(
    "the key of the borg repository is missing or does not fit",
    "bring it back with `borg key import`; usbbackup keeps a copy of it in its `keys` directory",
)
PIPE = Trouble(
    "a file became a pipe while it was to be copied, and borg waited for somebody to write to it",
    "nothing was published; the next run takes the pipe for what it is",
)
FULL = Trouble(
    "the drive is full",
    "make room on it, or use a larger drive; earlier snapshots are safe",
)
_FIGURES = re.compile(r"required: ([\d.]+ \w+), available: ([\d.]+ \w+)", re.ASCII)
_EXISTS = Trouble(
    "a snapshot of this very name is already in the borg repository",
    "start the job again; if it happens once more, set the computer's clock",
)

# message id: (exit code with BORG_EXIT_CODES=modern, what it means)
TABLE: dict[str, tuple[int, Trouble]] = {
    "Repository.CheckNeeded": (12, DAMAGED),
    "Repository.DoesNotExist": (13, _NO_REPOSITORY),
    "Repository.InsufficientFreeSpaceError": (14, FULL),
    "Repository.InvalidRepository": (15, _NO_REPOSITORY),
    "Repository.InvalidRepositoryConfig": (16, _NO_REPOSITORY),
    "Repository.AtticRepository": (11, _NO_REPOSITORY),
    "Repository.ObjectNotFound": (17, DAMAGED),
    "Repository.StorageQuotaExceeded": (
        20,
        Trouble("the borg repository has reached its storage quota", "raise it with `borg config`"),
    ),
    "Repository.PathPermissionDenied": (
        21,
        Trouble("borg may not read its repository", "make the job's folder on the drive yours again"),
    ),
    "MandatoryFeatureUnsupported": (25, _NEWER),
    "NoManifestError": (26, DAMAGED),
    "UnsupportedManifestError": (27, _NEWER),
    "Archive.AlreadyExists": (30, _EXISTS),
    "Archive.DoesNotExist": (
        31,
        Trouble(
            "the new snapshot is not in the borg repository",
            "do not rely on it; look at the drive with `borg check`",
        ),
    ),
    "KeyfileInvalidError": (40, _KEY),
    "KeyfileMismatchError": (41, _KEY),
    "KeyfileNotFoundError": (42, _KEY),
    "RepoKeyNotFoundError": (44, _KEY),
    "UnsupportedPayloadError": (48, _NEWER),
    "NoPassphraseFailure": (50, WRONG_PASSPHRASE),
    "PassphraseWrong": (52, WRONG_PASSPHRASE),
    "PasswordRetriesExceeded": (53, WRONG_PASSPHRASE),
    "Cache.CacheInitAbortedError": (
        60,
        Trouble(
            "borg does not know this unencrypted repository on this computer",
            "if it is yours, answer its question once: run `borg info` on it by hand",
        ),
    ),
    "Cache.EncryptionMethodMismatch": (61, _OTHER_ENCRYPTION),
    "Cache.RepositoryAccessAborted": (
        62,
        Trouble("the borg repository was in another place last time", "make sure that it is the right drive"),
    ),
    "Cache.RepositoryIDNotUnique": (63, OLDER),
    "Cache.RepositoryReplay": (64, OLDER),
    "LockError": (70, LOCKED),
    "LockErrorT": (71, LOCKED),
    "LockFailed": (72, LOCKED),
    "LockTimeout": (73, LOCKED),
    "IntegrityError": (90, DAMAGED),
    "FileIntegrityError": (91, DAMAGED),
    "DecompressionError": (92, DAMAGED),
    "ArchiveTAMInvalid": (95, DAMAGED),
    "ArchiveTAMRequiredError": (96, DAMAGED),
    "TAMInvalid": (97, DAMAGED),
    "TAMRequiredError": (98, DAMAGED),
    "TAMUnsupportedSuiteError": (99, _NEWER),
}
_BY_CODE = dict(TABLE.values())
_BY_ERRNO = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: Trouble(
        "the drive became read-only", "check its file system; what was on it before is untouched"
    ),
    errno.EIO: Trouble("reading or writing the drive failed", "check cable and drive; it may be dying"),
}


def good(code: int) -> bool:
    """Did borg do what it should, perhaps with warnings? (1, and from 100 in the modern exit codes)

    126 and 127 come from whoever should have started it, where that cannot be done.
    """
    return code in (0, 1) or 100 <= code <= 125


def trouble(code: int, account: Account) -> Trouble | None:
    """What the failure means; None where nothing here knows it."""
    if account.os_error in _BY_ERRNO:
        return _BY_ERRNO[account.os_error]
    if account.msgid in TABLE:
        return _closer(TABLE[account.msgid][1], account)
    return _BY_CODE.get(code)


def is_full(trouble: Trouble) -> bool:
    """Is it want of room on the drive?"""
    return trouble.hint == FULL.hint


def _closer(trouble: Trouble, account: Account) -> Trouble:
    """With the figures, where borg gives them: it wants room for a whole new segment at the end."""
    figures = (_FIGURES.search(error.text) for error in account.errors)
    if trouble is not FULL or (found := next(filter(None, figures), None)) is None:
        return trouble
    needed, there = found.groups()
    return Trouble(f"the drive is full: borg needs {needed} free, and {there} are", FULL.hint)


def unknown(how: str, account: Account) -> Trouble:
    """A failure that nothing here knows, in borg's own words."""
    if account.os_error is not None:
        return Trouble(f"borg failed: {os.strerror(account.os_error)}", _LOG)
    said = [error.text.strip().splitlines()[0] for error in account.errors if error.text.strip()]
    words = f": {safe(said[0])}" if said else ""
    return Trouble(f"borg {how}{words}", _LOG)
