"""`usbbackup reload`: have the agent read its configuration anew."""

import argparse
from typing import TYPE_CHECKING

from usbbackup.cli.asked import SHORT
from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "have the agent read the configuration anew; a wrong one is refused and the old one stays"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The form of the answer."""
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask, and print the answer."""
    with Client.connect(terminal.paths.socket, SHORT) as agent:
        message = agent.call("Reload", SHORT)["message"]
    if args.json:
        terminal.json({"message": message})
    else:
        terminal.say(message)
    return 0
