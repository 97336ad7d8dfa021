"""The history's file: damaged, full, locked, forbidden, left by the dead, read while it is written."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from usbbackup.clock import SystemClock
from usbbackup.database import Schema, Writer
from usbbackup.database_reader import Reader
from usbbackup.history import _SCHEMA, History, HistoryError
from usbbackup.outcome import Outcome, Result

CLOCK = SystemClock()
ROOT = os.geteuid() == 0
OK = Result(Outcome.SUCCESS, "Saved.")


def write(path: Path, runs: int = 3, *, close: bool = True) -> History:
    history = History.open(path, CLOCK)
    for number in range(runs):
        run(history, f"r{number}")
    if close:
        history.close()
    return history


def run(history: History, name: str) -> None:
    history.begin_run(name, "home", "8fa2", "a-1", 1.0, "")
    history.end_run(name, OK)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed history of 300 runs, to be copied."""
    path = tmp_path_factory.mktemp("long") / "history.db"
    write(path, 300)
    return path


@contextlib.contextmanager
def reading(path: Path) -> Iterator[History]:
    history = History.open(path, CLOCK, readonly=True)
    try:
        yield history
    finally:
        history.close()


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files of a folder: when changed, and what is in them."""
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}


def read(path: Path) -> list[str]:
    with reading(path) as history:
        return [run.run for run in history.runs()]


# --- what the file is like ---


def test_it_is_durable_and_private(tmp_path: Path) -> None:
    """WAL and synchronous=FULL (2); nobody else may look, not even at the folder."""
    path = tmp_path / "state" / "usbbackup" / "history.db"
    writer = Writer(path, _SCHEMA, CLOCK)
    with writer.transaction() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    writer.close()
    writer.close()


def test_on_a_network_home_there_is_no_shared_memory(tmp_path: Path) -> None:
    """Also when the file was made by WAL elsewhere; and it is read while it is written."""
    path = tmp_path / "history.db"
    write(path)
    writer = Writer(path, _SCHEMA, CLOCK, network=lambda _: True)
    history = History(writer, CLOCK)
    run(history, "more")
    assert read(path) == ["more", "r2", "r1", "r0"]
    assert [file.name for file in tmp_path.iterdir()] == ["history.db"]
    history.close()


# --- what is no database of ours ---


def cut(to: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        os.truncate(path, int(path.stat().st_size * to))

    return damage


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def text(path: Path) -> None:
    path.write_text("not a database\n" * 100)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def overwritten_from_the_second_page(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(size - 4096))


def changed(*statements: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    return damage


def of_another_program(path: Path) -> None:
    path.unlink()
    changed("CREATE TABLE runs (x)", "PRAGMA user_version = 1")(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("of somebody")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def log_without_its_file(path: Path) -> None:
    """As if the database had been cut to nothing, or deleted, and the log been left."""
    writer = write(path, close=False)
    log = path.with_name("history.db-wal").read_bytes()
    writer.close()
    path.write_bytes(b"")
    path.with_name("history.db-wal").write_bytes(log)


UNUSABLE = {
    "cut to a half": (cut(0.5), "was damaged"),
    "cut to nearly all": (cut(0.99), "was damaged"),
    "cut in the header": (cut(0.001), "was damaged"),
    "garbage": (garbage, "was damaged"),
    "text": (text, "was damaged"),
    "zeros": (zeros, "was damaged"),
    "second page gone": (overwritten_from_the_second_page, "was damaged"),
    "a table missing": (changed("DROP TABLE sources"), "was damaged"),
    "a column missing": (changed("ALTER TABLE runs DROP COLUMN hint"), "was damaged"),
    "an index missing": (changed("DROP INDEX runs_good"), "was damaged"),
    "from the future": (changed("PRAGMA user_version = 99"), "was written by a newer version of usbbackup"),
    "of another program": (of_another_program, "was something else"),
    "directory": (directory, "was no file"),
    "fifo": (fifo, "was no file"),
    "log without its file": (log_without_its_file, "was cut off"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_set_aside_and_a_new_history_begins(
    tmp_path: Path, long: Path, name: str
) -> None:
    damage, words = UNUSABLE[name]
    path = tmp_path / "history.db"
    shutil.copy(long, path)
    damage(path)
    before = path.read_bytes() if path.is_file() else None

    history = History.open(path, CLOCK)
    assert history.count() == 0
    run(history, "after")
    sentence = history.set_aside
    history.close()

    assert sentence is not None and words in sentence
    [aside] = [file for file in tmp_path.iterdir() if ".aside-" in file.name and file.name.endswith("Z")]
    assert str(aside) in sentence
    assert before is None or aside.read_bytes() == before
    assert read(path) == ["after"]
    again = History.open(path, CLOCK)
    assert again.set_aside is None
    again.close()


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_reader_of_what_cannot_be_used_says_so_or_reads_what_is_whole_and_leaves_it(
    tmp_path: Path, long: Path, name: str
) -> None:
    path = tmp_path / "history.db"
    shutil.copy(long, path)
    UNUSABLE[name][0](path)
    before = everything(tmp_path) if path.is_file() else None
    with contextlib.suppress(HistoryError), reading(path) as history:
        assert len(history.runs()) in (0, 50)
        history.count()
    assert before is None or everything(tmp_path) == before


def test_every_set_aside_file_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "history.db"

    class Still(SystemClock):
        def now(self) -> float:
            return 0.0

    for number in range(3):
        path.write_text(f"damaged {number}" * 1000)
        History.open(path, Still()).close()
    aside = sorted(file for file in tmp_path.iterdir() if ".aside-" in file.name)
    assert [file.name.partition(".aside-")[2] for file in aside] == [
        "1970-01-01T000000Z",
        "1970-01-01T000000Z+",
        "1970-01-01T000000Z++",
    ]
    assert [file.read_text()[:9] for file in aside] == ["damaged 0", "damaged 1", "damaged 2"]


def test_an_empty_file_is_a_new_history(tmp_path: Path) -> None:
    """The machine may have lost power right after the file was made."""
    path = tmp_path / "history.db"
    path.touch()
    assert read(path) == []
    history = write(path)
    assert history.set_aside is None
    assert read(path) == ["r2", "r1", "r0"]


@settings(max_examples=60)
@example([(0.03125, 128)])
@given(st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=30))
def test_whatever_bytes_are_changed_it_opens_and_nothing_but_its_own_error_comes_out(
    long: Path, flips: list[tuple[float, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "history.db")
        data = bytearray(long.read_bytes())
        for place, value in flips:
            data[int(place * len(data))] = value
        path.write_bytes(data)
        with contextlib.suppress(HistoryError), reading(path) as history:
            use(history)
        history = History.open(path, CLOCK)
        for _ in range(3):
            with contextlib.suppress(HistoryError):
                run(history, "more")
                use(history)
        history.close()


def use(history: History) -> None:
    history.runs(1000)
    history.unfinished()
    history.outcomes("home", "8fa2", "a-1")
    history.last_good("home", "8fa2")
    history.run("r")


def test_damage_while_in_use_is_told_once_and_then_a_new_history_goes_on(tmp_path: Path, long: Path) -> None:
    """The same words, said again after the error, are kept."""
    path = tmp_path / "history.db"
    shutil.copy(long, path)
    writer = Writer(path, _SCHEMA, CLOCK)
    history = History(writer, CLOCK)
    writer.rows("PRAGMA shrink_memory")  # what it has read already would hide the damage
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    with pytest.raises(HistoryError, match="damaged"):
        history.runs(1000)
    run(history, "after")
    assert [run.run for run in history.runs()] == ["after"]
    assert history.set_aside is not None
    history.close()


def test_a_history_that_was_deleted_while_in_use_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.db"
    history = write(path, close=False)
    with reading(path) as reader:
        assert reader.count() == 3
        shutil.rmtree(path.parent)
        assert reader.count() == 0
        run(history, "after")
        assert reader.count() == 1
    history.close()
    assert read(path) == ["after"]


# --- readers ---


def test_a_missing_history_is_an_empty_one_and_stays_missing(tmp_path: Path) -> None:
    path = tmp_path / "none" / "history.db"
    with reading(path) as history:
        assert history.runs() == history.unfinished() == history.decisions() == history.run("") == []
        assert (history.count(), history.sources("home"), history.last_good("home", "x")) == (0, {}, None)
        assert not path.parent.exists()
        with pytest.raises(HistoryError, match="reading only"):
            run(history, "r")
        write(path)
        assert history.count() == 3, "it is seen as soon as it is there"


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    write(path)
    before = everything(tmp_path)
    assert read(path) == ["r2", "r1", "r0"]
    assert everything(tmp_path) == before


def test_a_reader_sees_every_writer_that_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    write(path, 1)
    with reading(path) as reader:
        for number in range(2, 6):
            write(path, number)
            assert reader.count() == number
            open_still = write(path, number, close=False)
            assert reader.count() == number
            run(open_still, f"r{number}")
            assert reader.count() == number + 1
            open_still.close()


WRITER = """
import sys
from pathlib import Path
from usbbackup.clock import SystemClock
from usbbackup.database import Writer
from usbbackup.history import _SCHEMA, History
from usbbackup.outcome import Outcome, Phase, Result

