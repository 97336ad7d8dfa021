"""The run history: what goes in comes out, in the order it was recorded, however often and whatever it is."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from usbbackup import history as module
from usbbackup.clock import SystemClock, rfc3339
from usbbackup.database import Writer
from usbbackup.history import DECISIONS_KEPT, NOTES_KEPT, Decision, History, RunRecord, new_run_id
from usbbackup.outcome import Outcome, Phase, Result, SourceSeen
from usbbackup.text import safe

OK = Result(Outcome.SUCCESS, "1 file saved.")


class HandClock(SystemClock):
    """Shows the time it is told."""

    def __init__(self) -> None:
        self.time = 1_795_000_000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def history(tmp_path: Path, clock: HandClock) -> Iterator[History]:
    opened = History.open(tmp_path / "history.db", clock)
    yield opened
    opened.close()


def begin(history: History, run: str, job: str = "home", drive: str = "8fa2", stay: str = "a-1") -> None:
    history.begin_run(run, job, drive, stay, 1.5, "/logs/" + run)


def test_a_run_is_told_from_its_begin_to_its_end(history: History, clock: HandClock) -> None:
    begin(history, "r1")
    history.phase("r1", Phase.TRANSFER)
    history.engine("r1", 41, 1000)
    history.engine("r1", 42, 2000)
    [running] = history.unfinished()
    assert (running.outcome, running.finished, running.phase) == (None, None, Phase.TRANSFER)
    assert (running.engine_pid, running.engine_ticks) == (42, 2000)
    assert running.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    result = Result(Outcome.WARNING, "2 files could not be read.", "Look.", "home@x", 10, 2, ("/a", "/b"))
    assert history.end_run("r1", result)
    [ended] = history.runs()
    assert ended.outcome is Outcome.WARNING
    assert ended.finished == clock.time
    assert (ended.message, ended.hint, ended.snapshot) == (result.message, result.hint, result.snapshot)
    assert (ended.bytes, ended.files, ended.notes, ended.log) == (10, 2, ("/a", "/b"), "/logs/r1")
    assert history.unfinished() == []


def test_the_record_for_scripts_has_exactly_the_promised_keys(history: History) -> None:
    begin(history, "r1")
    record = history.runs()[0].record()
    assert " ".join(record) == (
        "run job drive attachment outcome started finished bytes files snapshot message"
    )
    assert record["started"] == rfc3339(1.5)
    assert record["outcome"] is None and record["finished"] is None
    history.end_run("r1", OK, finished=9.0)
    record = history.runs()[0].record()
    assert type(record["outcome"]) is str and record["outcome"] == "success"
    assert record["finished"] == rfc3339(9.0)


def test_a_run_has_one_end_only(history: History) -> None:
    begin(history, "r1")
    assert history.end_run("r1", OK)
    assert not history.end_run("r1", Result(Outcome.INTERRUPTED, "The agent was killed."))
    history.phase("r1", Phase.PRUNE)
    begin(history, "r1", job="other")
    assert not history.end_run("never begun", OK)
    [run] = history.runs()
    assert (run.outcome, run.phase, run.job) == (Outcome.SUCCESS, Phase.QUEUED, "home")


def test_the_last_good_run_is_the_last_recorded_even_if_the_clock_went_back(history: History) -> None:
    for run, started in (("r1", 2000.0), ("r2", 1000.0), ("r3", 0.0)):
        history.begin_run(run, "home", "8fa2", "a-1", started, "")
    history.end_run("r1", OK)
    history.end_run("r2", Result(Outcome.WARNING, "Good enough."))
    history.end_run("r3", Result(Outcome.FAILED, "Bad."))
    assert names(history.last_good("home", "8fa2")) == ["r2"]
    assert names(history.last_run("home", "8fa2")) == ["r3"]
    assert history.last_good("home", "other") is None
    assert names(history.last_good_anywhere("home")) == ["r2"]
    begin(history, "r4", drive="other")
    history.end_run("r4", OK)
    assert names(history.last_good_anywhere("home")) == ["r4"]


def names(run: RunRecord | None) -> list[str]:
    return [run.run] if run else []


def test_a_run_is_found_by_the_begin_of_its_name(history: History) -> None:
    """One record: found. None: unknown. Several: the candidates, newest first."""
    for run in ("20261123T101500-00", "20261123T101500-0011", "20261124T101500-22", "%", "_x"):
        begin(history, run)
    found = {
        start: [run.run for run in history.run(start)] for start in ("20261124", "20261123", "9", "%", "_")
    }
    assert found == {
        "20261124": ["20261124T101500-22"],
        "20261123": ["20261123T101500-0011", "20261123T101500-00"],
        "9": [],
        "%": ["%"],
        "_": ["_x"],
    }
    assert [run.run for run in history.run("20261123T101500-00")] == ["20261123T101500-00"], "exact wins"


def test_the_same_decision_again_is_counted_and_is_the_newest(history: History, clock: HandClock) -> None:
    first = clock.time
    history.decide("wait", "not due yet", job="home", drive="8fa2", attachment="a-1")
    history.decide("run", "plugged in", job="work", drive="8fa2")
    clock.time += 60
    history.decide("wait", "not due yet", job="home", drive="8fa2", attachment="a-2")
    assert history.decisions() == [
        Decision(first, first + 60, 2, "8fa2", "home", "a-2", "wait", "not due yet"),
        Decision(first, first, 1, "8fa2", "work", None, "run", "plugged in"),
    ]
    history.decide("run", "due", job="home", drive="8fa2")
    history.decide("wait", "not due yet", job="home", drive="8fa2")
    assert [one.times for one in history.decisions(job="home")] == [1, 1, 2], "only the newest is compared"


def test_decisions_about_a_drive_alone_are_kept_apart_from_those_about_its_jobs(history: History) -> None:
    history.decide("refused", "not enrolled", drive="8fa2")
    history.decide("refused", "not enrolled", drive="8fa2", job="home")
    history.decide("refused", "not enrolled", drive="8fa2")
    assert [(one.job, one.times) for one in history.decisions(drive="8fa2")] == [(None, 2), ("home", 1)]


def test_only_so_many_decisions_are_kept_and_the_oldest_go(tmp_path: Path, clock: HandClock) -> None:
    """One that is said over and over pushes no other out."""
    writer = Writer(tmp_path / "history.db", module._SCHEMA, clock)
    history = History(writer, clock)
    history.decide("wait", "the first", job="home")
    with writer.transaction() as db:
        db.executemany(
            "INSERT INTO decisions (time, last_seen, times, drive, verdict, reason)"
            " VALUES (0, 0, 1, 'd', 'v', ?)",
            ((str(number),) for number in range(DECISIONS_KEPT - 2)),
        )
    for _ in range(5):
        history.decide("wait", "over and over", drive="x")
    assert len(history.decisions(limit=10**6)) == DECISIONS_KEPT
    assert history.decisions(job="home")
    history.decide("wait", "one more", drive="y")
    assert len(history.decisions(limit=10**6)) == DECISIONS_KEPT
    assert not history.decisions(job="home")
    history.close()


def test_a_stay_is_recognised_until_it_ends_or_another_begins(history: History) -> None:
    first = history.attachment("boot/8fa2/12/45/-", "8fa2")
    other = history.attachment("boot/77/13/46/-", "77")
    assert history.attachment("boot/8fa2/12/45/-", "8fa2") == first
    second = history.attachment("boot/8fa2/14/45/-", "8fa2")
    assert second != first
    assert history.attachment("boot/8fa2/12/45/-", "8fa2") not in (first, second), "the first had ended"
    history.end_attachment("8fa2")
    assert history.attachment("boot/8fa2/12/45/-", "8fa2") not in (first, second)
    assert history.attachment("boot/77/13/46/-", "77") == other, "other drives' stays go on"
    assert re.fullmatch(r"a-\d{8}T\d{6}-[0-9a-f]{8}", first)


def test_a_stay_outlives_the_agent(tmp_path: Path, clock: HandClock) -> None:
    def asked() -> str:
        history = History.open(tmp_path / "history.db", clock)
        try:
            return history.attachment("key", "8fa2")
        finally:
            history.close()

    assert asked() == asked()


def test_outcomes_are_those_of_one_stay_in_order(history: History, clock: HandClock) -> None:
    ends = [Outcome.FAILED, Outcome.INTERRUPTED, Outcome.SUCCESS]
    for number, outcome in enumerate(ends):
        begin(history, f"r{number}")
        clock.time = float(number)
        history.end_run(f"r{number}", Result(outcome, ""))
    begin(history, "still running")
    begin(history, "elsewhere", stay="a-2")
    history.end_run("elsewhere", OK)
    assert history.outcomes("home", "8fa2", "a-1") == [
        (outcome, float(at)) for at, outcome in enumerate(ends)
    ]
    assert history.outcomes("home", "other", "a-1") == []


def test_sources_come_back_exactly_and_those_not_seen_stay(history: History) -> None:
    """The next run compares with them, so not a byte of their names may change."""
    odd = SourceSeen("/home/\udcff\x1b\n", 3, 1, "ext4 \udc80")
    history.sources_seen("home", [odd, SourceSeen("/etc", 10, 0, "ext4")])
    history.sources_seen("work", [SourceSeen("/etc", 99, 0, "xfs")])
    history.sources_seen("home", iter([SourceSeen("/etc", 11, 0, "ext4")]))
    assert history.sources("home") == {odd.source: odd, "/etc": SourceSeen("/etc", 11, 0, "ext4")}
    assert history.sources("none") == {}


def test_names_of_any_bytes_come_as_safe_text_and_find_what_was_stored(history: History) -> None:
    odd = "\x1b[2J\udcff\ud800\0\u202e\n"
    history.begin_run(odd, odd, odd, odd, 1.0, "/logs/\udcff")
    history.phase(odd, Phase.STAGE)
    history.decide(odd, odd, job=odd, drive=odd, attachment=odd)
    history.end_run(odd, Result(Outcome.SUCCESS, odd, odd, odd, 2**80, -(2**80), (odd, "", odd)))
    run = history.last_good(odd, odd)
    assert run is not None
    assert history.run(odd) == history.runs(job=odd, drive=odd) == [run]
    assert {run.run, run.job, run.drive, run.attachment, run.message, run.hint, run.snapshot} == {safe(odd)}
    assert run.notes == (safe(odd), safe(odd))
    assert run.log == "/logs/\udcff", "a file is opened by it"
    assert history.outcomes(odd, odd, odd)
    assert history.decisions(job=odd)[0].reason == safe(odd)
    assert history.attachment(odd, odd) == history.attachment(odd, odd)


def test_of_very_many_notes_the_first_are_kept_and_the_log_is_named(history: History) -> None:
    begin(history, "r1")
    history.end_run("r1", Result(Outcome.WARNING, "", notes=tuple(map(str, range(NOTES_KEPT + 7)))))
    notes = history.runs()[0].notes
    assert len(notes) == NOTES_KEPT + 1
    assert notes[-1] == "and 7 more, see the log of the run"


def test_names_of_runs_sort_by_time_and_differ() -> None:
    made = [new_run_id(1_795_000_000 + number // 100) for number in range(1000)]
    assert len(set(made)) == 1000
    assert [name[:15] for name in made] == sorted(name[:15] for name in made)


def test_every_question_and_every_change_uses_an_index(tmp_path: Path, clock: HandClock) -> None:
    """With 100,000 runs nothing may read them all. The newest of all come in the table's own order."""
    writer, said = Writer(tmp_path / "history.db", module._SCHEMA, clock), list[str]()
    history = History(writer, clock)
    with writer.transaction() as db:
        db.set_trace_callback(said.append)
    say_everything(history)
    with writer.transaction() as db:
        db.set_trace_callback(None)
    statements = [sql for sql in said if sql.startswith(("SELECT", "UPDATE", "DELETE"))]
    assert len(statements) > 20
    plans = {sql: [row[3] for row in writer.rows(f"EXPLAIN QUERY PLAN {sql}")] for sql in statements}
    for sql, plan in plans.items():
        newest = sql.rstrip().endswith("LIMIT 50") and "WHERE" not in sql
        capped = f"OFFSET {DECISIONS_KEPT}" in sql
        for step in plan:
            assert "TEMP B-TREE" not in step, (sql, plan)
            assert not step.startswith("SCAN") or "USING" in step or newest or capped, (sql, plan)
    history.close()


