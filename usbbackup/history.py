"""What was run, on which drive and with what end: the memory that outlives the agent and the drive."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from usbbackup.clock import Clock, rfc3339
from usbbackup.database import Schema, Writer
from usbbackup.database_reader import Reader
from usbbackup.errors import UsbbackupError
from usbbackup.history_tables import MIGRATIONS
from usbbackup.kernel import boot_id
from usbbackup.outcome import Outcome, Phase, Result, SourceSeen
from usbbackup.text import safe

T = TypeVar("T")

DECISIONS_KEPT = 20_000
NOTES_KEPT = 1_000  # of one run; its log has them all
CANDIDATES = 20
_LARGEST = 2**63 - 1  # of an SQLite INTEGER


class HistoryError(UsbbackupError):
    """The history cannot be read or written now; nothing of the change was kept, it may be tried again."""


@dataclass(frozen=True)
class RunRecord:
    """One run; times are wall seconds. `outcome` and `finished` are None until its end."""

    run: str
    job: str
    drive: str
    attachment: str
    outcome: Outcome | None
    phase: Phase
    started: float
    finished: float | None
    bytes: int | None
    files: int | None
    snapshot: str | None
    message: str | None
    hint: str | None
    notes: tuple[str, ...]
    log: str
    boot_id: str | None  # the boot, process id and start time (clock ticks after boot) of the latest program
    engine_pid: int | None
    engine_ticks: int | None

    def record(self) -> dict[str, Any]:
        """As `history --json` shows it."""
        return {
            "run": self.run,
            "job": self.job,
            "drive": self.drive,
            "attachment": self.attachment,
            "outcome": None if self.outcome is None else self.outcome.value,
            "started": rfc3339(self.started),
            "finished": rfc3339(self.finished),
            "bytes": self.bytes,
            "files": self.files,
            "snapshot": self.snapshot,
            "message": self.message,
        }


@dataclass(frozen=True)
class Decision:
    """Why a job did or did not run; said `times` times without a change, from `time` to `last_seen`."""

    time: float
    last_seen: float
    times: int
    drive: str | None
    job: str | None
    attachment: str | None
    verdict: str
    reason: str


_SCHEMA = Schema("run history", 0x75736268, MIGRATIONS, HistoryError)  # "usbh"

_RUN = """SELECT run, job, drive, attachment, outcome, phase, started, finished, bytes, files, snapshot,
    message, hint, notes, log, boot_id, engine_pid, engine_ticks FROM runs"""
_DECISION = "SELECT time, last_seen, times, drive, job, attachment, verdict, reason FROM decisions"
_GOOD = "outcome IN ('success', 'warning')"  # word for word as in the indexes


class History:
    """The run history. Every trouble is a HistoryError; every verb may be said again after one.

    Names and sentences come out safe to print, whatever went in. `set_aside` is None, or one sentence with
    the new name of a database that could not be used.
    """

    def __init__(self, database: Writer | Reader, clock: Clock, boot: Callable[[], str] = boot_id) -> None:
        self._database, self._clock, self._boot = database, clock, boot

    @classmethod
    def open(cls, path: Path, clock: Clock, readonly: bool = False) -> "History":
        """Open for writing (by one process only), or for reading, which creates and changes nothing."""
        return cls(Reader(path, _SCHEMA) if readonly else Writer(path, _SCHEMA, clock), clock)

    @property
    def set_aside(self) -> str | None:
        """What became of a database that could not be used."""
        return self._database.set_aside

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def begin_run(self, run: str, job: str, drive: str, attachment: str, started: float, log: str) -> None:
        """A run begins; nothing where it has begun already."""
        self._do(
            "INSERT INTO runs (run, job, drive, attachment, phase, started, log) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (run) DO NOTHING",
            *map(safe, (run, job, drive, attachment)),
            Phase.QUEUED.value,
            started,
            _exact(log),
        )

    def phase(self, run: str, phase: Phase) -> None:
        """A run that has not ended comes to a phase."""
        self._do("UPDATE runs SET phase = ? WHERE run = ? AND outcome IS NULL", phase.value, safe(run))

    def engine(self, run: str, pid: int, ticks: int) -> None:
        """A run has started a program, `ticks` (of the clock) after boot; only the latest one is kept."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE runs SET boot_id = ?, engine_pid = ?, engine_ticks = ? WHERE run = ?",
                (safe(self._boot()), pid, ticks, safe(run)),
            )

    def end_run(self, run: str, result: Result, finished: float | None = None) -> bool:
        """A run ends, now or when said; false, and nothing changes, where it has ended or never began."""
        return self._do(
            "UPDATE runs SET outcome = ?, finished = ?, bytes = ?, files = ?, snapshot = ?, message = ?,"
            " hint = ?, notes = ? WHERE run = ? AND outcome IS NULL",
            result.outcome.value,
            self._clock.now() if finished is None else finished,
            _whole(result.bytes),
            _whole(result.files),
            _safe(result.snapshot),
            safe(result.message),
            _safe(result.hint),
            _lines(result.notes),
            safe(run),
        )

    def drop_run(self, run: str) -> None:
        """A run turns out to be none: nothing was tried."""
        self._do("DELETE FROM runs WHERE run = ? AND outcome IS NULL", safe(run))

    def unfinished(self) -> list[RunRecord]:
        """The runs without an outcome, oldest first: running now, or cut off with the agent that ran them."""
        return self._runs("WHERE outcome IS NULL ORDER BY id")

    def runs(self, limit: int = 50, job: str | None = None, drive: str | None = None) -> list[RunRecord]:
        """The latest runs, newest first."""
        where, values = _where(job=job, drive=drive)
        return self._runs(f"{where} ORDER BY id DESC LIMIT ?", *values, limit)

    def run(self, run: str) -> list[RunRecord]:
        """The run of that id, or those whose ids begin so, newest first: none, one, or up to CANDIDATES."""
        exact = self._runs("WHERE run = ?", safe(run))
        return exact or self._runs(
            "WHERE run >= ?1 AND run < ?1 || char(0x10ffff) ORDER BY run DESC LIMIT ?2", safe(run), CANDIDATES
        )

    def count(self) -> int:
        """How many runs there are."""
        found = self._database.rows("SELECT count(*) FROM runs")
        return int(found[0][0]) if found else 0

    def last_good(self, job: str, drive: str) -> RunRecord | None:
        """The latest success or warning on a drive, by order of recording: clocks jump."""
        where = f"WHERE job = ? AND drive = ? AND {_GOOD} ORDER BY id DESC LIMIT 1"
        return _first(self._runs(where, safe(job), safe(drive)))

    def last_good_anywhere(self, job: str) -> RunRecord | None:
        """The latest success or warning on any drive."""
        return _first(self._runs(f"WHERE job = ? AND {_GOOD} ORDER BY id DESC LIMIT 1", safe(job)))

    def last_run(self, job: str, drive: str) -> RunRecord | None:
        """The latest run on a drive, whatever became of it."""
        return _first(self.runs(1, job, drive))

    def outcomes(self, job: str, drive: str, attachment: str) -> list[tuple[Outcome, float]]:
        """How the finished runs of one stay ended, and when, oldest first."""
        found = self._runs(
            "WHERE attachment = ? AND drive = ? AND job = ? AND outcome IS NOT NULL ORDER BY id",
            *map(safe, (attachment, drive, job)),
        )
        return [(run.outcome, run.finished) for run in found if run.outcome and run.finished is not None]

    def decide(
        self,
        verdict: str,
        reason: str,
        *,
        drive: str | None = None,
        job: str | None = None,
        attachment: str | None = None,
    ) -> None:
        """A decision was made. The same again for that job and drive is counted, and becomes the newest."""
        now, pair = self._clock.now(), (_safe(job), _safe(drive))
        said = (safe(verdict), safe(reason))
        with self._database.transaction() as db:
            newest = db.execute(
                "SELECT id, verdict, reason FROM decisions WHERE job IS ? AND drive IS ?"
                " ORDER BY id DESC LIMIT 1",
                pair,
            ).fetchone()
            if newest is not None and newest[1:] == said:
                db.execute(
                    "UPDATE decisions SET id = (SELECT max(id) + 1 FROM decisions), last_seen = ?,"
                    " times = times + 1, attachment = ? WHERE id = ?",
                    (now, _safe(attachment), newest[0]),
                )
                return
            db.execute(
                "INSERT INTO decisions (time, last_seen, times, job, drive, attachment, verdict, reason)"
                " VALUES (?, ?, 1, ?, ?, ?, ?, ?)",
                (now, now, *pair, _safe(attachment), *said),
            )
            db.execute(
                "DELETE FROM decisions"
                " WHERE id <= (SELECT id FROM decisions ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (DECISIONS_KEPT,),
            )

    def decisions(self, job: str | None = None, drive: str | None = None, limit: int = 20) -> list[Decision]:
        """The latest decisions, newest first."""
        where, values = _where(job=job, drive=drive)
        return self._ask(Decision, f"{_DECISION} {where} ORDER BY id DESC LIMIT ?", *values, limit)

    def decisions_about(self, job: str, drives: Sequence[str], limit: int = 20) -> list[Decision]:
        """The latest decisions on a job, and those on its drives that concern every job, newest first."""
        marks = ", ".join("?" * len(drives))
        return self._ask(
            Decision,
            f"{_DECISION} WHERE job = ? OR (job IS NULL AND drive IN ({marks})) ORDER BY id DESC LIMIT ?",
            *map(safe, (job, *drives)),
            limit,
        )

    def attachment(self, key: str, drive: str) -> str:
        """The id of the stay of a drive that `key` names, begun now if new; its other stays have ended."""
        key, drive, now = safe(key), safe(drive), self._clock.now()
        with self._database.transaction() as db:
            known = db.execute(
                "SELECT attachment FROM attachments WHERE drive = ? AND key = ? AND ended IS NULL",
                (drive, key),
            ).fetchone()
            name: str = known[0] if known else f"a-{new_run_id(now)}"
            db.execute(
                "UPDATE attachments SET ended = ? WHERE drive = ? AND ended IS NULL AND attachment IS NOT ?",
                (now, drive, name),
            )
            if not known:
                db.execute(
                    "INSERT INTO attachments (attachment, key, drive, began) VALUES (?, ?, ?, ?)",
                    (name, key, drive, now),
                )
        return name

    def end_attachment(self, drive: str) -> None:
        """A drive has gone."""
        self._do(
            "UPDATE attachments SET ended = ? WHERE drive = ? AND ended IS NULL",
            self._clock.now(),
            safe(drive),
        )

    def proven(self, job: str, drive: str, snapshot: str) -> None:
        """Note that files of a snapshot were restored just now, and were as they should be."""
        self._do(
            "INSERT OR REPLACE INTO proven (job, drive, time, snapshot) VALUES (?, ?, ?, ?)",
            job,
            drive,
            self._clock.now(),
            snapshot,
        )

    def last_proven(self, job: str, drive: str) -> float | None:
        """When that was noted last for a job on a drive."""
        found = self._ask(float, "SELECT time FROM proven WHERE job = ? AND drive = ?", job, drive)
        return found[0] if found else None

    def sources_seen(self, job: str, seen: Iterable[SourceSeen]) -> None:
        """What the sources of a job were like, whatever the drive; sources not named stay as they were."""
        rows = [
            (safe(job), _exact(one.source), _whole(one.files), _whole(one.unreadable), _exact(one.filesystem))
            for one in seen
        ]
        with self._database.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?)", rows)

    def sources(self, job: str) -> dict[str, SourceSeen]:
        """What the sources of a job were like, by source."""
        sql = "SELECT source, files, unreadable, filesystem FROM sources WHERE job = ?"
        return {seen.source: seen for seen in self._ask(_seen, sql, safe(job))}

    def _do(self, sql: str, *values: Any) -> bool:
        with self._database.transaction() as db:
            return db.execute(sql, values).rowcount > 0

    def _runs(self, rest: str, *values: Any) -> list[RunRecord]:
        return self._ask(_run, f"{_RUN} {rest}", *values)

    def _ask(self, make: Callable[..., T], sql: str, *values: Any) -> list[T]:
        found = self._database.rows(sql, *values)
        try:
            return [make(*row) for row in found]
        except (ValueError, TypeError, AttributeError) as error:  # damage that SQLite itself did not notice
            raise HistoryError(f"The run history is damaged: {error}.") from error


