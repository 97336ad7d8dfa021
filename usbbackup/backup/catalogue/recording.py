"""Writing one more snapshot of a series into the catalogue, by what is different from the one before."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from usbbackup.backup.catalogue.listing import Listing, Version


class Draft(NamedTuple):
    """How a snapshot that is about to be made differs from the newest one that is noted."""

    since: str | None  # the time of that one
    changed: list[tuple[Listing, bytes, int | None]]  # with its digest, and the id of the directory
    gone: list[tuple[bytes, int]]


class Series:
    """What is noted of one job on one drive."""

    def __init__(self, db: sqlite3.Connection, number: int) -> None:
        self._db, self._series = db, number

    @classmethod
    def of(cls, db: sqlite3.Connection, drive: str, job: str) -> Self | None:
        """None where there is none yet."""
        row = db.execute("SELECT id FROM series WHERE drive = ? AND job = ?", (drive, job)).fetchone()
        return None if row is None else cls(db, row[0])

    @classmethod
    def begin(cls, db: sqlite3.Connection, drive: str, label: str, job: str) -> Self:
        """The same, made where there is none, and its drive named as it is now."""
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
        changed = []
        for listing in listings:
            directory, digest = known.pop(listing.path, (None, b""))
            if (new := listing.digest) != digest:
                changed.append((listing, new, directory))
        gone = [(path, directory) for path, (directory, _) in known.items()]
        return Draft(self.newest()[1], changed, gone)

    def add(self, time: str, draft: Draft, there: Sequence[str] | None) -> None:
        """Note the snapshot; `there` are all that the drive has, where that is known."""
        number = self.newest()[0] + 1
        for listing, digest, directory in draft.changed:
            self._update(number, listing, digest, directory)
        for path, directory in draft.gone:
            self._close(number, directory, self._before(path, directory))
            self._db.execute(
                "DELETE FROM listings WHERE series = ? AND directory = ?", (self._series, directory)
            )
        self._db.execute("INSERT INTO snapshots VALUES (?, ?, ?)", (self._series, number, time))
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

    def _update(self, number: int, listing: Listing, digest: bytes, directory: int | None) -> None:
        if directory is None:
            directory = self._directory(listing.path)
        before, now = self._before(listing.path, directory), listing.files
        self._close(number, directory, [name for name, version in before.items() if now.get(name) != version])
        self._db.executemany(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, NULL, ?, ?)",
            [
                (name, directory, self._series, number, *version)
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

    def _close(self, number: int, directory: int, names: Iterable[bytes]) -> None:
        self._db.executemany(
            "UPDATE files SET last = ? WHERE name = ? AND directory = ? AND series = ? AND last IS NULL",
            [(number - 1, name, directory, self._series) for name in names],
        )
