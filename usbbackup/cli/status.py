"""`usbbackup status`: drives, jobs, last and next backup, what is running now."""

import argparse
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.cli.asked import Answer, reached
from usbbackup.errors import NoAgentError, SilentAgentError, UsbbackupError
from usbbackup.text import safe
from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "show drives, jobs, the last and the next backup, and what is running now"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The form of the answer."""
    parser.add_argument("--json", action="store_true", help="answer in JSON; always exits 0")
    parser.add_argument(
        "--tree",
        action="store_true",
        help="show the agent's live supervision tree; exits 69 without an agent",
    )


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask the agent; without one look for oneself."""
    if args.tree:
        return _tree(args, terminal)
    answer = whatever_is_known(terminal)
    if args.json:
        terminal.json(answer["status"])
    else:
        shown.status(answer["status"], terminal)
        if wrong := answer.get("configuration"):
            terminal.complain(wrong, "see: usbbackup check-config")
    for trouble in answer["troubles"]:
        terminal.complain(safe(trouble))
    return 0


def whatever_is_known(terminal: "Terminal") -> Answer:
    """What the agent says; whatever keeps it from answering, there is an answer."""
    try:
        agent = reached(terminal, terminal.patience)
        if agent is None:
            return _seen(terminal)
        with agent:
            return agent.call("Status", terminal.patience)
    except UsbbackupError as error:
        alone = _seen(
            terminal, silent=isinstance(error, SilentAgentError) or not isinstance(error, NoAgentError)
        )
        why = f"{error.message}; this is what can be seen without it"
        return alone | {"troubles": [why, *alone["troubles"]]}


def _seen(terminal: "Terminal", *, silent: bool = False) -> Answer:
    from usbbackup.agent import glance

    return glance.status(terminal.env, silent=silent)


def _tree(args: argparse.Namespace, terminal: "Terminal") -> int:
    with Client.connect(terminal.paths.socket, terminal.patience) as agent:
        tree = agent.call("Tree", terminal.patience)["tree"]
    if args.json:
        terminal.json(tree)
    else:
        shown.tree(tree, terminal)
    return 0