def _run(*row: Any) -> RunRecord:
    fields = list(row)
    fields[4] = Outcome(row[4]) if row[4] is not None else None
    fields[5] = Phase(row[5])
    fields[13] = tuple(row[13].split("\n")) if row[13] else ()
    fields[14] = _back(row[14])
    return RunRecord(*fields)


def _seen(source: bytes, files: int, unreadable: int, filesystem: bytes) -> SourceSeen:
    return SourceSeen(_back(source), files, unreadable, _back(filesystem))


def _where(**columns: str | None) -> tuple[str, list[str]]:
    wanted = {name: safe(value) for name, value in columns.items() if value is not None}
    words = " AND ".join(f"{name} = ?" for name in wanted)
    return (f"WHERE {words}" if words else "", list(wanted.values()))


def _first(runs: list[RunRecord]) -> RunRecord | None:
    return runs[0] if runs else None


def _lines(notes: tuple[str, ...]) -> str:
    kept = [safe(note) for note in notes[:NOTES_KEPT] if note]
    more = len(notes) - NOTES_KEPT
    return "\n".join([*kept, f"and {more} more, see the log of the run"] if more > 0 else kept)


def _safe(text: str | None) -> str | None:
    return None if text is None else safe(text)


def _exact(text: str) -> bytes:
    """Any str at all, also one with undecodable bytes, so that it compares equal when it comes back."""
    return text.encode("utf-8", "surrogatepass")


def _back(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _whole(number: int | None) -> int | None:
    return None if number is None else max(-_LARGEST, min(number, _LARGEST))


def new_run_id(now: float, random: Callable[[int], bytes] = os.urandom) -> str:
    """A name for a run that begins at that wall time; names sort by time, to the second.

    >>> new_run_id(0, lambda count: bytes(range(count)))
    '19700101T000000-00010203'
    """
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%S}-{random(4).hex()}"
