"""`usbbackup cancel`: end runs that go on or wait for their turn."""

import argparse
from typing import TYPE_CHECKING

from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "end the runs of a job, or all runs; what they copied is kept for the next run"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The job."""
    parser.add_argument("job", nargs="?", metavar="JOB", help="the job whose runs end (left out: all)")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask, and print which runs end."""
    with Client.connect(terminal.paths.socket) as agent:
        cancelled = agent.call("Cancel", job=args.job)["cancelled"]
    if args.json:
        terminal.json({"cancelled": cancelled})
    elif cancelled:
        terminal.say(f"ending {', '.join(cancelled)}")
    else:
        terminal.say("nothing is running")
    return 0
