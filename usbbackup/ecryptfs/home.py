"""Encrypted homes below a directory: where they lie, what belongs to their keys, and what opens them.

The files are those of ecryptfs-setup-private(1): `.Private` holds everything, encrypted; the directory
`.ecryptfs` beside it the wrapped passphrase, the signatures of the keys, and where the home is mounted.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from usbbackup.ecryptfs.contents import signatures
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.names import PREFIX, signature
from usbbackup.ecryptfs.passphrase import Keys, WrongPassphraseError, unwrapped
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing
from usbbackup.text import safe

LOWER, KEYS = ".Private", ".ecryptfs"

_DEPTH = 8  # folders below the directory; a snapshot has /home/.ecryptfs/david, or more
_DIRECTORIES = 20_000  # that are looked at
_SAMPLE = 100  # entries
_SMALL = 4096  # bytes; what is longer is none of these files
_SIGNATURE = re.compile(r"[0-9a-f]{16}", re.ASCII)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class EncryptedHome:
    """One home, as it lies on a disk or in a backup."""

    lower: Path
    named: tuple[str, ...] = ()  # signatures that are known from elsewhere

    @property
    def keys(self) -> Path:
        """The directory with what belongs to the keys; it need not be there."""
        return self.lower.with_name(KEYS)

    @property
    def user(self) -> str:
        """Whose home it is, as far as its place tells."""
        return self.lower.parent.name

    @property
    def signatures(self) -> tuple[str, ...]:
        """The signatures of its keys; empty where `Private.sig` is not there."""
        return tuple(_SIGNATURE.findall(self._said("Private.sig").decode("ascii", "replace").lower()))

    @property
    def mount_point(self) -> str | None:
        """The absolute path that it had when it was in use."""
        said = os.fsdecode(self._said("Private.mnt").strip())
        return said if said.startswith("/") else None

    def _said(self, name: str) -> bytes:
        """One of the small files beside it; empty where it is not there, or no file."""
        try:
            with closing(os.open(self.keys / name, _FILE)) as file:
                return os.read(file, _SMALL)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as error:
            raise UsbbackupError(f"{safe(str(self.keys / name))} cannot be read: {error.strerror}") from error

    def unlocked(self, secret: bytes, *, mount: bool) -> Keys:
        """Its keys; `mount` says that the secret is the mount passphrase, not the login passphrase.

        Raises UsbbackupError where it is the wrong one, or what it would open is missing or damaged.
        """
        keys = Keys.of(secret if mount else self._mount_passphrase(secret))
        known = self.signatures or self.named or _signatures_below(self.lower)
        if known and {keys.contents.signature, keys.names.signature}.isdisjoint(known):
            raise WrongPassphraseError(
                f"the mount passphrase {'is wrong' if mount else 'that was wrapped is not in use'}: "
                f"the signature in use is {known[0]}, this one has {keys.contents.signature}",
                "type it exactly as it was noted" if mount else "take all of .ecryptfs from one snapshot",
            )
        return keys

    def _mount_passphrase(self, login: bytes) -> bytes:
        wrapped, place = self._said("wrapped-passphrase"), safe(str(self.keys / "wrapped-passphrase"))
        if not wrapped:
            raise UsbbackupError(
                f"the wrapped passphrase is missing: {place}",
                "the login passphrase is of no use without it; with the mount passphrase (32 characters,\n"
                "noted down when the home was encrypted) use --mount-passphrase",
            )
        try:
            return unwrapped(wrapped, login)
        except DamagedError as error:
            raise UsbbackupError(f"{place} {error}", "take it from another snapshot") from error


def found(directory: Path) -> list[EncryptedHome]:
    """The encrypted homes at a directory or not far below. Raises UsbbackupError where it cannot be read."""
    try:
        if _is_lower(directory):
            return [EncryptedHome(directory)]
    except OSError as error:
        raise UsbbackupError(f"{safe(str(directory))} cannot be read: {error.strerror}") from error
    closed: dict[Path, OSError] = {}
    homes = sorted(_below(directory, closed), key=lambda home: home.lower)
    if closed and not homes:
        place, why = next(iter(closed.items()))
        raise UsbbackupError(
            f"there is no encrypted home in {safe(str(directory))} that can be read; "
            f"{safe(str(place))} cannot: {why.strerror}",
            "if it belongs to somebody else, give the command as that user, or with sudo",
        )
    return homes


def _below(top: Path, closed: dict[Path, OSError]) -> Iterator[EncryptedHome]:
    """Breadth first; what cannot be read is added to `closed`."""
    todo = [(top, 0)]
    for looked, (directory, depth) in enumerate(todo):
        if looked >= _DIRECTORIES:
            return
        try:
            names = _folders(directory)
        except OSError as error:
            closed[directory] = error
            continue
        for name in names:
            if name == LOWER:
                yield EncryptedHome(directory / name)
            elif depth < _DEPTH:
                todo.append((directory / name, depth + 1))


def _folders(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def _is_lower(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return directory.name == LOWER or any(os.fsencode(entry.name).startswith(PREFIX) for entry in entries)


def _signatures_below(lower: Path) -> tuple[str, ...]:
    """The signatures that the first entries themselves name; empty where there are none."""
    try:
        with os.scandir(lower) as entries:
            for entry in islice(entries, _SAMPLE):
                if known := _signatures_of(entry):
                    return known
    except OSError as error:
        raise UsbbackupError(f"{safe(str(lower))} cannot be read: {error.strerror}") from error
    return ()


def _signatures_of(entry: "os.DirEntry[str]") -> tuple[str, ...]:
    try:
        if of_name := signature(os.fsencode(entry.name)):
            return (of_name,)
        if entry.is_file(follow_symlinks=False):
            with closing(os.open(entry.path, _FILE)) as file:
                return signatures(file)
    except (DamagedError, OSError):  # one of many, and each is looked at again when it is recovered
        pass
    return ()
