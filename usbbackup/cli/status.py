"""`usbbackup status`: drives, jobs, last and next backup, what is running now."""

import argparse
from typing import TYPE_CHECKING, Any

from usbbackup.cli import shown
from usbbackup.errors import NoAgentError
from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "show drives, jobs, the last and the next backup, and what is running now"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The form of the answer."""
    parser.add_argument("--json", action="store_true", help="answer in JSON; always exits 0")
    parser.add_argument("--tree", action="store_true", help="show the agent's live supervision tree")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask the agent; without one look for oneself."""
    if args.tree:
        return _tree(args, terminal)
    status = _status(terminal)
    if args.json:
        terminal.json(status)
    else:
        shown.status(status, terminal)
    return 0


def _status(terminal: "Terminal") -> dict[str, Any]:
    try:
        with Client.connect(terminal.paths.socket) as agent:
            status: dict[str, Any] = agent.call("Status")["status"]
            return status
    except NoAgentError:
        from usbbackup.agent import once

        return once.status(terminal.env)


def _tree(args: argparse.Namespace, terminal: "Terminal") -> int:
    with Client.connect(terminal.paths.socket) as agent:
        tree = agent.call("Tree")["tree"]
    if args.json:
        terminal.json(tree)
    else:
        shown.tree(tree, terminal)
    return 0
