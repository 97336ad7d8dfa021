"""Reads an SQLite file, whether or not another process is writing it, and leaves no trace of that."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from usbbackup.database import LOGS, TROUBLE, Schema, beside, code, connect, identity, marks, migrate, told

_ATTEMPTS = 10
_NEEDS_WRITING = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class Reader:
    """A database to ask only; a missing one is empty. Every trouble is `schema.error`.

    With a log beside it the database is in use, and SQLite keeps reader and writer apart. Without one it
    is read as it stands, for SQLite would create files beside it. What only a writer could make readable
    (one that died has left it, or it is of an older version) is read from a private copy. In both of these
    cases it is opened anew as soon as the files change.
    """

    set_aside: str | None = None  # a reader leaves everything where it is

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path, self._schema = path, schema
        self._db: sqlite3.Connection | None = None
        self._guarded = False  # by SQLite's own locks
        self._seen: object = None
        self._copies = ExitStack()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to one question; nothing where there is no database yet."""
        with self._speaking():
            for _ in range(_ATTEMPTS):
                try:
                    self._open_anew_if_changed()
                    found = self._db.execute(sql, values).fetchall() if self._db else []
                except TROUBLE:
                    if self._look() == self._seen:
                        raise
                else:
                    if self._guarded or self._look() == self._seen:
                        return found
            raise sqlite3.OperationalError("it changes too fast")

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Refused."""
        raise self._schema.error(f"The {self._schema.name} was opened for reading only.")

    def close(self) -> None:
        """Let go of the file; harmless when done twice."""
        db, self._db, self._seen = self._db, None, None
        if db is not None:
            db.close()
        self._copies.close()

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except TROUBLE as error:
            raise told(error, self._schema, self.path, "read") from error

    def _look(self) -> object:
        """What tells that the database must be opened anew."""
        if self._guarded:
            return identity(self.path)
        return [_stamp(file) for file in (self.path, *(beside(self.path, log) for log in LOGS))]

    def _open_anew_if_changed(self) -> None:
        if self._seen is not None and self._look() == self._seen:
            return
        self.close()
        self._guarded = False
        self._seen = self._look()
        if identity(self.path) is None:
            return
        in_use = any(beside(self.path, log) for log in LOGS)
        try:
            self._db = self._connect(self.path, "mode=ro" if in_use else "immutable=1")
        except sqlite3.OperationalError as error:
            if code(error) not in _NEEDS_WRITING:
                raise
            self._db = self._connect(self._copied(), "mode=rw")
        else:
            self._guarded = in_use
            self._seen = self._look()

    def _connect(self, path: Path, how: str) -> sqlite3.Connection:
        db = connect(path, how)
        try:
            _refuse_strangers(db, self._schema)
            migrate(db, self._schema)  # only a copy can be, and only an older one has to be
        except BaseException:
            db.close()
            raise
        return db

    def _copied(self) -> Path:
        import shutil  # hardly ever needed, and slow to import
        import tempfile

        if not self.path.is_file():
            raise sqlite3.DatabaseError("it is no file")
        folder = Path(self._copies.enter_context(tempfile.TemporaryDirectory(prefix="usbbackup-")))
        for ending in ("", *LOGS):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(self.path.with_name(self.path.name + ending), folder / ("copy" + ending))
        return folder / "copy"


def _refuse_strangers(db: sqlite3.Connection, schema: Schema) -> None:
    application, version = marks(db)
    if application != schema.application_id and version > 0:
        raise sqlite3.DatabaseError("it is something else")
    if version > schema.version:
        raise sqlite3.DatabaseError("it was written by a newer version of usbbackup")


def _stamp(file: Path | None) -> tuple[int, ...] | None:
    try:
        status = file.stat() if file else None
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size) if status else None