clock, network = SystemClock(), sys.argv[3] == "network"
history = History(Writer(Path(sys.argv[1]), _SCHEMA, clock, network=lambda _: network), clock)
for number in range(int(sys.argv[2])):
    history.begin_run(f"r{number:06}", "home", "8fa2", "a-1", 1.0, "")
    if number == int(sys.argv[2]) - 1:
        history.phase(f"r{number:06}", Phase.TRANSFER)
        print(number, flush=True)
        sys.stdin.read()
    history.end_run(f"r{number:06}", Result(Outcome.SUCCESS, "Saved."))
"""


@contextlib.contextmanager
def writing(path: Path, runs: int, how: str = "local") -> Iterator[subprocess.Popen[str]]:
    """Another process that writes and, in the middle of its last run, waits."""
    command = [sys.executable, "-c", WRITER, str(path), str(runs), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_reader_beside_a_busy_writer_never_fails_and_sees_only_whole_runs(tmp_path: Path) -> None:
    path, seen = tmp_path / "history.db", [0]
    with writing(path, 200), reading(path) as reader:
        while seen[-1] < 200:
            runs = reader.runs(1000)
            assert len(runs) >= seen[-1]
            assert [run.run for run in runs] == [f"r{number:06}" for number in reversed(range(len(runs)))]
            assert all(run.outcome is Outcome.SUCCESS and run.finished for run in runs[1:])
            seen.append(len(runs))
            with reading(path) as newcomer:
                assert newcomer.count() >= seen[-1]


def test_a_killed_writer_loses_nothing_and_its_run_is_found_unfinished(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    for how in ("local", "network"):
        with writing(path, 30, how) as process:
            assert process.stdout is not None and process.stdout.readline() == "29\n"
            process.send_signal(signal.SIGKILL)
            process.wait()
        with reading(path) as reader:
            assert [run.run for run in reader.unfinished()] == ["r000029"]
        history = History.open(path, CLOCK)
        assert history.set_aside is None
        assert [run.run for run in history.unfinished()] == ["r000029"]
        assert history.count() == 30
        history.end_run("r000029", Result(Outcome.INTERRUPTED, "The agent was killed."))
        history.close()
        path.unlink()


def test_what_a_killed_writer_left_half_written_is_read_without_mending_it(tmp_path: Path) -> None:
    """A rollback journal with work to undo, as a power cut leaves it on a network home."""
    path, copy = tmp_path / "history.db", tmp_path / "copy"
    write(path)
    writer = Writer(path, _SCHEMA, CLOCK, network=lambda _: True)
    copy.mkdir()
    with contextlib.suppress(KeyboardInterrupt), writer.transaction() as db:
        db.execute("PRAGMA cache_size = 1")
        db.execute("PRAGMA cache_spill = 1")
        for number in range(2000):
            db.execute("INSERT INTO sources VALUES (?, x'', 0, 0, ?)", (f"job {number}", bytes(1000)))
        for file in tmp_path.glob("history.db*"):
            shutil.copy(file, copy)
        raise KeyboardInterrupt
    writer.close()
    before = everything(copy)
    assert "history.db-journal" in before
    assert read(copy / "history.db") == ["r2", "r1", "r0"]
    assert everything(copy) == before
    assert write(copy / "history.db", 4).set_aside is None
    assert read(copy / "history.db") == ["r3", "r2", "r1", "r0"]


# --- forbidden, locked, full ---


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that an ordinary user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


AS_USER = """
import sys
from pathlib import Path
from usbbackup.clock import SystemClock
from usbbackup.history import History, HistoryError

