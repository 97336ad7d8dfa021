"""`usbbackup reload`: have the agent read its configuration anew."""

import argparse
from typing import TYPE_CHECKING

from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "have the agent read the configuration anew; a wrong one is refused and the old one stays"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask, and print the answer."""
    with Client.connect(terminal.paths.socket) as agent:
        terminal.say(agent.call("Reload")["message"])
    return 0
