"""`usbbackup snapshots`: what can be restored from the drives that are plugged in."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.cli.asked import Answer, passphrases, reached
from usbbackup.errors import Exit
from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "list what can be restored from the drives that are plugged in"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and the form of the answer."""
    parser.add_argument("--drive", metavar="D", help=f"only on this drive: {shown.D}")
    parser.add_argument("--job", metavar="JOB", help="only of this job")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask the agent; without one look for oneself."""
    found, troubles = [], []
    for answer in _answers(terminal, {"drive": args.drive, "job": args.job}):
        found += answer["snapshots"]
        troubles += answer["troubles"]
    if args.json:
        terminal.json(found)
    elif found or not troubles:
        shown.snapshots(found, terminal)
    for trouble in troubles:
        terminal.complain(safe(trouble))
    return Exit.FAILED if troubles else Exit.DONE


def _answers(terminal: "Terminal", parameters: Answer) -> Iterable[Answer]:
    agent = reached(terminal)
    if agent is None:
        from usbbackup.agent import once

        return once.snapshots(terminal.env, parameters, passphrases(terminal))
    with agent:
        return list(agent.call_more("Snapshots", **parameters))
