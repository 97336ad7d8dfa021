"""`usbbackup daemon`: the agent, as systemd starts it."""

import argparse
from typing import TYPE_CHECKING

from usbbackup.errors import NotNowError
from usbbackup.lean import without_openssl

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "run the agent in the foreground, as the systemd user unit does"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the unit asks before it starts the agent."""
    parser.add_argument(
        "--home-open",
        action="store_true",
        help="only tell whether the home directory is open: 0, or 75 while it is still encrypted",
    )


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Be the agent until told to stop. Raises NotNowError, and writes nothing, in a home that is not open."""
    from usbbackup import encrypted_home

    if kind := encrypted_home.still_encrypted(terminal.paths.home):
        raise NotNowError(
            f"the home directory is still encrypted ({kind}): nothing is done before it is open",
            "log in; for a start at each login run: usbbackup setup",
        )
    if args.home_open:
        return 0
    without_openssl()
    from usbbackup.agent import daemon

    return daemon.run(daemon.real_world(terminal.env))
