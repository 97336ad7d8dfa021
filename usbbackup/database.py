"""An SQLite file that survives power cuts, is set aside when damaged, and is read while it is written."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from usbbackup.clock import Clock, compact_utc
from usbbackup.errors import UsbbackupError

BUSY_SECONDS = 0.2
_SIDECARS = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database that is, or was, in use
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NEEDS_WRITING = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


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


class _Unusable(Exception):  # noqa: N818 - a finding about a file, never seen outside
    """The file is there and is not what it should be; the text goes on from "it"."""


class Writer:
    """The one writer of a database. Every trouble is `schema.error`; nothing of that transaction is kept then.

    What `transaction` wrote is on the disk when it ends (synchronous=FULL; WAL, or a rollback journal where WAL
    is refused or the file lies on a network). A file that is damaged, also while in use, or that was removed is
    replaced at the next use: `set_aside` then is one sentence with the new name of the old one.
    """

    set_aside: str | None = None

    def __init__(self, path: Path, schema: Schema, clock: Clock, *, network: bool = False) -> None:
        self.path, self._schema, self._clock, self._network = path, schema, clock, network
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
        """All of it, on the disk, or nothing."""
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
        except (sqlite3.Error, OSError) as error:
            self._damaged = self._damaged or _is_damage(error)
            raise _told(error, self._schema, self.path, "written") from error

    def _connection(self) -> sqlite3.Connection:
        if self._db is not None and not self._damaged and self._file == _identity(self.path):
            return self._db
        self.close()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            if self._damaged:
                self._set_aside("was damaged")
            db = _connect(self.path, self._schema, self._network)
        except _Unusable as reason:
            self._set_aside(str(reason))
            db = _connect(self.path, self._schema, self._network)
        self._db, self._file, self._damaged = db, _identity(self.path), False
        return db

    def _set_aside(self, reason: str) -> None:
        """Rename; what stands beside first, since a new database would take an old one's log for its own."""
        stem = f"{self.path.name}.aside-{compact_utc(self._clock.now())}"
        others = (f"{stem}.{count}" for count in range(2, 10_000))
        names = [stem, *others] if (self.path.parent / stem).exists() else [stem]
        name = next(name for name in names if not (self.path.parent / name).exists())
        for ending in (*_SIDECARS, ""):
            with contextlib.suppress(FileNotFoundError):
                (self.path.parent / (self.path.name + ending)).rename(self.path.parent / (name + ending))
        self._damaged = False
        self.set_aside = (
            f"The {self._schema.name} {reason}; it was set aside as {self.path.parent / name} "
            "and a new one was begun."
        )


def _connect(path: Path, schema: Schema, network: bool) -> sqlite3.Connection:
    _refuse_what_is_no_database(path)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        _check(db, schema)
        db.execute(f"PRAGMA journal_mode={'DELETE' if network else 'WAL'}")
        db.execute("PRAGMA synchronous=FULL")
        _migrate(db, schema)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error) and _is_damage(error):
            raise _Unusable("was damaged") from error
        raise
    return db


