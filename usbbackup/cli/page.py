"""The report as one HTML page that needs nothing else: no script, no network, light or dark as one likes."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from html import escape
from importlib import resources
from typing import Any

from usbbackup.cli import charts, shown
from usbbackup.history import RunRecord
from usbbackup.outcome import Outcome
from usbbackup.text import human_age, human_bytes, human_duration, safe

Record = Mapping[str, Any]

LATEST = 30  # runs in the table
_WORSE = (
    *(Outcome.SUCCESS, Outcome.SKIPPED, Outcome.CANCELLED),
    *(Outcome.WARNING, Outcome.INTERRUPTED, Outcome.FAILED),
)


def page(status: Record, runs: Sequence[RunRecord], now: float) -> str:
    """The whole page; `runs` are newest first."""
    names = shown.names_of(status["drives"])
    parts = [
        f"<h1>Backups</h1><p class=soft>As of {_moment(now)}</p>",
        _section("Jobs", _jobs(status, names, now)),
        _section("Drives", _drives(status["drives"], now)),
        _section("Every day", charts.calendar(_days(runs), date.fromtimestamp(now)) + _outcome_key()),
        _sizes(runs),
        _section("The latest runs", _runs(runs[:LATEST], names)),
    ]
    style = resources.files("usbbackup.cli").joinpath("report.css").read_text()
    head = "<meta charset=utf-8><meta name=viewport content='width=device-width'><title>Backups</title>"
    head += f"<style>{style}</style>"
    return f"<!doctype html>\n<html lang=en><head>{head}</head>\n<body>{''.join(parts)}</body></html>\n"


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2><div class=scroll>{content}</div>\n" if content else ""


def _jobs(status: Record, names: Mapping[str, str], now: float) -> str:
    rows = [
        (
            _text(job["name"]),
            _text(names.get(on["uuid"], on["uuid"])),
            _text(_ago(on["last_success"], now) or "never"),
            _outcome(on["last_outcome"]),
            _text(_ago(on["last_proven"], now) or "never"),
        )
        for job in status["jobs"]
        for on in job["drives"]
    ]
    return _table(("Job", "Drive", "Last good backup", "Last outcome", "Last proven restore"), rows)


def _drives(drives: Sequence[Record], now: float) -> str:
    rows = [
        (
            _text(drive["label"] or drive["name"]),
            _text(drive["state"]),
            _text(_ago(drive["last_seen"], now) or ""),
            _text(_room(drive)),
            f"<td class=wide>{escape(safe(drive['reason'] or ''))}</td>",
        )
        for drive in drives
    ]
    return _table(("Drive", "State", "Last seen", "Free", ""), rows)


def _room(drive: Record) -> str:
    if drive["bytes_free"] is None:
        return ""
    return f"{human_bytes(drive['bytes_free'])} of {human_bytes(drive['bytes_total'])}"


def _runs(runs: Sequence[RunRecord], names: Mapping[str, str]) -> str:
    rows = [
        (
            _text(_moment(run.started)),
            _text(run.job),
            _text(names.get(run.drive, run.drive[:8])),
            _outcome(run.outcome),
            _text(human_duration(run.finished - run.started) if run.finished is not None else ""),
            _text(human_bytes(run.bytes) if run.bytes is not None else ""),
            f"<td class=wide>{escape(safe(run.message or ''))}</td>",
        )
        for run in runs
    ]
    return _table(("Started", "Job", "Drive", "Outcome", "Took", "Size", ""), rows)


def _sizes(runs: Sequence[RunRecord]) -> str:
    series: dict[str, list[tuple[float, int]]] = {}
    for run in reversed(runs):
        if run.bytes is not None and run.outcome is not None and run.outcome.good:
            series.setdefault(run.job, []).append((run.started, run.bytes))
    ordered = dict(sorted(series.items()))
    key = _key((f"series{number % 6}", job) for number, job in enumerate(ordered))
    return _section("Size", charts.sizes(ordered) + key) if ordered else ""


def _days(runs: Iterable[RunRecord]) -> dict[date, tuple[str, str]]:
    """The worst outcome of each day, and how many runs there were."""
    outcomes: dict[date, list[Outcome]] = {}
    for run in runs:
        if run.outcome is not None:
            outcomes.setdefault(date.fromtimestamp(run.started), []).append(run.outcome)
    return {day: (max(of_day, key=_WORSE.index).value, _counted(of_day)) for day, of_day in outcomes.items()}


def _counted(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(f"{outcomes.count(one)} {one.value}" for one in _WORSE if one in outcomes)


def _outcome_key() -> str:
    words = (Outcome.SUCCESS, Outcome.WARNING, Outcome.INTERRUPTED, Outcome.FAILED)
    parts = (f"<span><i style='background: var(--{word})'></i>{word}</span>" for word in words)
    return f"<div class=key>{''.join(parts)}</div>"


def _key(entries: Iterable[tuple[str, str]]) -> str:
    parts = (f"<span><i class={css}></i>{escape(safe(name))}</span>" for css, name in entries)
    return f"<div class=key>{''.join(parts)}</div>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "<p class=soft>None yet.</p>"
    head = "".join(f"<th>{title}</th>" for title in header)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(text: str) -> str:
    return f"<td>{escape(safe(text))}</td>"


def _outcome(outcome: str | None) -> str:
    word = str(outcome) if outcome else "none"
    return f"<td><b class={word}>{word if outcome else 'none yet'}</b></td>"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _ago(rfc3339: str | None, now: float) -> str | None:
    return None if rfc3339 is None else human_age(now - datetime.fromisoformat(rfc3339).timestamp())
