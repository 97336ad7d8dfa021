"""`usbbackup why`: why did it, or did it not, run?"""

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.cli.asked import asked
from usbbackup.cli.main import how_many
from usbbackup.clock import rfc3339
from usbbackup.errors import UsbbackupError
from usbbackup.history import Decision, History

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "tell why a backup did, or did not, run"


def arguments(parser: argparse.ArgumentParser) -> None:
    """About what."""
    parser.add_argument(
        "about", nargs="?", metavar="JOB|DRIVE", help=f"only about this job, or this drive: {shown.D}"
    )
    parser.add_argument(
        "--limit", type=how_many, default=20, metavar="N", help="at most so many decisions (20)"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Read the decisions; no agent is needed."""
    with closing(History.open(terminal.paths.history_db, terminal.clock, readonly=True)) as history:
        if args.about is None:
            decisions = history.decisions(limit=args.limit)
        else:
            decisions = _about(args.about, args.limit, history, terminal)
    if args.json:
        terminal.json([record(decision) for decision in decisions])
    else:
        shown.decisions(decisions, args.about, terminal)
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


def _about(word: str, limit: int, history: History, terminal: "Terminal") -> list[Decision]:
    """A job and the drives it goes to, or one drive; also one that is known only from before."""
    try:
        meant = asked(terminal, "About", terminal.patience, word=word)
    except UsbbackupError:
        found = history.decisions(job=word, limit=limit) or history.decisions(drive=word, limit=limit)
        if not found:
            raise
        return found
    drives = [drive["uuid"] or drive["name"] for drive in meant["drives"]]
    if meant["job"] is None:
        return history.decisions(drive=drives[0], limit=limit)
    return history.decisions_about(meant["job"], drives, limit)