path = Path(sys.argv[1])
history = History.open(path, SystemClock(), readonly=True)
print("read", *(run.run for run in history.runs()))
try:
    history = History.open(path, SystemClock())
    history.begin_run("x", "home", "8fa2", "a-1", 1.0, "")
    print("written")
except HistoryError as error:
    print("HistoryError", error)
"""


def as_ordinary_user(path: Path) -> list[str]:
    drop: dict[str, object] = {"user": 65534, "group": 65534, "extra_groups": []} if ROOT else {}
    command = [sys.executable, "-B", "-c", AS_USER, str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **drop)  # type: ignore[call-overload] # keywords by condition
    assert done.returncode == 0, done.stderr
    return list(done.stdout.splitlines())


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    for file in (*folder.iterdir(), folder):
        file.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


def test_a_forbidden_folder_is_read(common: Path) -> None:
    path = common / "history.db"
    write(path)
    with read_only(common):
        told = as_ordinary_user(path)
    assert told[0] == "read r2 r1 r0"
    assert told[1].startswith(f"HistoryError The run history {path} cannot be written:")
    assert [file.name for file in common.iterdir()] == ["history.db"]


def test_a_forbidden_folder_is_read_while_the_agent_writes(common: Path) -> None:
    path = common / "history.db"
    history = write(path, close=False)
    with read_only(common):
        assert as_ordinary_user(path)[0] == "read r2 r1 r0"
    history.close()


@pytest.mark.parametrize("left", [("", "-wal"), ("", "-wal", "-shm")])
def test_a_forbidden_folder_is_read_with_what_a_killed_agent_left(
    common: Path, left: tuple[str, ...]
) -> None:
    history = write(common / "history.db", close=False)
    (common / "left").mkdir()
    for ending in left:
        shutil.copy(common / f"history.db{ending}", common / "left")
    history.close()
    path = common / "left" / "history.db"
    with read_only(path.parent):
        before = everything(path.parent)
        assert as_ordinary_user(path)[0] == "read r2 r1 r0"
        assert {name: data for name, (_, data) in everything(path.parent).items() if "shm" not in name} == {
            name: data for name, (_, data) in before.items() if "shm" not in name
        }


def test_no_folder_can_be_made(common: Path) -> None:
    with read_only(common):
        told = as_ordinary_user(common / "state" / "history.db")
    assert told == [
        "read",
        f"HistoryError The run history {common}/state/history.db cannot be written: Permission denied.",
    ]


def test_a_file_where_the_folder_should_be_is_an_error_of_the_history(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    path = tmp_path / "state" / "history.db"
    with pytest.raises(HistoryError, match="cannot be written"):
        History.open(path, CLOCK)
    with pytest.raises(HistoryError, match="cannot be read"):
        read(path)


def test_a_locked_history_says_so_and_takes_the_same_words_later(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = write(path, close=False)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="another process is using it"):
            run(history, "later")
        assert history.count() == 3, "reading goes on"
        with pytest.raises(HistoryError, match="another process is using it"):
            write(tmp_path / "history.db")
        other.execute("ROLLBACK")
    run(history, "later")
    assert history.count() == 4
    history.close()


LIMITED = """
import resource, sys
from pathlib import Path
from usbbackup.clock import SystemClock
from usbbackup.history import History, HistoryError