def say_everything(history: History) -> None:
    begin(history, "r1")
    history.phase("r1", Phase.SYNC)
    history.engine("r1", 1, 2)
    history.unfinished()
    history.end_run("r1", OK)
    for job in (None, "home"):
        for drive in (None, "8fa2"):
            history.runs(50, job, drive)
            history.decisions(job, drive, limit=50)
            history.decide("wait", "so", job=job, drive=drive)
            history.decide("wait", "so", job=job, drive=drive)
    history.run("r1")
    history.run("r")
    history.count()
    history.last_good("home", "8fa2")
    history.last_good_anywhere("home")
    history.last_run("home", "8fa2")
    history.outcomes("home", "8fa2", "a-1")
    history.attachment("key", "8fa2")
    history.end_attachment("8fa2")
    history.sources_seen("home", [SourceSeen("/", 1, 0, "x")])
    history.sources("home")


def test_it_costs_little_to_import() -> None:
    """`status --json` has 60 ms for everything."""
    code = "import sys, usbbackup.history; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"asyncio", "msgspec", "tempfile", "json", "yaml", "rich"} & set(loaded.split())


TEXT = st.text(st.characters(exclude_categories=()), max_size=5)
JOBS = st.sampled_from(["home", "work"])
DRIVES = st.sampled_from(["8fa2", "77"])


