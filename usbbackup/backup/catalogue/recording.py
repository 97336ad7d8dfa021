"""Writing one more snapshot of a series into the catalogue, by what is different from the one before."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from usbbackup.backup.catalogue.listing import Listing, Version

_BATCH = 1000  # directories


class Change(NamedTuple):
    """What became of one directory."""

    path: bytes
    directory: int | None  # its id, where it has one
    before: bytes | None  # its listing, packed
    after: Listing | None
    digest: bytes = b""  # of `after`

    def files(self) -> tuple[dict[bytes, Version], dict[bytes, Version]]:
        """Those that it had, and has."""
        before = {} if self.before is None else Listing.unpacked(self.path, self.before).files
        return before, {} if self.after is None else self.after.files


class Draft(NamedTuple):
    """How a snapshot that is about to be made differs from the newest one that is noted."""

    since: str | None  # the time of that one
    changes: list[Change]


class Series:
    """What is noted of one job on one drive."""

    def __init__(self, db: sqlite3.Connection, number: int | None) -> None:
        self._db, self._series = db, number  # None: it has never been noted

    @classmethod
    def of(cls, db: sqlite3.Connection, drive: str, job: str) -> Self:
        """As it is, for a draft."""
        row = db.execute("SELECT id FROM series WHERE drive = ? AND job = ?", (drive, job)).fetchone()
        return cls(db, None if row is None else row[0])

    @classmethod
    def begin(cls, db: sqlite3.Connection, drive: str, label: str, job: str) -> Self:
        """The same to add to, made where there is none, and its drive named as it is now."""
        (number,) = db.execute(
            "INSERT INTO series (drive, label, job) VALUES (?, ?, ?) "
            "ON CONFLICT (drive, job) DO UPDATE SET label = excluded.label RETURNING id",
            (drive, label, job),
        ).fetchone()
        return cls(db, number)

    def newest(self) -> tuple[int, str | None]:
        """Number and time of the newest snapshot; 0 where there is none."""
        ask = "SELECT number, time FROM snapshots WHERE series = ? ORDER BY number DESC LIMIT 1"
        return self._db.execute(ask, (self._series,)).fetchone() or (0, None)

    def draft(self, listings: Iterable[Listing]) -> Draft:
        """Compare with the newest; nothing is written."""
        ask = (
            "SELECT path, directory, digest FROM listings JOIN directories ON id = directory WHERE series = ?"
        )
        known = {
            path: (directory, digest) for path, directory, digest in self._db.execute(ask, (self._series,))
        }
        changes = []
        for listing in listings:
            directory, digest = known.pop(listing.path, (None, b""))
            if (new := listing.digest) != digest:
                changes.append(Change(listing.path, directory, self._before(directory), listing, new))
        changes += [
            Change(path, directory, self._before(directory), None) for path, (directory, _) in known.items()
        ]
        return Draft(self.newest()[1], changes)

    def _before(self, directory: int | None) -> bytes | None:
        if directory is None:
            return None
        ask = "SELECT content FROM listings WHERE series = ? AND directory = ?"
        (content,) = self._db.execute(ask, (self._series, directory)).fetchone()
        return bytes(content)

    def add(self, time: str, draft: Draft, there: Sequence[str] | None) -> None:
        """Note the snapshot; `there` are all that the drive has, where that is known."""
        number = self.newest()[0] + 1
        for start in range(0, len(draft.changes), _BATCH):
            self._write(number, draft.changes[start : start + _BATCH])
        self._db.execute("INSERT INTO snapshots VALUES (?, ?, ?)", (self._series, number, time))
        if there is not None:
            self._keep_only({*there, time})

    def _write(self, number: int, changes: list[Change]) -> None:
        series, ended, begun, listed, gone = self._series, [], [], [], []
        for change in changes:
            directory = self._id(change)
            before, after = change.files()
            ended += [
                (number - 1, name, directory, series)
                for name, version in before.items()
                if after.get(name) != version
            ]
            begun += [
                (name, directory, series, number, *version)
                for name, version in after.items()
                if before.get(name) != version
            ]
            if change.after is None:
                gone.append((series, directory))
            else:
                listed.append((series, directory, change.digest, change.after.packed()))
        end = "UPDATE files SET last = ? WHERE name = ? AND directory = ? AND series = ? AND last IS NULL"
        self._db.executemany(end, ended)
        self._db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, NULL, ?, ?)", begun)
        self._db.executemany("INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?)", listed)
        self._db.executemany("DELETE FROM listings WHERE series = ? AND directory = ?", gone)

    def _id(self, change: Change) -> int:
        if change.directory is not None:
            return change.directory
        self._db.execute("INSERT OR IGNORE INTO directories (path) VALUES (?)", (change.path,))
        (found,) = self._db.execute("SELECT id FROM directories WHERE path = ?", (change.path,)).fetchone()
        return int(found)

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