history = History.open(Path(sys.argv[1]), SystemClock())
size = Path(sys.argv[1] + "-wal").stat().st_size + 500_000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
kept = 0
try:
    while True:
        history.begin_run(f"r{kept}", "home", "8fa2", "a-1", 1.0, "")
        kept += 1
except HistoryError as error:
    print("HistoryError", error)
assert history.count() == kept
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
history.begin_run(f"r{kept}", "home", "8fa2", "a-1", 1.0, "")
assert history.count() == kept + 1
print(kept + 1)
"""


def test_a_write_that_finds_no_room_is_undone_and_may_be_tried_again(tmp_path: Path) -> None:
    """Everything that was acknowledged before is there."""
    path = tmp_path / "history.db"
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    error, kept = done.stdout.splitlines()
    assert error.startswith("HistoryError")
    with reading(path) as history:
        assert history.count() == int(kept) > 5


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="only root may mount")
def test_a_full_disk_is_an_error_of_the_history_and_passes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", home], check=True)
    try:
        history = write(home / "history.db", close=False)
        filler = home / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        kept = 3
        with pytest.raises(HistoryError, match="cannot be written"):
            for kept in range(3, 10_000):
                history.begin_run(f"r{kept}", "home", "8fa2", "a-1", 1.0, "x" * 1000)
        assert history.count() == kept
        with pytest.raises(HistoryError, match="cannot be written"):
            History.open(home / "another" / "history.db", CLOCK)
        filler.unlink()
        run(history, f"r{kept}")
        assert history.count() == kept + 1
        history.close()
    finally:
        subprocess.run(["umount", home], check=True)


# --- versions ---

FIRST = Schema("book", 7, (("CREATE TABLE book (word TEXT)",),), HistoryError)
SECOND = replace(
    FIRST,
    migrations=(*FIRST.migrations, ("ALTER TABLE book ADD COLUMN page INTEGER", "UPDATE book SET page = 1")),
)


def test_an_older_database_is_brought_up_to_date_and_a_reader_need_not_wait_for_that(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    writer = Writer(path, FIRST, CLOCK)
    with writer.transaction() as db:
        db.execute("INSERT INTO book VALUES ('x')")
    reader = Reader(path, SECOND)
    assert reader.rows("SELECT * FROM book") == [("x", 1)]
    with writer.transaction() as db:
        db.execute("INSERT INTO book VALUES ('y')")
    assert reader.rows("SELECT * FROM book") == [("x", 1), ("y", 1)]
    writer.close()
    assert reader.rows("SELECT * FROM book") == [("x", 1), ("y", 1)]

    newer = Writer(path, SECOND, CLOCK)
    assert newer.set_aside is None
    assert newer.rows("SELECT * FROM book") == reader.rows("SELECT * FROM book") == [("x", 1), ("y", 1)]
    newer.close()
    with pytest.raises(HistoryError, match="newer version"):
        Reader(path, FIRST).rows("SELECT * FROM book")
    reader.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    Writer(path, FIRST, CLOCK).close()
    third = replace(SECOND, migrations=(*SECOND.migrations, ("CREATE TABLE more (x)", "no SQL")))
    with pytest.raises(HistoryError):
        Writer(path, third, CLOCK)
    again = Writer(path, FIRST, CLOCK)
    assert again.set_aside is None
    again.close()
