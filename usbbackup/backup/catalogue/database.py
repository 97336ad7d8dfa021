"""The catalogue itself: a database at home, asked by name.

Only changes are stored: a version of a file, and the first and last snapshot that has it. It may be lost at
any time, and is made anew from the drives; nothing is ever restored by it.
"""

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

from usbbackup.backup.catalogue.listing import Listing
from usbbackup.backup.catalogue.recording import Draft, Series

FILE = "catalogue.db"
_VERSION = 2
_PATIENCE = 60.0  # seconds for another run that is recording

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

    def draft(self, drive: str, job: str, listings: Iterable[Listing]) -> Draft:
        """How these differ from the newest snapshot that is noted, for `record`; nothing is written."""
        with self.db:
            self.db.execute("BEGIN")  # all of it is read as of one moment, whoever writes meanwhile
            return Series.of(self.db, drive, job).draft(listings)

    def record(
        self,
        drive: str,
        label: str,
        job: str,
        time: str,
        listings: Iterable[Listing],
        there: Sequence[str] | None,
        draft: Draft | None = None,
    ) -> None:
        """Note what the newest snapshot holds; `there` are all that the drive has, where that is known.

        With a draft that still holds the listings are not read.
        """
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            series = Series.begin(self.db, drive, label, job)
            if draft is None or draft.since != series.newest()[1]:
                draft = series.draft(listings)
            series.add(time, draft, there)

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
        exactly = os.fsencode(name)
        if any(sign in name for sign in "*?["):
            literal = os.fsencode(_longest_literal(name))  # looked for first: that takes half the time
            found = self._rows("instr(name, ?) AND CAST(name AS TEXT) GLOB CAST(? AS TEXT)", literal, exactly)
        else:
            found = self._rows("name = ?", exactly)
            if not found and name:
                part = os.fsencode(f"%{_escaped(name)}%")
                found = self._rows("CAST(name AS TEXT) LIKE CAST(? AS TEXT) ESCAPE '!'", part)
        ending = b"/" + os.fsencode(above.strip("/")) if above.strip("/") else b""
        return [one for one in self._seen(found) if one.path.rpartition(b"/")[0].endswith(ending)]

    def _rows(self, where: str, *values: bytes) -> list[tuple[bytes, bytes, int, int, int | None, int, int]]:
        return self.db.execute(
            "SELECT path, name, series, first, last, size, mtime FROM files "  # noqa: S608 - our own words
            f"JOIN directories ON directory = directories.id WHERE {where} "
            "ORDER BY path, name, series, first",
            values,
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


def _longest_literal(pattern: str) -> str:
    """What every name that fits must have in it.

    >>> _longest_literal("IMG_[0-9]*.jpeg")
    '.jpeg'
    """
    return max(re.split(r"\[\^?\]?[^]]*\]|[*?[]", pattern), key=len)


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
