"""`usbbackup prune`: remove the snapshots that `keep` gives up, or tell which those are."""

import argparse
import asyncio
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.cli.table import table
from usbbackup.errors import Exit

if TYPE_CHECKING:
    from usbbackup.agent.pruning import Pruned
    from usbbackup.cli.main import Terminal

HELP = "remove snapshots that no rule of `keep` wants any more; every good run does so by itself"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and whether at all."""
    parser.add_argument("job", nargs="?", metavar="JOB", help="only of this job; left out: of every job")
    parser.add_argument("--drive", metavar="D", help=f"only on this drive: {shown.D}")
    parser.add_argument("--dry-run", action="store_true", help="tell what stays and why, remove nothing")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Do it in this process; no agent is needed."""
    from usbbackup.agent import once, pruning

    found = asyncio.run(
        pruning.pruned(once.here(terminal.env), args.job, args.drive, dry_run=args.dry_run, ask=None)
    )
    if args.json:
        terminal.json([record for one in found for record in records(one)])
    elif found:
        _show(found, "would be removed" if args.dry_run else "removed", terminal)
    else:
        terminal.say("There are no snapshots that `keep` is about.")
    return Exit.DONE


def records(pruned: "Pruned") -> list[dict[str, object]]:
    """For scripts, in order of publishing."""
    return [
        {
            "snapshot": f"{pruned.job}@{judged.time}",
            "job": pruned.job,
            "drive": pruned.drive.uuid,
            "kept": bool(judged.reasons),
            "reasons": list(judged.reasons),
        }
        for judged in pruned.judged
    ]


def _show(found: list["Pruned"], gone: str, terminal: "Terminal") -> None:
    rows = [
        ((f"{one.job}@{judged.time}", one.drive.name, ", ".join(judged.reasons) or gone), None)
        for one in found
        for judged in one.judged
    ]
    table(("SNAPSHOT", "DRIVE", "KEPT AS"), rows, terminal)
    number = sum(not judged.reasons for one in found for judged in one.judged)
    terminal.say(f"{shown.counted(number, 'snapshot', 'snapshots')} {gone}")
