"""`usbbackup history`: runs and their outcomes, or the whole log of one."""

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbbackup.cli import shown
from usbbackup.cli.main import how_many
from usbbackup.errors import ConfigError, NoSuchJobError, UsageError
from usbbackup.history import History, RunRecord
from usbbackup.text import did_you_mean, safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "show runs and their outcomes, newest first; with RUN its whole log"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, and the form of the answer."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run, or the beginning of its name")
    parser.add_argument("--job", metavar="JOB", help="only runs of this job")
    parser.add_argument("--limit", type=how_many, default=50, metavar="N", help="at most so many (50)")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Read the database; no agent is needed."""
    with closing(History.open(terminal.paths.history_db, terminal.clock, readonly=True)) as history:
        if args.run:
            _one(_named(history, args.run), args, terminal)
        else:
            _list(history.runs(limit=args.limit, job=args.job), args, terminal)
    return 0


def _list(runs: list[RunRecord], args: argparse.Namespace, terminal: "Terminal") -> None:
    if args.job is not None and not runs:
        _refuse_unknown(args.job, terminal)
    if args.json:
        terminal.json([run.record() for run in runs])
    else:
        shown.history(runs, args.job, terminal)


def _refuse_unknown(job: str, terminal: "Terminal") -> None:
    """A job without runs is none only where the configuration, if it can be read, has none of that name."""
    from usbbackup.config import load

    try:
        names = [job.name for job in load(terminal.paths.config_file, terminal.paths.home).jobs]
    except ConfigError:
        return
    if job not in names:
        raise NoSuchJobError(
            f"there is no job '{safe(job)}'{did_you_mean(job, names)}", f"jobs are: {', '.join(names)}"
        )


def _one(run: RunRecord, args: argparse.Namespace, terminal: "Terminal") -> None:
    if args.json:
        terminal.json(record(run))
        return
    if run.log:
        _print_log(run.log, terminal)
    if run.outcome is None:
        terminal.say(f"(the run goes on: {run.phase})")
    elif not run.log:
        terminal.say(f"(the run never began: {run.message})")


def record(run: RunRecord) -> dict[str, Any]:
    """One run for scripts, with all that is known of it."""
    log = safe(run.log) if run.log else None
    return run.record() | {"phase": run.phase, "hint": run.hint, "notes": list(run.notes), "log": log}


def _print_log(log: str, terminal: "Terminal") -> None:
    try:
        with Path(log).open(errors="surrogateescape", newline="\n") as lines:
            for line in lines:
                terminal.say(safe(line.rstrip("\n")))
    except OSError as error:
        raise UsageError(f"the log {safe(log)} cannot be read: {error.strerror}") from None


def _named(history: History, word: str) -> RunRecord:
    match history.run(word):
        case [one]:
            return one
        case []:
            raise UsageError(f"there is no run '{safe(word)}'", "see: usbbackup history")
        case several:
            names = ", ".join(run.run for run in several[:5])
            raise UsageError(f"'{safe(word)}' could be any of {names}", "write more of its name")