def _refuse_what_is_no_database(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise _Unusable("was no file")
    begun = path.exists() and path.stat().st_size > 0
    if not begun and any(_beside(path, ending) for ending in ("-wal", "-journal")):
        raise _Unusable("was cut off")  # and its log must not be taken for that of a new one


def _check(db: sqlite3.Connection, schema: Schema) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = _shape(db)
    if version == 0 and application == 0 and not tables:
        return
    if application != schema.application_id or version < 1:
        raise _Unusable("was something else")
    if version > schema.version:
        raise _Unusable("was written by a newer version of usbbackup")
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok" or not tables >= _wanted(schema, version):
        raise _Unusable("was damaged")


def _migrate(db: sqlite3.Connection, schema: Schema) -> None:
    with _transaction(db):
        version = db.execute("PRAGMA user_version").fetchone()[0]
        for statements in schema.migrations[version:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA application_id={schema.application_id}")
        db.execute(f"PRAGMA user_version={schema.version}")


def _wanted(schema: Schema, version: int) -> set[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        _migrate(db, Schema(schema.name, schema.application_id, schema.migrations[:version], schema.error))
        return _shape(db)


def _shape(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    return set(
        db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")
    )


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


class Reader:
    """Reads a database while another process writes it, and changes nothing. A missing one is empty.

    Where nothing but the file itself is there, nobody has it open, and it is read as it stands: SQLite would
    create files beside it otherwise. As soon as that changes, it is opened anew.
    """

    set_aside: str | None = None

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self._schema = path, schema
        self._db: sqlite3.Connection | None = None
        self._seen: tuple[int, ...] | None = None
        self._copy: contextlib.ExitStack = contextlib.ExitStack()
        with self._speaking():
            self._reopen()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to one question; nothing where there is no database yet."""
        with self._speaking():
            for _ in range(10):
                if self._seen != self._now():
                    self._reopen()
                try:
                    found = self._db.execute(sql, values).fetchall() if self._db else []
                except sqlite3.Error:
                    if self._seen == self._now():
                        raise
                    continue
                if self._seen == self._now():
                    return found
            raise sqlite3.OperationalError("it changes too fast")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Refused."""
        raise self._schema.error(f"The {self._schema.name} was opened for reading only.")
        yield

    def close(self) -> None:
        """Let go of the file; harmless when done twice."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._copy.close()

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise _told(error, self._schema, self.path, "read") from error

    def _now(self) -> tuple[int, ...] | None:
        """What must stay the same, or the file is opened anew; the contents are SQLite's matter where it watches."""
        identity = _identity(self.path)
        if identity is None or self._busy():
            return identity
        status = self.path.stat()
        return (*identity, status.st_mtime_ns, status.st_size)

    def _busy(self) -> bool:
        return any(_beside(self.path, ending) for ending in ("-wal", "-journal"))

    def _reopen(self) -> None:
        self.close()
        self._seen = self._now()
        if self._seen is None:
            return
        if not self.path.is_file():
            raise sqlite3.DatabaseError("it is no file")
        if not self._busy():
            self._db = _connect_to_read(self.path, self._schema, "immutable=1")
            return
        try:
            self._db = _connect_to_read(self.path, self._schema, "mode=ro")
        except sqlite3.OperationalError as error:
            if _code(error) not in _NEEDS_WRITING:
                raise
            self._db = _connect_to_read(self._copied(), self._schema, "mode=rw")

    def _copied(self) -> Path:
        """What a writer that died left must be mended before it can be read: that is done to a copy."""
        import shutil  # hardly ever needed, and slow to import
        import tempfile

        folder = Path(self._copy.enter_context(tempfile.TemporaryDirectory(prefix="usbbackup-")))
        for ending in ("", "-wal", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(str(self.path) + ending, folder / ("copy" + ending))
        return folder / "copy"


def _connect_to_read(path: Path, schema: Schema, how: str) -> sqlite3.Connection | None:
    """Open; None where the tables have not been made yet."""
    uri = f"file:{quote(os.fsencode(path))}?{how}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        application = db.execute("PRAGMA application_id").fetchone()[0]
        if version == 0 and not _shape(db):
            db.close()
            return None
    except BaseException:
        db.close()
        raise
    if (version, application) == (schema.version, schema.application_id):
        return db
    db.close()
    raise sqlite3.DatabaseError("it was written by another version of usbbackup")


def _beside(path: Path, ending: str) -> bool:
    return Path(str(path) + ending).exists()


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino)


def _code(error: BaseException) -> int:
    """The primary result code (sqlite.org/rescode.html); -1 where the error did not come from SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


def _is_damage(error: BaseException) -> bool:
    return _code(error) in _DAMAGE


def _told(error: Exception, schema: Schema, path: Path, doing: str) -> UsbbackupError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return schema.error(f"The {schema.name} {path} cannot be {doing}: {reason}.")
