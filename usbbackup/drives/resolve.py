"""Which drive a user means by a word on the command line."""

import os
from collections.abc import Callable, Sequence

from usbbackup.drives.survey import DriveView
from usbbackup.errors import NoSuchDriveError, UsageError
from usbbackup.text import did_you_mean, safe

# In this order: the first way that fits any drive decides.
_WAYS: tuple[Callable[[str, DriveView], bool], ...] = (
    lambda word, drive: drive.name == word,
    lambda word, drive: drive.uuid is not None and drive.uuid.casefold() == word.casefold(),
    lambda word, drive: drive.label == word,
    lambda word, drive: drive.devnode is not None and drive.devnode == os.path.realpath(word),
    lambda word, drive: drive.mount_point is not None and drive.mount_point == (word.rstrip("/") or "/"),
    lambda word, drive: drive.uuid is not None and drive.uuid.casefold().startswith(word.casefold()),
)


def resolve(word: str, drives: Sequence[DriveView]) -> DriveView:
    """The drive with that name, UUID, label, device node or mount point, or the one UUID that begins so.

    Raises UsageError with those it could be where it fits several, NoSuchDriveError with the nearest where it
    fits none.
    """
    for fits in _WAYS if word else ():
        found = [drive for drive in drives if fits(word, drive)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"'{safe(word)}' could be any of {_listed(found)}.", "Say which, by its UUID.")
    names = [name for drive in drives for name in (drive.name, drive.uuid, drive.label) if name]
    hint = f"There is {_listed(drives)}." if drives else "Plug it in first."
    raise NoSuchDriveError(f"There is no drive '{safe(word)}'{did_you_mean(word, names)}.", hint)


def _listed(drives: Sequence[DriveView]) -> str:
    shown = [f"'{safe(drive.name)}' ({safe(drive.uuid or 'never seen')})" for drive in drives[:10]]
    return ", ".join(shown) + (", ..." if len(drives) > 10 else "")
