"""What every snapshot on every drive holds, kept at home, to find a file while its drive lies in a drawer.

Only changes are stored: a version of a file, and the first and last snapshot that has it. It may be lost at
any time, and is made anew from the drives; nothing is ever restored by it.
"""

import hashlib
import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from usbbackup.backup import layout
from usbbackup.backup.entry import Entry, Kind, is_below
from usbbackup.backup.manifest import Manifest

if TYPE_CHECKING:
    from usbbackup.backup.engine import Work

FILE = "catalogue.db"
_VERSION = 2
_MARK = 4  # numbers for each name in a manifest: inode, size, mtime, ctime
_PATIENCE = 60.0  # seconds for another run that is recording
_SECOND = 10**9

_TABLES = """
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, drive TEXT NOT NULL, label TEXT NOT NULL, job TEXT NOT NULL,
        UNIQUE (drive, job)
    ) STRICT;
    CREATE TABLE snapshots (
        series INTEGER NOT NULL, number INTEGER NOT NULL, time TEXT NOT NULL, PRIMARY KEY (series, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE directories (id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE) STRICT;
    CREATE TABLE listings (
        series INTEGER NOT NULL, directory INTEGER NOT NULL, digest BLOB NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (series, directory)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE files (
        name BLOB NOT NULL, directory INTEGER NOT NULL, series INTEGER NOT NULL, first INTEGER NOT NULL,
        last INTEGER, size INTEGER NOT NULL, mtime INTEGER NOT NULL,
        PRIMARY KEY (name, directory, series, first)
    ) STRICT, WITHOUT ROWID;
"""


Version = tuple[int, int]  # size, and time in seconds


