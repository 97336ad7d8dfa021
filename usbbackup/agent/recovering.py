"""An encrypted home in a directory or in a snapshot, held so that `ecryptfs` can read it."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from usbbackup import kernel
from usbbackup.agent.reading import Held, Reading
from usbbackup.backup import removal
from usbbackup.backup.encrypted import Archived, lowers
from usbbackup.backup.naming import Wish
from usbbackup.backup.opened import Opened, entries
from usbbackup.backup.unknown_drive import newest_snapshots
from usbbackup.ecryptfs import directory, listing
from usbbackup.ecryptfs.home import EncryptedHome, found
from usbbackup.ecryptfs.listing import Damaged, Listed
from usbbackup.ecryptfs.lower import Wanted
from usbbackup.ecryptfs.passphrase import Keys
from usbbackup.errors import NotNowError, UsageError
from usbbackup.folders import closing, make_folder, names_in
from usbbackup.text import safe

_STAGE = ".usbbackup-recover-home-"


class Source(Protocol):
    """One encrypted home."""

    home: EncryptedHome  # what opens it can be read there
    notes: list[str]  # what could not be copied out of an archive

    def listed(self, keys: Keys, part: Wanted) -> Iterator[Listed | Damaged]:
        """What is wanted of it."""
        ...

    @contextmanager
    def lower(self, keys: Keys, part: Wanted, to: Path) -> Iterator[Path]:
        """The directory that holds what is wanted of it, while the block runs; `to` has room for it."""
        ...

    def check(self) -> None:
        """Raises NotNowError where the drive has left."""
        ...


@dataclass
class InDirectory:
    """A home that lies in a directory."""

    home: EncryptedHome
    held: Held | None = None  # the drive that the directory is on
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.home.lower)

    def listed(self, keys: Keys, part: Wanted) -> Iterator[Listed | Damaged]:
        """By walking through it."""
        with closing(directory.opened(self.home.lower)) as lower:
            yield from listing.listed(lower, keys, part)

    @contextmanager
    def lower(self, keys: Keys, part: Wanted, to: Path) -> Iterator[Path]:
        """It is there already."""
        yield self.home.lower

    def check(self) -> None:
        """Only a drive that was found by itself is known."""
        if self.held is not None:
            _check(self.held)


@dataclass
class InArchive:
    """A home in an archive of borg: copied out, as far as it is wanted, to where it is recovered to."""

    runner: asyncio.Runner
    held: Held
    snapshot: Opened
    archived: Archived
    home: EncryptedHome
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.held.candidate.snapshot.snapshot}:/{os.fsdecode(self.archived.lower)}"

    def listed(self, keys: Keys, part: Wanted) -> Iterator[Listed | Damaged]:
        """From borg's own list."""
        return self.archived.listed(keys, part)

    @contextmanager
    def lower(self, keys: Keys, part: Wanted, to: Path) -> Iterator[Path]:
        """A copy beside what is recovered; it stays where that fails, and is gone on from."""
        name = self._stage_name()
        with closing(directory.made(to)) as target:
            for old in names_in(target):
                if old.startswith(_STAGE) and old != name:
                    with suppress(NotNowError):
                        _remove(target, old)
            with _held(target, name) as stage:
                paths = self.archived.paths(keys, part)
                copying = self.snapshot.copy(paths, stage, alone=[self.archived.lower])
                self.notes += self.runner.run(copying)
                yield to / name / os.fsdecode(self.archived.lower)
            _remove(target, name)

    def _stage_name(self) -> str:
        """The same for each attempt, until the next boot: after a crash there may be names without data."""
        one = self.held.candidate
        mark = hashlib.blake2b(f"{one.uuid} {one.snapshot.snapshot}".encode(), digest_size=4).hexdigest()
        return f"{_STAGE}{mark}-{kernel.boot_id()[:8]}"

    def check(self) -> None:
        """The archive is read before anything is recovered, but the drive should stay."""
        _check(self.held)


@contextmanager
def _held(target: int, name: str) -> Iterator[int]:
    """A stage, for one recovery at a time. Raises NotNowError."""
    with closing(make_folder(target, name, 0o700)) as stage:
        try:
            fcntl.flock(stage, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNowError("another recovery writes to this directory", "wait for its end") from None
        yield stage


def _remove(target: int, name: str) -> None:
    with _held(target, name) as stage:
        removal.empty(stage)
        os.rmdir(name, dir_fd=target)


def _check(held: Held) -> None:
    if (reason := held.pin.still_there()) is not None:
        raise NotNowError(reason, "plug the drive in again, and give the same command again: it goes on")


def in_directory(place: Path, user: str | None) -> InDirectory:
    """The home at or below a directory, which may also be the top of a drive. Raises UsageError."""
    homes = [home for top in newest_snapshots(place) or [place] for home in found(top)]
    return InDirectory(_only(homes, user, str(place)))


@contextmanager
def in_snapshot(drives: Reading, wish: Wish, user: str | None) -> Iterator[Source]:
    """The home in a snapshot, whose drive is held until the block ends. Raises UsageError."""
    with asyncio.Runner() as runner:
        runner.run(drives.__aenter__())
        try:
            held = runner.run(drives.find(wish))
            snapshot = runner.run(drives.open(held))
            if snapshot.snapshot.path is not None:
                homes = found(Path(snapshot.snapshot.path))
                yield InDirectory(_only(homes, user, snapshot.snapshot.snapshot), held)
            else:
                with _in_archive(runner, held, snapshot, user) as source:
                    yield source
        finally:
            runner.run(drives.__aexit__())


@contextmanager
def _in_archive(
    runner: asyncio.Runner, held: Held, snapshot: Opened, user: str | None
) -> Iterator[InArchive]:
    listed = runner.run(entries(snapshot))
    here = Path(tempfile.mkdtemp(prefix="usbbackup-"))
    try:
        homes = [EncryptedHome(here / os.fsdecode(lower)) for lower in lowers(listed)]
        home = _only(homes, user, snapshot.snapshot.snapshot)
        archived = Archived(listed, os.fsencode(home.lower.relative_to(here)))
        with closing(os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as into:
            runner.run(snapshot.copy(archived.keys, into, alone=[archived.lower]))
        yield InArchive(runner, held, snapshot, archived, replace(home, named=archived.signatures))
    finally:
        shutil.rmtree(here)


def _only(homes: Sequence[EncryptedHome], user: str | None, where: str) -> EncryptedHome:
    """The one that is meant."""
    match [home for home in homes if user in (None, home.user)]:
        case [home]:
            return home
        case []:
            whose = f" of {safe(user)}" if user else ""
            raise UsageError(
                f"there is no encrypted home{whose} in {safe(where)}",
                "looked for .Private, as in .ecryptfs/USER/.Private, not too many folders deep",
            )
        case several:
            lowers = "\n".join(safe(str(home.lower)) for home in several)
            raise UsageError(
                f"there are several encrypted homes in {safe(where)}", f"name one, or its --user:\n{lowers}"
            )
