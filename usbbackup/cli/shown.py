"""How things are shown to people: plain tables and sentences, colour only on a terminal."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from usbbackup.text import human_age, human_bytes, human_duration, safe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from usbbackup.cli.main import Terminal
    from usbbackup.history import Decision, RunRecord

STYLES = {
    "success": "green",
    "warning": "yellow",
    "failed": "red",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "ready": "green",
    "busy": "green",
    "waiting": "yellow",
    "refused": "red",
}


def console(terminal: "Terminal") -> "Console":
    """Rich's console; it honours NO_COLOR and knows whether this is a terminal."""
    from rich.console import Console

    width = None if terminal.out.isatty() else 160  # in a file or a pipe nothing is cut to 80 columns
    return Console(file=terminal.out, width=width, highlight=False, emoji=False, markup=False)


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _cell(text: object) -> Any:
    from rich.text import Text

    plain = "" if text is None else safe(str(text))
    return Text(plain, style=STYLES.get(plain, ""))


def _add(table: "Table", *cells: object) -> None:
    table.add_row(*(_cell(cell) for cell in cells))


def status(status: dict[str, Any], terminal: "Terminal") -> None:
    """The agent, the drives, the jobs and what runs."""
    agent = status["agent"]
    if agent["running"]:
        terminal.say(f"The agent runs (process {agent['pid']}, since {_moment(agent['since'])}).")
    else:
        terminal.say("No agent runs. Start it: systemctl --user start usbbackup")
    terminal.say()
    drives(status["drives"], terminal)
    terminal.say()
    _jobs(status, terminal)
    if status["runs"]:
        terminal.say()
        _runs(status, terminal)


def drives(drives: Sequence[dict[str, Any]], terminal: "Terminal") -> None:
    """Drives with their state and its reason."""
    table = _table("DRIVE", "STATE", "MOUNTED AT", "FREE", "UUID")
    for drive in drives:
        free = drive["bytes_free"]
        shown = f"{human_bytes(free)} of {human_bytes(drive['bytes_total'])}" if free is not None else ""
        _add(
            table, drive["label"] or drive["name"], drive["state"], drive["mount_point"], shown, drive["uuid"]
        )
    console(terminal).print(table)
    for drive in drives:
        if drive["reason"]:
            terminal.say(f"  {safe(drive['reason'])}")


def _jobs(status: dict[str, Any], terminal: "Terminal") -> None:
    names = _drive_names(status)
    table = _table("JOB", "ENGINE", "DRIVE", "LAST BACKUP", "LAST OUTCOME", "NEXT")
    for job in status["jobs"]:
        for on in job["drives"] or [None]:
            if on is None:
                _add(table, job["name"], job["engine"], "", "never", "", "when its drive is enrolled")
            else:
                last = _ago(on["last_success"]) or "never"
                _add(
                    table,
                    job["name"],
                    job["engine"],
                    names.get(on["uuid"], on["uuid"]),
                    last,
                    on["last_outcome"],
                    _next(on),
                )
    console(terminal).print(table)


def _next(on: dict[str, Any]) -> str:
    if on["next_due"]:
        return _ago(on["next_due"]) or ""
    return "due" if on["due"] else "at the next plug"


def _runs(status: dict[str, Any], terminal: "Terminal") -> None:
    names = _drive_names(status)
    table = _table("RUNNING", "DRIVE", "PHASE", "DONE", "BYTES", "FILES", "SINCE")
    for run in status["runs"]:
        done = f"{run['percent']:.0f} %" if run["percent"] is not None else ""
        size = human_bytes(run["bytes"]) if run["bytes"] is not None else ""
        _add(
            table,
            run["job"],
            names.get(run["drive"]),
            run["phase"],
            done,
            size,
            run["files"],
            _ago(run["since"]),
        )
    console(terminal).print(table)


def _drive_names(status: dict[str, Any]) -> dict[str, str]:
    return {drive["uuid"]: drive["label"] or drive["name"] for drive in status["drives"] if drive["uuid"]}


def history(runs: Iterable["RunRecord"], terminal: "Terminal") -> None:
    """Runs, newest first."""
    table = _table("RUN", "JOB", "OUTCOME", "STARTED", "TOOK", "FILES", "BYTES", "MESSAGE")
    for run in runs:
        took = human_duration(run.finished - run.started) if run.finished is not None else ""
        size = human_bytes(run.bytes) if run.bytes is not None else ""
        started = datetime.fromtimestamp(run.started).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        _add(table, run.run, run.job, run.outcome or "running", started, took, run.files, size, run.message)
    console(terminal).print(table)


def decisions(decisions: Iterable["Decision"], terminal: "Terminal") -> None:
    """Decisions, newest first."""
    table = _table("WHEN", "JOB", "DRIVE", "DECISION", "REASON")
    for one in decisions:
        when = datetime.fromtimestamp(one.last_seen).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        _add(table, when, one.job, one.drive, one.verdict, one.reason)
    console(terminal).print(table)


def snapshots(snapshots: Iterable[dict[str, Any]], terminal: "Terminal") -> None:
    """Restorable points in time."""
    table = _table("SNAPSHOT", "DRIVE", "ENGINE", "TIME", "PATH")
    for one in snapshots:
        _add(table, one["snapshot"], one["drive"], one["engine"], _moment(one["time"]), one["path"])
    console(terminal).print(table)


def tree(node: dict[str, Any], terminal: "Terminal") -> None:
    """The supervision tree, as lines."""
    from rich.tree import Tree

    def grow(node: dict[str, Any]) -> Tree:
        state = "" if node["running"] else ", not running"
        label = f"{node['name']}  restarts {node['restarts']}, mailbox {node['mailbox']}{state}"
        branch = Tree(_cell(label))
        branch.children.extend(grow(child) for child in node["children"])
        return branch

    console(terminal).print(grow(node))


class Teller:
    """Tells how runs go, a line for each thing worth a line."""

    def __init__(self, terminal: "Terminal", *, as_json: bool) -> None:
        self._terminal = terminal
        self._as_json = as_json
        self._said: dict[str, str] = {}

    def tell(self, event: dict[str, Any]) -> None:
        """One event of one run."""
        if self._as_json:
            import json

            self._terminal.say(json.dumps(event))
            return
        line = self._line(event)
        if line and self._said.get(event["run"]) != line:
            self._said[event["run"]] = line
            self._terminal.say(line)

    def _line(self, event: dict[str, Any]) -> str | None:
        job = event["job"]
        match event["event"], event["phase"]:
            case "ended", _:
                hint = f"\n  {safe(event['hint'])}" if event["hint"] else ""
                return f"{job}: {event['outcome']}: {safe(event['message'])}{hint}"
            case "queued", "queued":
                return f"{job}: run {event['run']} waits for its turn"
            case _, "transfer" if event["percent"] is not None:
                return f"{job}: transfer {event['percent'] // 10 * 10:.0f} %"
            case _, phase:
                return f"{job}: {phase}"


def _moment(rfc3339: str | None) -> str:
    return datetime.fromisoformat(rfc3339).strftime("%Y-%m-%d %H:%M:%S") if rfc3339 else ""


def _ago(rfc3339: str | None) -> str | None:
    if rfc3339 is None:
        return None
    return human_age(time.time() - datetime.fromisoformat(rfc3339).timestamp())
