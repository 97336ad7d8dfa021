"""Proving that what was kept can be given back: every byte or a sample, and what a flaw touches."""

import os
import random
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from usbbackup.backup import removal
from usbbackup.backup.borg import commands as borg_commands
from usbbackup.backup.borg.archive import Archive
from usbbackup.backup.borg.session import Session
from usbbackup.backup.entry import Entry, Kind
from usbbackup.backup.opened import Opened, entries
from usbbackup.backup.rsync.checksums import Check, Checksums, File, digest, digest_of
from usbbackup.backup.rsync.tree import Tree
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing, open_below
from usbbackup.offload import in_thread
from usbbackup.outcome import Stop
from usbbackup.text import safe

_CHUNK = re.compile(r"\b[0-9a-f]{64}\b")
_MOST_READ = 200  # doubtful files that are read one by one
_PRIVATE_SHARE = 2  # a drill takes at most one part in so many of what is free at home


@dataclass(frozen=True)
class Flaw:
    """Something that is not as it was kept."""

    what: str  # a sentence
    path: bytes | None = None  # None: not one file
    snapshots: tuple[str, ...] = ()  # that have it

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        name = f"/{safe(self.path)} " if self.path is not None else ""
        return f"{name}{self.what}" + (f" (in {', '.join(self.snapshots)})" if self.snapshots else "")


@dataclass
class Proof:
    """What came of a proof."""

    files: int = 0  # read and found to be as they were
    bytes: int = 0
    unknown: int = 0  # files of which nothing was known; what they hold now is known from here on
    flaws: list[Flaw] = field(default_factory=list)


def verify_trees(
    trees: Sequence[Tree],
    every: Sequence[Tree],
    sums: Checksums,
    check: Check,
    sample: int | None,
    *,
    learn: bool,
) -> Proof:
    """Read files of rsync snapshots, each once however many share it, and compare them with their checksums.

    `every` are all snapshots of the job, to tell which of them a flaw touches. It blocks for as long as it
    takes to read everything, or so many files as `sample` says; `check` may end it. `learn`: what is not
    known yet is noted, so that the next time there is something to compare it with.
    """
    proof, bad = Proof(), dict[File, str]()
    seen: dict[tuple[int, File], tuple[Tree, Entry]] = {}  # on btrfs each snapshot has files of its own
    for tree in trees:
        for entry in tree.entries():
            if entry.kind is Kind.FILE:
                seen.setdefault((tree.device, File.of(entry)), (tree, entry))
    for tree, entry in _sampled(list(seen.values()), sample):
        check()
        _look(tree, entry, sums, proof, bad, check)
    if bad:
        proof.flaws = _named(bad, every)
    for tree in trees if learn else []:
        sums.complete(tree, check)
    return proof


def _sampled(files: list[tuple[Tree, Entry]], sample: int | None) -> list[tuple[Tree, Entry]]:
    if sample is None or sample >= len(files):
        return files
    return random.sample(files, sample)


def _look(
    tree: Tree, entry: Entry, sums: Checksums, proof: Proof, bad: dict[File, str], check: Check
) -> None:
    known = sums.of(entry)
    if known is None and not sums.is_whole(tree):
        proof.unknown += 1
        return
    try:
        if known is None:
            bad[File.of(entry)] = "was changed after it was kept: its size or time is another"
        elif digest(tree, entry.path, check) != known:
            bad[File.of(entry)] = "is damaged: its content is not what was kept"
        else:
            proof.files += 1
            proof.bytes += entry.size
    except OSError as error:
        bad[File.of(entry)] = f"cannot be read: {error.strerror}"


def _named(bad: dict[File, str], every: Sequence[Tree]) -> list[Flaw]:
    """One flaw for each path that leads to a bad file, with the snapshots that have it."""
    found: dict[tuple[bytes, str], list[str]] = {}
    for tree in every:
        for entry in tree.entries():
            if entry.kind is Kind.FILE and (what := bad.get(File.of(entry))) is not None:
                found.setdefault((entry.path, what), []).append(tree.snapshot.snapshot)
    return [Flaw(what, path, tuple(snapshots)) for (path, what), snapshots in found.items()]


