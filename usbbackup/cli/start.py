"""`usbbackup start`: run now, whether due or not."""

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from usbbackup.cli import shown
from usbbackup.errors import NoAgentError, NotNowError
from usbbackup.outcome import Outcome
from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "back up now, whether due or not; without a job: all jobs of all ready drives"

# The worse of two outcomes is the later one in this list; its exit code is that of `start --wait`.
WORSE = (
    Outcome.SUCCESS,
    Outcome.WARNING,
    Outcome.SKIPPED,
    Outcome.CANCELLED,
    Outcome.INTERRUPTED,
    Outcome.FAILED,
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What, where and how."""
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="jobs of the configuration")
    parser.add_argument(
        "--drive", metavar="D", help="only this drive: name, UUID, label, device or mount point"
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait for the end, exit with the worst outcome's code"
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would be copied, write nothing")
    parser.add_argument(
        "--accept-source",
        action="store_true",
        help="a source that is much smaller or elsewhere than last time is meant to be so",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document a line for each event")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask the agent; without one do the work here."""
    teller = shown.Teller(terminal, as_json=args.json)
    outcomes: list[Outcome] = []

    def tell(event: dict[str, Any]) -> None:
        teller.tell(event)
        if event["event"] == "ended":
            outcomes.append(Outcome(event["outcome"]))

    wanted = {
        "jobs": args.jobs,
        "drive": args.drive,
        "accept_source": args.accept_source,
        "dry_run": args.dry_run,
        "wait": args.wait or args.dry_run,
    }
    _do(wanted, tell, terminal)
    return max(outcomes, key=WORSE.index).exit_code if outcomes else 0


def _do(wanted: dict[str, Any], tell: Callable[[dict[str, Any]], None], terminal: "Terminal") -> None:
    try:
        agent = Client.connect(terminal.paths.socket)
    except NoAgentError:
        from usbbackup.agent import daemon, once

        once.runs(daemon.real_world(terminal.env), wanted, tell)
        return
    with agent:
        answered(agent.call_more("Start", **wanted), tell)


def answered(answers: Iterable[dict[str, Any]], tell: Callable[[dict[str, Any]], None]) -> None:
    """Pass events on; an agent that ends meanwhile is told as what it is."""
    try:
        for answer in answers:
            tell(answer["event"])
    except NoAgentError as error:
        raise NotNowError("the agent ended while the backup ran", "see: usbbackup history") from error
