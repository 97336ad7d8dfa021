"""`usbbackup daemon`: the agent, as systemd starts it."""

import argparse
from typing import TYPE_CHECKING

from usbbackup.lean import without_openssl

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "run the agent in the foreground, as the systemd user unit does"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Be the agent until told to stop."""
    without_openssl()
    from usbbackup.agent import daemon

    return daemon.run(daemon.real_world(terminal.env))
