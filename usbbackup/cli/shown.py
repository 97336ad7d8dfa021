"""How things are shown to people: tables and sentences."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from usbbackup.cli.table import Row, table
from usbbackup.outcome import Outcome
from usbbackup.text import human_age, human_bytes, human_duration, safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal
    from usbbackup.history import Decision, RunRecord

Record = Mapping[str, Any]

D = "name, UUID or its beginning, label, device or mount point"
SNAPSHOT = "JOB@TIME as `usbbackup snapshots` names it, #DRIVE behind it where that is ambiguous, or latest"
DOES = {
    "queued": "waits for its turn",
    "probe": "looks at the drive and the sources",
    "stage": "prepares",
    "transfer": "copies",
    "sync": "sees to it that everything is on the drive",
    "publish": "publishes the snapshot",
    "prune": "removes old snapshots",
    "verify": "proves the snapshot",
    "record": "writes the history",
}


def counted(number: int, one: str, many: str) -> str:
    """A number with its word.

    >>> counted(1, "file", "files"), counted(2, "file", "files")
    ('1 file', '2 files')
    """
    return f"{number} {one if number == 1 else many}"


def status(status: Record, terminal: "Terminal") -> None:
    """The agent, the drives, the jobs and what runs."""
    terminal.say(_agent(status["agent"]))
    terminal.say()
    drives(status["drives"], terminal)
    terminal.say()
    _jobs(status, terminal)
    if status["runs"]:
        terminal.say()
        _runs(status, terminal)


def _agent(agent: Record) -> str:
    match agent:
        case {"running": False}:
            return "No agent runs. Start it: systemctl --user start usbbackup"
        case {"version": None, "pid": pid}:
            return f"The agent (process {pid or 'unknown'}) does not answer."
        case {"since": None, "pid": pid}:
            return f"The agent is starting (process {pid})."
        case _:
            return f"The agent runs (process {agent['pid']}, since {_moment(agent['since'])})."


def drives(drives: Sequence[Record], terminal: "Terminal") -> None:
    """Drives with their state and its reason."""
    rows = [
        (
            (
                drive["label"] or drive["name"],
                drive["state"],
                drive["mount_point"],
                _space(drive),
                drive["uuid"],
            ),
            _reason(drive, terminal),
        )
        for drive in drives
    ]
    table(("DRIVE", "STATE", "MOUNTED AT", "FREE", "UUID"), rows, terminal)


def _space(drive: Record) -> str:
    if drive["bytes_free"] is None:
        return ""
    return f"{human_bytes(drive['bytes_free'])} of {human_bytes(drive['bytes_total'])}"


def _reason(drive: Record, terminal: "Terminal") -> str | None:
    if drive["state"] == "absent" and drive["last_seen"]:
        return f"{drive['reason']} It was last seen {_ago(drive['last_seen'], terminal)}."
    return drive["reason"]  # type: ignore[no-any-return] # from JSON: a string or null


def _jobs(status: Record, terminal: "Terminal") -> None:
    if not status["jobs"]:
        terminal.say("There are no jobs.")
        return
    names = names_of(status["drives"])
    states = {drive["uuid"]: drive["state"] for drive in status["drives"]}
    running = {(run["job"], run["drive"]) for run in status["runs"]}
    rows: list[Row] = []
    for job in status["jobs"]:
        for on in job["drives"]:
            now = (job["name"], on["uuid"]) in running
            last = _ago(on["last_success"], terminal) or "never"
            following = "running" if now else _next(on, states.get(on["uuid"]), terminal)
            name = names.get(on["uuid"], on["uuid"])
            proven = (
                on["last_proven"]
                and f"files were last restored and compared {_ago(on['last_proven'], terminal)}"
            )
            rows.append(((job["name"], job["engine"], name, last, on["last_outcome"], following), proven))
        if not job["drives"]:
            rows.append(((job["name"], job["engine"], "", "never", "", "when its drive is there"), None))
    table(("JOB", "ENGINE", "DRIVE", "LAST BACKUP", "LAST OUTCOME", "NEXT"), rows, terminal)


def _next(on: Record, state: str | None, terminal: "Terminal") -> str:
    match state, on:
        case (("ready" | "busy"), {"due": True}):
            return "due"
        case (("ready" | "busy"), {"next_due": str(when)}):
            return _ago(when, terminal) or ""
        case (("ready" | "busy"), _):
            return "at the next plug"
        case "absent", {"next_due": str(when)}:
            return f"{_ago(when, terminal)}, if plugged in"
        case "absent", _:
            return "when plugged in"
        case _:
            return "when the drive is ready"


def _runs(status: Record, terminal: "Terminal") -> None:
    names = names_of(status["drives"])
    rows: list[Row] = []
    for run in status["runs"]:
        done = f"{run['percent']:.0f} %" if run["percent"] is not None else ""
        since, name = _ago(run["since"], terminal), names.get(run["drive"], run["drive"])
        cells = (run["job"], name, run["phase"], done, _size(run["bytes"]), run["files"], since, run["run"])
        rows.append((cells, None))
    table(("RUNNING", "DRIVE", "PHASE", "DONE", "BYTES", "FILES", "SINCE", "RUN"), rows, terminal)


def names_of(drives: Iterable[Record]) -> dict[str, str]:
    """What drives are called, by UUID; those of one name with the beginning of their UUID."""
    known = {drive["uuid"]: drive["label"] or drive["name"] for drive in drives if drive["uuid"]}
    called = list(known.values())
    return {uuid: name if called.count(name) == 1 else f"{name} ({uuid[:8]})" for uuid, name in known.items()}


def history(runs: Sequence["RunRecord"], job: str | None, terminal: "Terminal") -> None:
    """Runs, newest first; a sentence below those that are no plain success."""
    if not runs:
        terminal.say(f"no runs of job '{safe(job)}' yet" if job else "no runs yet")
        return
    names = labels(terminal)
    rows: list[Row] = []
    for run in runs:
        took = human_duration(run.finished - run.started) if run.finished is not None else ""
        cells = (
            run.run,
            run.job,
            names.get(run.drive, run.drive[:8]),
            run.outcome or "running",
            _local(run.started),
            took,
            run.files,
            _size(run.bytes),
        )
        rows.append((cells, None if run.outcome is Outcome.SUCCESS else run.message))
    table(("RUN", "JOB", "DRIVE", "OUTCOME", "STARTED", "TOOK", "FILES", "BYTES"), rows, terminal)


def decisions(decisions: Sequence["Decision"], about: str | None, terminal: "Terminal") -> None:
    """Decisions, newest first."""
    if not decisions:
        what = f" about '{safe(about)}'" if about else ""
        terminal.say(f"nothing has been decided yet{what}: that begins with the agent and the first drive")
        return
    names = labels(terminal)
    rows: list[Row] = [
        ((_local(one.last_seen), one.job, names.get(one.drive or "", one.drive), one.verdict), one.reason)
        for one in decisions
    ]
    table(("WHEN", "JOB", "DRIVE", "DECISION"), rows, terminal)


def snapshots(snapshots: Sequence[Record], terminal: "Terminal") -> None:
    """Restorable points in time."""
    if not snapshots:
        terminal.say("no snapshots on the drives that are plugged in")
        return
    names = labels(terminal)
    rows: list[Row] = [
        (
            (
                one["snapshot"],
                names.get(one["drive"], one["drive"]),
                one["engine"],
                _moment(one["time"]),
                one["path"],
            ),
            None,
        )
        for one in snapshots
    ]
    table(("SNAPSHOT", "DRIVE", "ENGINE", "TIME", "PATH"), rows, terminal)


def labels(terminal: "Terminal") -> dict[str, str]:
    """What enrolled drives are called, by UUID."""
    from usbbackup.drives.records import Records
    from usbbackup.errors import ConfigError

    try:
        known = Records(terminal.paths.drives_file).read()
    except ConfigError:  # damaged: then they are called by their UUID
        return {}
    return names_of({"uuid": uuid, "label": one.label, "name": one.name} for uuid, one in known.items())


def took_last_time(job: str, drive: str, terminal: "Terminal") -> float | None:
    """Seconds that the last good run of a job took on a drive, where the history knows."""
    from usbbackup.history import History, HistoryError

    try:
        history = History.open(terminal.paths.history_db, terminal.clock, readonly=True)
        last = history.last_good(job, drive)
    except HistoryError:  # nothing depends on it
        return None
    history.close()
    return last.finished - last.started if last and last.finished is not None else None


def tree(node: Record, terminal: "Terminal") -> None:
    """The supervision tree."""

    def rows(node: Record, depth: int) -> Iterator[Row]:
        state = "running" if node["running"] else "not running"
        name, since = "  " * depth + node["name"], _moment(node["since"])
        yield (name, node["process"], state, node["restarts"], node["mailbox"], since), None
        for child in node["children"]:
            yield from rows(child, depth + 1)

    header = ("NAME", "PROCESS", "STATE", "RESTARTS", "MAILBOX", "SINCE")
    table(header, list(rows(node, 0)), terminal)


def can_be_drawn_on(terminal: "Terminal") -> bool:
    """Is it one on which a picture can be drawn anew?"""
    return terminal.out.isatty() and terminal.env.get("TERM") not in ("dumb", None)


@contextmanager
def telling(terminal: "Terminal", *, as_json: bool, waits: bool) -> Iterator["Teller"]:
    """Tells how runs go: on a terminal with bars where somebody waits for the end, else line by line."""
    if as_json or not waits or not can_be_drawn_on(terminal):
        yield Teller(terminal, as_json=as_json)
        return
    from usbbackup.cli.board import Board, LiveTeller, live

    board = Board(terminal)
    with live(board, terminal, leave=False) as console:
        yield LiveTeller(terminal, board, console)


class Teller:
    """Tells how runs go, a line for each thing worth a line; also when nobody listens any more."""

    def __init__(self, terminal: "Terminal", *, as_json: bool) -> None:
        self._terminal = terminal
        self._as_json = as_json
        self._said: dict[str, str] = {}
        self.began = False
        self.outcomes: list[Outcome] = []

    def tell(self, event: Record) -> None:
        """One event of one run."""
        self.began = True
        if event["event"] == "ended":
            self.outcomes.append(Outcome(event["outcome"]))
        if self._as_json:
            self._say(event)
        elif self._said.get(event["run"]) != (line := _event(event)):
            self._said[event["run"]] = line
            self._say(line)

    def remark(self, sentence: str) -> None:
        """Something about the runs as a whole, for people."""
        if not self._as_json:
            self._say(sentence)

    def _say(self, what: Record | str) -> None:
        try:
            self._terminal.say(what) if isinstance(what, str) else self._terminal.json_line(what)
            self._terminal.out.flush()  # each line when it happens, also into a file or a journal
        except BrokenPipeError:  # no reason to leave a backup, or not to tell how it ended
            self._terminal.deafen()


def _event(event: Record) -> str:
    job = safe(event["job"])
    match event["event"], event["phase"]:
        case "ended", _:
            hint = f"\n  {safe(event['hint'])}" if event["hint"] else ""
            return f"{job}: {event['outcome']}: {safe(event['message'])}{hint}"
        case "queued", phase:
            return f"{job}: run {event['run']} {DOES.get(phase, phase)}"
        case _, "transfer" if event["percent"] is not None:
            return f"{job}: copies, {event['percent'] // 10 * 10:.0f} %"
        case _, phase:
            return f"{job}: {DOES.get(phase, phase)}"


def _size(count: int | None) -> str:
    return human_bytes(count) if count is not None else ""


def _local(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _moment(rfc3339: str | None) -> str:
    return datetime.fromisoformat(rfc3339).strftime("%Y-%m-%d %H:%M:%S") if rfc3339 else ""


def _ago(rfc3339: str | None, terminal: "Terminal") -> str | None:
    if rfc3339 is None:
        return None
    return human_age(terminal.clock.now() - datetime.fromisoformat(rfc3339).timestamp())
