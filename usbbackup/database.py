"""An SQLite file with one writer, which survives power cuts; a damaged one is set aside, never deleted."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from usbbackup.clock import Clock, compact_utc
from usbbackup.errors import UsbbackupError
from usbbackup.kernel import on_network

BUSY_SECONDS = 0.2
TROUBLE = (
    sqlite3.Error,
    OSError,
    UnicodeDecodeError,
)  # the last where SQLite's own words quote damaged bytes
LOGS = ("-wal", "-journal")  # what a writer keeps beside the database while it is at work
_SIDECARS = (*LOGS, "-shm")
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)
_PLAINLY = {
    sqlite3.SQLITE_BUSY: "another process is using it",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "it may not be changed",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is damaged",
}


@dataclass(frozen=True)
class Schema:
    """What a database is for: its name in sentences, its tables, and the error that its troubles become."""

    name: str
    application_id: int  # PRAGMA application_id
    migrations: tuple[tuple[str, ...], ...]  # the statements that lead from PRAGMA user_version n to n + 1
    error: type[UsbbackupError]

    @property
    def version(self) -> int:
        """The PRAGMA user_version of a database that is up to date."""
        return len(self.migrations)


class _UnusableError(Exception):
    """What stands there is no database of ours; the text goes on from its name."""


class Writer:
    """The one writer of a database. Every trouble is `schema.error`, and undoes that transaction.

    What a transaction wrote is on the disk when it ends: synchronous=FULL, with WAL or, where that is refused
    or the file lies on a network, a rollback journal. A file that is damaged, also while in use, or that was
    removed is replaced at the next use; `set_aside` then is one sentence with the new name of the old one.
    """

    def __init__(
        self, path: Path, schema: Schema, clock: Clock, *, network: Callable[[Path], bool] = on_network
    ) -> None:
        self.path, self._schema, self._clock, self._network = path, schema, clock, network
        self.set_aside: str | None = None
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, ...] | None = None
        self._damaged = False
        with self._speaking():
            self._connection()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to one question."""
        with self._speaking():
            return self._connection().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done inside, or nothing of it."""
        with self._speaking():
            db = self._connection()
            with _transaction(db):
                yield db

    def close(self) -> None:
        """Let go of the file; harmless when done twice."""
        db, self._db = self._db, None
        if db is not None:
            with self._speaking():
                db.close()

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except TROUBLE as error:
            self._damaged = self._damaged or _is_damage(error)
            raise told(error, self._schema, self.path, "written") from error

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None and not self._damaged and self._file == identity(self.path):
            return self._db
        self.close()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._damaged:
            self._set_aside("was damaged")
        try:
            self._db = self._connect()
        except _UnusableError as reason:
            self._set_aside(str(reason))
            self._db = self._connect()
        self._file = identity(self.path)
        return self._db

    def _connect(self) -> sqlite3.Connection:
        _refuse_what_is_no_database(self.path)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        db = connect(self.path, "mode=rw")
        try:
            _check(db, self._schema)
            db.execute(f"PRAGMA journal_mode={'DELETE' if self._network(self.path) else 'WAL'}")
            db.execute("PRAGMA synchronous=FULL")
            migrate(db, self._schema)
        except BaseException as error:
            db.close()
            if _is_damage(error):
                raise _UnusableError("was damaged") from error
            raise
        return db

    def _set_aside(self, reason: str) -> None:
        """Rename; first what stands beside, since a new database would take an old one's log for its own."""
        folder, name = self.path.parent, self.path.name
        aside = f"{name}.aside-{compact_utc(self._clock.now())}"
        while (folder / aside).exists():
            aside += "+"
        for ending in (*_SIDECARS, ""):
            with contextlib.suppress(FileNotFoundError):
                (folder / (name + ending)).rename(folder / (aside + ending))
        self._damaged = False
        self.set_aside = (
            f"The {self._schema.name} {reason}: it was set aside as {folder / aside}, a new one begins."
        )


def _refuse_what_is_no_database(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise _UnusableError("was no file")
    header = _first_bytes(path)
    if any(version > 2 for version in header[18:]):  # SQLite would read it, and refuse every write
        raise _UnusableError("was damaged")
    if not header and any(beside(path, log) for log in LOGS):
        raise _UnusableError("was cut off")  # and what its log says must not get into a new one


def _first_bytes(path: Path) -> bytes:
    """A magic text, the size of pages and which format it is written in (sqlite.org/fileformat.html)."""
    try:
        with path.open("rb") as file:
            return file.read(20)
    except FileNotFoundError:
        return b""


def _check(db: sqlite3.Connection, schema: Schema) -> None:
    try:
        (application, version), tables = marks(db), _tables(db)
    except sqlite3.OperationalError as error:
        if code(error) == sqlite3.SQLITE_ERROR:  # the question is right, so the file is wrong
            raise _UnusableError("was damaged") from error
        raise
    if (application, version) == (0, 0) and not tables:
        return  # begun just now
    if application != schema.application_id or version < 1:
        raise _UnusableError("was something else")
    if version > schema.version:
        raise _UnusableError("was written by a newer version of usbbackup")
    sound = db.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    if not sound or not tables >= _wanted(schema, version):
        raise _UnusableError("was damaged")


def _wanted(schema: Schema, version: int) -> set[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, replace(schema, migrations=schema.migrations[:version]))
        return _tables(db)


def _tables(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def connect(path: Path, how: str) -> sqlite3.Connection:
    """A connection without automatic transactions; `how` is as in SQLite's URIs (sqlite.org/uri.html)."""
    from urllib.parse import quote

    uri = f"file:{quote(os.fsencode(path))}?{how}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    db.text_factory = _text
    return db


def marks(db: sqlite3.Connection) -> tuple[int, int]:
    """Whose database it is, and of which version: application id and user version, both 0 in a new one."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return application, version


def migrate(db: sqlite3.Connection, schema: Schema) -> None:
    """Bring the tables up to date."""
    if marks(db)[1] == schema.version:
        return
    with _transaction(db):
        for statements in schema.migrations[marks(db)[1] :]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA application_id={schema.application_id}")
        db.execute(f"PRAGMA user_version={schema.version}")


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            db.execute("ROLLBACK")
        raise


def beside(path: Path, ending: str) -> Path | None:
    """The file of that ending beside a database, if there is one."""
    file = path.with_name(path.name + ending)
    return file if file.exists() else None


def identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino)


def code(error: BaseException) -> int | None:
    """The primary result code (sqlite.org/rescode.html); None where the error did not come from SQLite."""
    extended = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else int(extended) & 0xFF


def told(error: Exception, schema: Schema, path: Path, doing: str) -> UsbbackupError:
    """The trouble as one sentence."""
    match error:
        case OSError():
            reason = error.strerror
        case UnicodeDecodeError():
            reason = "it is damaged"
        case _:
            reason = _PLAINLY.get(code(error) or 0, str(error))
    return schema.error(f"The {schema.name} {path} cannot be {doing}: {reason}.")


def _is_damage(error: BaseException) -> bool:
    return isinstance(error, UnicodeDecodeError) or code(error) in _DAMAGE


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")  # a flipped bit costs a letter, not the row
