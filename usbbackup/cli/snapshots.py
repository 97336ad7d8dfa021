"""`usbbackup snapshots`: what can be restored from the drives that are plugged in."""

import argparse
from typing import TYPE_CHECKING, Any

from usbbackup.cli import shown
from usbbackup.errors import Exit, NoAgentError
from usbbackup.text import safe
from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "list what can be restored from the drives that are plugged in"
PATIENCE = 600.0  # seconds; borg reads the whole index of each repository


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and the form of the answer."""
    parser.add_argument("--drive", metavar="D", help="only on this drive")
    parser.add_argument("--job", metavar="JOB", help="only of this job")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask the agent; without one look for oneself."""
    found = _ask(terminal, {"drive": args.drive, "job": args.job})
    if args.json:
        terminal.json(found["snapshots"])
    else:
        shown.snapshots(found["snapshots"], terminal)
    for trouble in found["troubles"]:
        print(f"usbbackup: {safe(trouble)}", file=terminal.err)
    return Exit.FAILED if found["troubles"] else Exit.DONE


def _ask(terminal: "Terminal", parameters: dict[str, Any]) -> dict[str, Any]:
    try:
        with Client.connect(terminal.paths.socket) as agent:
            answer: dict[str, Any] = agent.call("Snapshots", PATIENCE, **parameters)
            return answer
    except NoAgentError:
        from usbbackup.agent import once

        return once.snapshots(terminal.env, parameters)