async def verify_archives(
    session: Session, archives: Sequence[Archive], stop: Stop, seconds: int | None
) -> Proof:
    """Have borg check the repository: every byte of it, or for so many seconds, going on from last time.

    What is damaged is named by asking which archives hold the damaged pieces.
    """
    answer = await session.ask(borg_commands.verify(seconds), stop)
    said = [error.text for error in answer.account.errors] + list(answer.account.unread)
    if answer.ended.code == 0:
        return Proof()
    if not said and not answer.good:
        raise UsbbackupError(*await session.trouble(answer, stop))
    flaws = await _damaged(archives, frozenset(_CHUNK.findall("\n".join(said))))
    return Proof(flaws=flaws or [Flaw(f"borg says: {safe(said[0].strip().splitlines()[0])}")])


async def _damaged(archives: Sequence[Archive], pieces: frozenset[str]) -> list[Flaw]:
    """The files that hold doubtful pieces and cannot be read; borg doubts all that lies behind a damage."""
    flaws: list[Flaw] = []
    doubtful: dict[tuple[bytes, frozenset[str]], list[Archive]] = {}
    for archive in archives:
        try:
            for held in await archive.holding(pieces):
                doubtful.setdefault(held, []).append(archive)
        except UsbbackupError as error:
            flaws.append(Flaw(f"cannot be read: {error.message}", None, (archive.snapshot.snapshot,)))
    for number, ((path, _), holders) in enumerate(doubtful.items()):
        if number >= _MOST_READ or not await _readable(holders[0], path):
            what = "is damaged" if number < _MOST_READ else "may be damaged"
            flaws.append(Flaw(what, path, tuple(archive.snapshot.snapshot for archive in holders)))
    return flaws


async def _readable(archive: Archive, path: bytes) -> bool:
    try:
        await archive.read(path, lambda piece: None)
    except UsbbackupError:
        return False
    return True


async def drill(
    snapshot: Opened,
    sample: int,
    place: Path,
    check: Check,
    known: Callable[[Entry], bytes | None] = lambda entry: None,
    stop: Stop | None = None,
) -> Proof:
    """Restore files chosen at random to the directory `place`, which is then removed, and compare them.

    With their checksum where `known` tells one, and with the original where that has not changed since.
    """
    files = [entry for entry in await entries(snapshot) if entry.kind is Kind.FILE]
    await in_thread(lambda: place.parent.mkdir(mode=0o700, parents=True, exist_ok=True))
    room = shutil.disk_usage(place.parent).free // _PRIVATE_SHARE
    chosen = list[Entry]()
    for entry in random.sample(files, min(sample, len(files))):
        if (room := room - entry.size) >= 0:
            chosen.append(entry)
    with _empty(place) as stage:
        lost = await snapshot.copy([entry.path for entry in chosen], stage, stop=stop) if chosen else ()
        proof = await in_thread(_compared, chosen, stage, snapshot, check, known)
        proof.flaws += [Flaw(f"not restored as it was: {line}") for line in lost if "file system" not in line]
    return proof


@contextmanager
def _empty(place: Path) -> Iterator[int]:
    """A private directory, empty whatever a drill that was cut off has left there; it goes with the block."""
    place.mkdir(mode=0o700, exist_ok=True)
    with closing(os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as private:
        removal.empty(private)
        try:
            yield private
        finally:
            removal.empty(private)
    place.rmdir()


def _compared(
    chosen: Collection[Entry],
    stage: int,
    snapshot: Opened,
    check: Check,
    known: Callable[[Entry], bytes | None],
) -> Proof:
    proof = Proof()
    for entry in chosen:
        try:
            what = _difference(entry, stage, check, known(entry))
        except OSError as error:
            what = f"was not restored: {error.strerror}"
        if what is None:
            proof.files += 1
            proof.bytes += entry.size
        else:
            proof.flaws.append(Flaw(what, entry.path, (snapshot.snapshot.snapshot,)))
    return proof


def _difference(entry: Entry, stage: int, check: Check, kept: bytes | None) -> str | None:
    name = entry.path.rpartition(b"/")[2]
    with (
        closing(open_below(stage, entry.parent)) as folder,
        closing(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)) as fd,
    ):
        found = os.fstat(fd)
        if found.st_size != entry.size:
            return "was restored with another size"
        restored = digest_of(fd, check)
    if kept is not None and restored != kept:
        return "was restored with another content"
    if (original := _original(entry, check)) is not None and restored != original:
        return "is another than the original, which looks unchanged"
    return None


def _original(entry: Entry, check: Check) -> bytes | None:
    """The checksum of what was backed up, where it looks as it did then and may be read."""
    try:
        fd = os.open(b"/" + entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with closing(fd):
        found = os.fstat(fd)
        if (found.st_size, found.st_mtime_ns) != (entry.size, entry.mtime_ns):
            return None
        return digest_of(fd, check)