class Listing(NamedTuple):
    """The files in one directory, at one time."""

    path: bytes  # of the directory, absolute
    names: bytes  # with NULs between
    sizes: "array[int]"
    mtimes: "array[int]"  # nanoseconds

    @property
    def digest(self) -> bytes:
        """Equal where nothing has changed."""
        found = hashlib.blake2b(self.names, digest_size=8)
        found.update(self.sizes.tobytes())
        found.update(self.mtimes.tobytes())
        return found.digest()

    @property
    def files(self) -> "dict[bytes, Version]":
        """Each by its name."""
        names = self.names.split(b"\0") if self.names else []
        seconds = [mtime // _SECOND for mtime in self.mtimes]
        return dict(zip(names, zip(self.sizes, seconds, strict=True), strict=True))

    def packed(self) -> bytes:
        """All but the path."""
        return b"".join((self.names, b"\0\0", self.sizes.tobytes(), self.mtimes.tobytes()))

    @classmethod
    def unpacked(cls, path: bytes, content: bytes) -> Self:
        """What was packed: no name is empty, so the first two NULs in a row end them."""
        names, _, numbers = content.partition(b"\0\0")
        both = array("q", numbers)
        return cls(path, names, both[: len(both) // 2], both[len(both) // 2 :])


class Seen(NamedTuple):
    """What is known of one path on one drive."""

    path: bytes
    drive: str  # UUID
    label: str
    job: str
    first: str  # snapshots: of the oldest and the newest that have it, as `<job>@<time>`
    last: str
    version: str  # the oldest that has it as it is in the newest
    current: bool  # the job's newest snapshot there has it
    size: int
    mtime: int  # seconds


def of_manifest(manifest: Manifest) -> Iterator[Listing]:
    """The listings that a run has made anyway."""
    for directory in manifest.records():
        if not directory.kept_empty:
            marks = array("q", directory.marks)
            yield Listing(directory.path, directory.names, marks[1::_MARK], marks[2::_MARK])


def of_entries(entries: Iterable[Entry]) -> Iterator[Listing]:
    """The same, of a snapshot that was read; entries in order."""
    files = sorted(
        (entry for entry in entries if entry.kind is not Kind.DIRECTORY), key=lambda entry: entry.parent
    )
    for parent, group in groupby(files, key=lambda entry: entry.parent):
        some = list(group)
        yield Listing(
            b"/" + parent,
            b"\0".join(entry.path.rpartition(b"/")[2] for entry in some),
            array("q", [entry.size for entry in some]),
            array("q", [entry.mtime_ns for entry in some]),
        )


@dataclass(frozen=True)
class Catalogue:
    """The database, open; close it."""

    db: sqlite3.Connection

    @classmethod
    def open(cls, state: Path) -> Self:
        """Open it, or begin a new one where there is none, or one that cannot be used."""
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state / FILE
        try:
            return cls(_opened(path))
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                path.with_name(name).unlink(missing_ok=True)
            return cls(_opened(path))

    def close(self) -> None:
        """Close it."""
        self.db.close()

    def record(
        self,
        drive: str,
        label: str,
        job: str,
        time: str,
        listings: Iterable[Listing],
        there: Sequence[str] | None,
    ) -> None:
        """Note what the newest snapshot holds; `there` are all that the drive has, where that is known."""
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            _Recording(self.db, drive, label, job).add(time, listings, there)

    def forget(self, drive: str, job: str) -> None:
        """Forget everything of a job on a drive, before it is read anew."""
        with self.db:
            for (series,) in self.db.execute(
                "SELECT id FROM series WHERE drive = ? AND job = ?", (drive, job)
            ).fetchall():
                for table in ("snapshots", "listings", "files"):
                    self.db.execute(f"DELETE FROM {table} WHERE series = ?", (series,))  # noqa: S608 - our own words

    def holders(self, snapshot: str) -> list[str]:
        """The labels of the drives that have a snapshot of this name."""
        job, _, time = snapshot.rpartition("@")
        return [
            label
            for (label,) in self.db.execute(
                "SELECT label FROM series JOIN snapshots ON series = id WHERE job = ? AND time = ?",
                (job, time),
            )
        ]

    def find(self, pattern: str) -> list[Seen]:
        """Files by name: as it is, or by a pattern as of the shell; where none is, by a part in any case.

        With a slash in it the directories before the name have to be those.
        """
        above, _, name = pattern.rpartition("/")
        if any(sign in name for sign in "*?["):
            found = self._rows("CAST(name AS TEXT) GLOB ?", name)
        else:
            found = self._rows("name = ?", os.fsencode(name))
            if not found and name:
                found = self._rows("CAST(name AS TEXT) LIKE ? ESCAPE '!'", f"%{_escaped(name)}%")
        ending = b"/" + os.fsencode(above.strip("/")) if above.strip("/") else b""
        return [one for one in self._seen(found) if one.path.rpartition(b"/")[0].endswith(ending)]

    def _rows(
        self, where: str, value: str | bytes
    ) -> list[tuple[bytes, bytes, int, int, int | None, int, int]]:
        return self.db.execute(
            "SELECT path, name, series, first, last, size, mtime FROM files "  # noqa: S608 - our own words
            f"JOIN directories ON directory = directories.id WHERE {where} "
            "ORDER BY path, name, series, first",
            (value,),
        ).fetchall()

    def _seen(self, rows: Iterable[tuple[bytes, bytes, int, int, int | None, int, int]]) -> Iterator[Seen]:
        series = {
            number: (drive, label, job)
            for number, drive, label, job in self.db.execute("SELECT id, drive, label, job FROM series")
        }
        there: dict[int, dict[int, str]] = {}
        for number, snapshot, time in self.db.execute("SELECT series, number, time FROM snapshots"):
            there.setdefault(number, {})[snapshot] = time
        for (path, name, number), group in groupby(rows, key=lambda row: row[:3]):
            snapshots = there.get(number, {})
            held = [
                (row, having)
                for row in group
                if (having := [n for n in snapshots if row[3] <= n and (row[4] is None or n <= row[4])])
            ]
            if not held:
                continue
            drive, label, job = series[number]
            newest, having = held[-1]
            yield Seen(
                path.rstrip(b"/") + b"/" + name,
                *(drive, label, job),
                f"{job}@{snapshots[min(held[0][1])]}",
                f"{job}@{snapshots[max(having)]}",
                f"{job}@{snapshots[min(having)]}",
                max(having) == max(snapshots),
                *(newest[5], newest[6]),
            )


class _Recording:
    def __init__(self, db: sqlite3.Connection, drive: str, label: str, job: str) -> None:
        self._db = db
        db.execute(
            "INSERT INTO series (drive, label, job) VALUES (?, ?, ?) "
            "ON CONFLICT (drive, job) DO UPDATE SET label = excluded.label",
            (drive, label, job),
        )
        find = "SELECT id FROM series WHERE drive = ? AND job = ?"
        (self._series,) = db.execute(find, (drive, job)).fetchone()

    def add(self, time: str, listings: Iterable[Listing], there: Sequence[str] | None) -> None:
        series = self._series
        (last,) = self._db.execute(
            "SELECT coalesce(max(number), 0) FROM snapshots WHERE series = ?", (series,)
        ).fetchone()
        self._number = last + 1
        known = {
            path: (directory, digest)
            for path, directory, digest in self._db.execute(
                "SELECT path, directory, digest FROM listings JOIN directories ON id = directory "
                "WHERE series = ?",
                (series,),
            )
        }
        for listing in listings:
            directory, digest = known.pop(listing.path, (None, b""))
            if (new := listing.digest) != digest:
                self._update(listing, new, directory)
        for path, (directory, _) in known.items():
            self._close(directory, self._before(path, directory))
            self._db.execute("DELETE FROM listings WHERE series = ? AND directory = ?", (series, directory))
        self._db.execute("INSERT INTO snapshots VALUES (?, ?, ?)", (series, self._number, time))
        if there is not None:
            self._keep_only({*there, time})

    def _keep_only(self, there: set[str]) -> None:
        """Forget snapshots that are no more, and what only they had."""
        times = self._db.execute(
            "SELECT number, time FROM snapshots WHERE series = ?", (self._series,)
        ).fetchall()
        gone = [(self._series, number) for number, time in times if time not in there]
        if gone:
            self._db.executemany("DELETE FROM snapshots WHERE series = ? AND number = ?", gone)
            (oldest,) = self._db.execute(
                "SELECT min(number) FROM snapshots WHERE series = ?", (self._series,)
            ).fetchone()
            self._db.execute("DELETE FROM files WHERE series = ? AND last < ?", (self._series, oldest))

    def _update(self, listing: Listing, digest: bytes, directory: int | None) -> None:
        if directory is None:
            directory = self._directory(listing.path)
        before, now = self._before(listing.path, directory), listing.files
        self._close(directory, [name for name, version in before.items() if now.get(name) != version])
        self._db.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, NULL, ?, ?)",
            [
                (name, directory, self._series, self._number, *version)
                for name, version in now.items()
                if before.get(name) != version
            ],
        )
        self._db.execute(
            "INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?)",
            (self._series, directory, digest, listing.packed()),
        )

    def _directory(self, path: bytes) -> int:
        self._db.execute("INSERT OR IGNORE INTO directories (path) VALUES (?)", (path,))
        (found,) = self._db.execute("SELECT id FROM directories WHERE path = ?", (path,)).fetchone()
        return int(found)

    def _before(self, path: bytes, directory: int) -> dict[bytes, Version]:
        """The files in the directory as of the snapshot before."""
        ask = "SELECT content FROM listings WHERE series = ? AND directory = ?"
        found = self._db.execute(ask, (self._series, directory)).fetchone()
        return Listing.unpacked(path, found[0]).files if found else {}

    def _close(self, directory: int, names: Iterable[bytes]) -> None:
        self._db.executemany(
            "UPDATE files SET last = ? WHERE name = ? AND directory = ? AND series = ? AND last IS NULL",
            [(self._number - 1, name, directory, self._series) for name in names],
        )


def note(work: "Work", seen: Manifest, left: Sequence[str] | None) -> None:
    """Note the snapshot that a run has just made, from what its walk has seen; it blocks."""
    facts, job = work.request.target.facts, work.request.job
    there = layout.published(work.job_fd) if job.engine == "rsync" else left
    with closing(Catalogue.open(work.request.paths.state)) as catalogue:
        listings = chain(of_manifest(seen), _singles(work))
        catalogue.record(facts.uuid, facts.label or facts.name, job.name, work.time, listings, there)


def _singles(work: "Work") -> Iterator[Listing]:
    """Sources that are files, and lie in no other source: no walk has listed their directories."""
    places = work.scan.places
    walked = {place.path for place in places if place.directory}
    files = [place.path for place in places if not place.directory and not is_below(place.path, walked)]
    for parent, group in groupby(sorted(files), key=lambda path: path.rpartition(b"/")[0]):
        found = [(path, os.lstat(path)) for path in group if os.path.lexists(path)]
        names = b"\0".join(path.rpartition(b"/")[2] for path, _ in found)
        sizes = array("q", [one.st_size for _, one in found])
        yield Listing(parent or b"/", names, sizes, array("q", [one.st_mtime_ns for _, one in found]))


def _escaped(text: str) -> str:
    for sign in "!%_":
        text = text.replace(sign, f"!{sign}")
    return text


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # it can be made anew
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, _VERSION):
        raise sqlite3.DatabaseError("it is of another version")
    if version == 0:
        db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
