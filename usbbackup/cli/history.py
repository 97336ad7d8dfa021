"""`usbbackup history`: runs and their outcomes, or the whole log of one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.clock import SystemClock
from usbbackup.errors import UsageError
from usbbackup.history import History, RunRecord
from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "show runs and their outcomes, newest first; with RUN its whole log"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, and the form of the answer."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run, or the beginning of its name")
    parser.add_argument("--job", metavar="JOB", help="only runs of this job")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (50)")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Read the database; no agent is needed."""
    history = History.open(terminal.paths.history_db, SystemClock(), readonly=True)
    try:
        if args.run:
            _one(_named(history, args.run), args, terminal)
        else:
            _list(history.runs(limit=args.limit, job=args.job), args, terminal)
    finally:
        history.close()
    return 0


def _list(runs: list[RunRecord], args: argparse.Namespace, terminal: "Terminal") -> None:
    if args.json:
        terminal.json([run.record() for run in runs])
    else:
        shown.history(runs, terminal)


def _one(run: RunRecord, args: argparse.Namespace, terminal: "Terminal") -> None:
    if args.json:
        terminal.json(run.record())
        return
    try:
        log = Path(run.log).read_text(errors="backslashreplace") if run.log else ""
    except OSError as error:
        log = f"(the log {safe(run.log)} cannot be read: {error.strerror})\n"
    terminal.out.write(log)


def _named(history: History, word: str) -> RunRecord:
    match history.run(word):
        case [one]:
            return one
        case []:
            raise UsageError(f"there is no run '{safe(word)}'", "see: usbbackup history")
        case several:
            raise UsageError(f"'{safe(word)}' could be any of {len(several)} runs", "write more of its name")
