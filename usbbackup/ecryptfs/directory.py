"""A recovery as it is asked for: to a directory, with a list of what was damaged beside what was not."""

import os
from collections.abc import Callable
from pathlib import Path

from usbbackup.ecryptfs.lower import Path as PlainPath
from usbbackup.ecryptfs.lower import Wanted
from usbbackup.ecryptfs.passphrase import Keys
from usbbackup.ecryptfs.recovery import Tally, recover
from usbbackup.errors import UsageError, UsbbackupError
from usbbackup.files import write_atomically
from usbbackup.folders import closing
from usbbackup.text import safe

DAMAGED = "usbbackup-damaged-files.txt"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def opened(lower: Path) -> int:
    """Open what holds an encrypted home. Raises UsbbackupError where that fails."""
    try:
        return os.open(lower, _DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise UsbbackupError(f"{safe(str(lower))} cannot be read: {error.strerror}") from error


def wanted(words: list[str], mount_point: str | None) -> Wanted:
    """The part of a home that is asked for: paths within it, or absolute where its mount point is known.

    Raises UsageError.

    >>> sorted(wanted(["photos/2012/", "/home/david/letters"], "/home/david").paths)
    [('letters',), ('photos', '2012')]
    """
    return Wanted(frozenset(_path(word, mount_point) for word in words))


def _path(word: str, mount_point: str | None) -> PlainPath:
    inside = word
    if word.startswith("/"):
        top = (mount_point or "").rstrip("/") + "/"
        if mount_point is None or not word.startswith(top):
            where = f"lay at {safe(mount_point)}" if mount_point else "does not tell where it lay"
            raise UsageError(
                f"'{safe(word)}' is not in the home, which {where}", "name it as seen from the home"
            )
        inside = word.removeprefix(top)
    parts = tuple(part for part in inside.split("/") if part not in ("", "."))
    if not parts or ".." in parts:
        raise UsageError(
            f"'{safe(word)}' is no path in the home", "name it as seen from the home: photos/2012"
        )
    return parts


def recovered(lower: Path, to: Path, keys: Keys, part: Wanted, tell: Callable[[Tally], None]) -> Tally:
    """Recover a home, or a part of it, to a directory, which is made where it is missing.

    `tell` is called often. Raises UsageError where the directory lies in the home itself, and UsbbackupError
    where it cannot be made or written to.
    """
    if to.resolve().is_relative_to(lower.resolve()):
        raise UsageError(f"{safe(str(to))} lies in the encrypted home itself", "recover to another directory")
    with closing(opened(lower)) as source, closing(made(to)) as target:
        tally = recover(source, target, keys, part, tell)
    _list(to / DAMAGED, tally)
    return tally


def made(to: Path) -> int:
    """Open the directory to recover to; it is made where it is missing. Raises UsbbackupError."""
    try:
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(to, _DIRECTORY)
    except OSError as error:
        raise UsbbackupError(f"the directory {safe(str(to))} cannot be used: {error.strerror}") from error


def _list(file: Path, tally: Tally) -> None:
    if not tally.damaged:
        file.unlink(missing_ok=True)  # of an earlier attempt
        return
    lines = [f"{safe('/'.join(path))}: {safe(why)}\n" for path, why in tally.damaged]
    write_atomically(file, "".join(lines).encode())
