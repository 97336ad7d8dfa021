"""`usbbackup why`: why did it, or did it not, run?"""

import argparse
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.clock import SystemClock, rfc3339
from usbbackup.errors import UsageError
from usbbackup.history import Decision, History
from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "tell why a backup did, or did not, run"


def arguments(parser: argparse.ArgumentParser) -> None:
    """About what."""
    parser.add_argument("about", nargs="?", metavar="JOB|DRIVE", help="only about this job or drive")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many decisions (20)")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Read the decisions; no agent is needed."""
    history = History.open(terminal.paths.history_db, SystemClock(), readonly=True)
    try:
        decisions = _about(history, args)
    finally:
        history.close()
    if args.json:
        terminal.json([record(decision) for decision in decisions])
    else:
        shown.decisions(decisions, terminal)
    return 0


def record(decision: Decision) -> dict[str, object]:
    """A decision for scripts."""
    return {
        "time": rfc3339(decision.time),
        "last_seen": rfc3339(decision.last_seen),
        "times": decision.times,
        "drive": decision.drive,
        "job": decision.job,
        "verdict": decision.verdict,
        "reason": decision.reason,
    }


def _about(history: History, args: argparse.Namespace) -> list[Decision]:
    if args.about is None:
        return history.decisions(limit=args.limit)
    found = history.decisions(job=args.about, limit=args.limit)
    return found or _of_drive(history, args)


def _of_drive(history: History, args: argparse.Namespace) -> list[Decision]:
    found = history.decisions(drive=args.about, limit=args.limit)
    if not found:
        raise UsageError(
            f"nothing was ever decided about '{safe(args.about)}'",
            "see `usbbackup status` for jobs and drives",
        )
    return found