class Model(RuleBasedStateMachine):
    """The history against plain lists; it is closed and opened again at any point."""

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.clock = HandClock()
        self.history = History.open(Path(self.folder.name, "history.db"), self.clock)
        self.reader = History.open(Path(self.folder.name, "history.db"), self.clock, readonly=True)
        self.runs: list[dict[str, object]] = []
        self.said: list[list[object]] = []
        self.stays: dict[str, tuple[str, str]] = {}
        self.ids: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "history"):
            self.history.close()
            self.reader.close()
            self.folder.cleanup()

    @rule()
    def reopen(self) -> None:
        self.history.close()
        self.history = History.open(Path(self.folder.name, "history.db"), self.clock)
        assert self.history.set_aside is None

    @rule(by=st.floats(-1e8, 1e8))
    def jump(self, by: float) -> None:
        self.clock.time += by

    @rule(job=JOBS, drive=DRIVES, stay=st.sampled_from(["a", "b"]), log=TEXT)
    def begin(self, job: str, drive: str, stay: str, log: str) -> None:
        run = f"r{len(self.runs)}"
        self.history.begin_run(run, job, drive, stay, self.clock.now(), log)
        self.runs.append(
            {
                "run": run,
                "job": job,
                "drive": drive,
                "stay": stay,
                "log": log,
                "phase": Phase.QUEUED,
                "end": None,
            }
        )

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), phase=st.sampled_from(Phase))
    def phase(self, data: st.DataObject, phase: Phase) -> None:
        run = data.draw(st.sampled_from(self.runs))
        self.history.phase(str(run["run"]), phase)
        if run["end"] is None:
            run["phase"] = phase

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), message=TEXT, notes=st.lists(TEXT, max_size=3))
    def end(self, data: st.DataObject, outcome: Outcome, message: str, notes: list[str]) -> None:
        run = data.draw(st.sampled_from(self.runs))
        result = Result(outcome, message, notes=tuple(notes))
        assert self.history.end_run(str(run["run"]), result) is (run["end"] is None)
        if run["end"] is None:
            told = (safe(message), tuple(safe(note) for note in notes if note))
            run.update(end=(outcome, self.clock.now()), told=told)

    @rule(job=st.none() | JOBS, drive=st.none() | DRIVES, reason=st.sampled_from(["due", "not due"]))
    def decide(self, job: str | None, drive: str | None, reason: str) -> None:
        self.history.decide("v", reason, job=job, drive=drive)
        same = [one for one in self.said if one[:2] == [job, drive]]
        if same and same[-1][2] == reason:
            self.said = [one for one in self.said if one is not same[-1]]
            self.said.append([job, drive, reason, int(str(same[-1][3])) + 1])
        else:
            self.said.append([job, drive, reason, 1])

    @rule(drive=DRIVES, key=st.sampled_from(["k1", "k2"]))
    def plug(self, drive: str, key: str) -> None:
        name = self.history.attachment(key, drive)
        if self.stays.get(drive, ("",))[0] == key:
            assert name == self.stays[drive][1]
        else:
            assert name not in self.ids
        self.ids.add(name)
        self.stays[drive] = (key, name)

    @rule(drive=DRIVES)
    def unplug(self, drive: str) -> None:
        self.history.end_attachment(drive)
        self.stays.pop(drive, None)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "history"):
            return
        for history in (self.history, self.reader):
            self.compare(history)

    def compare(self, history: History) -> None:
        newest = self.runs[::-1]
        assert history.count() == len(self.runs)
        assert [shown(run) for run in history.runs(limit=10**6)] == [expected(run) for run in newest]
        assert [run.run for run in history.unfinished()] == [
            run["run"] for run in self.runs if not run["end"]
        ]
        said = [[one.job, one.drive, one.reason, one.times] for one in history.decisions(limit=10**6)]
        assert said == self.said[::-1]
        for job in ("home", "work"):
            good = [run for run in newest if run["job"] == job and run["end"] and run["end"][0].good]  # type: ignore[index] # a pair
            assert names(history.last_good_anywhere(job)) == [run["run"] for run in good[:1]]
            for drive in ("8fa2", "77"):
                mine = [run for run in newest if (run["job"], run["drive"]) == (job, drive)]
                assert [run.run for run in history.runs(2, job, drive)] == [run["run"] for run in mine[:2]]
                assert names(history.last_run(job, drive)) == [run["run"] for run in mine[:1]]
                there = [run["run"] for run in good if run["drive"] == drive]
                assert names(history.last_good(job, drive)) == there[:1]
                ends = [run["end"] for run in mine[::-1] if run["stay"] == "a" and run["end"]]
                assert history.outcomes(job, drive, "a") == ends


def shown(run: RunRecord) -> dict[str, object]:
    end = None if run.outcome is None else (run.outcome, run.finished)
    record = {"run": run.run, "job": run.job, "drive": run.drive, "stay": run.attachment, "log": run.log}
    return record | {"phase": run.phase, "end": end, "told": (run.message, run.notes)}


def expected(run: dict[str, object]) -> dict[str, object]:
    return {"told": (None, ())} | run


Model.TestCase.settings = settings(max_examples=25, stateful_step_count=25)
test_any_sequence_of_words_gives_what_plain_lists_would_give = Model.TestCase
