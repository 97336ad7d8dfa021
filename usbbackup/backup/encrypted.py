"""An encrypted home in an archive: what the archive's list tells of it, by plain names."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from usbbackup.backup.entry import Entry, Kind, is_below
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.home import KEYS, LOWER
from usbbackup.ecryptfs.listing import Damaged, Listed
from usbbackup.ecryptfs.lower import MISSING, Path, Wanted
from usbbackup.ecryptfs.names import Names, signature
from usbbackup.ecryptfs.passphrase import Keys

_TYPES = {
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.FILE: stat.S_IFREG,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}


def lowers(listed: Sequence[Entry]) -> list[bytes]:
    """The paths of all encrypted homes in a list."""
    name = os.fsencode(LOWER)
    return [
        entry.path
        for entry in listed
        if entry.kind is Kind.DIRECTORY and entry.path.rpartition(b"/")[2] == name
    ]


@dataclass(frozen=True)
class Archived:
    """One encrypted home."""

    entries: Sequence[Entry]  # of the whole archive, in order
    lower: bytes  # its path

    @property
    def keys(self) -> list[bytes]:
        """The path of the directory with what opens it; none where it was not backed up."""
        path = b"/".join((*self.lower.split(b"/")[:-1], os.fsencode(KEYS)))
        return [path] if any(entry.path == path for entry in self.entries) else []

    @property
    def signatures(self) -> tuple[str, ...]:
        """The signature of the key that a name in it is encrypted with; empty where none is."""
        for entry in self.entries:
            if is_below(entry.path, (self.lower,)):
                with suppress(DamagedError):
                    if found := signature(entry.path.rpartition(b"/")[2]):
                        return (found,)
        return ()

    def paths(self, keys: Keys, part: Wanted) -> list[bytes]:
        """The paths to copy out of the archive, so that what is wanted can be recovered."""
        if not part.paths:
            return [self.lower]
        return [entry.path for entry, plain, _ in self._plain(Names(keys)) if plain in part.paths]

    def listed(self, keys: Keys, part: Wanted) -> Iterator[Listed | Damaged]:
        """What is wanted. Sizes are not known: they stand in the files, which would have to be copied out."""
        names, met = Names(keys), set()
        for entry, plain, damage in self._plain(names):
            if not part.touches(plain):
                continue
            met.add(plain)
            if damage:
                yield Damaged(plain, damage)
            try:
                target = names.target(entry.target) if entry.target else b""
            except DamagedError as error:
                yield Damaged(plain, str(error))
                continue
            mode = _TYPES[entry.kind] | entry.mode
            yield Listed(plain, mode, None if entry.kind is Kind.FILE else 0, entry.mtime_ns, target)
        yield from (Damaged(path, MISSING) for path in sorted(part.paths - met))

    def _plain(self, names: Names) -> Iterator[tuple[Entry, Path, str | None]]:
        """Each entry with its plain path, and what is wrong with its name."""
        folders: dict[bytes, Path] = {self.lower: ()}
        for entry in self.entries:
            if entry.path == self.lower or not is_below(entry.path, (self.lower,)):
                continue
            parent, _, found = entry.path.rpartition(b"/")
            if parent not in folders:  # no backup of ours leaves out a directory
                continue
            try:
                name, damage = names.name(found), None
            except DamagedError as error:
                name, damage = found, f"{error}; it keeps its encrypted name"
            path = (*folders[parent], os.fsdecode(name))
            if entry.kind is Kind.DIRECTORY:
                folders[entry.path] = path
            yield entry, path, damage
