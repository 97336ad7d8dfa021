"""`usbbackup cancel`: end runs that go on or wait for their turn."""

import argparse
from typing import TYPE_CHECKING

from usbbackup.cli.asked import SHORT
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
    with Client.connect(terminal.paths.socket, SHORT) as agent:
        cancelled = agent.call("Cancel", SHORT, job=args.job)["cancelled"]
    if args.json:
        terminal.json({"cancelled": cancelled})
    elif cancelled:
        terminal.say(f"ending {', '.join(cancelled)}; what was copied is kept for the next run")
    else:
        terminal.say(f"job '{args.job}' is not running" if args.job else "nothing is running")
    return 0
