"""`usbbackup start`: run now, whether due or not."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.cli.asked import Answer, reached
from usbbackup.errors import NoAgentError, NotNowError
from usbbackup.outcome import Outcome
from usbbackup.text import safe
from usbbackup.varlink import PATIENCE

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal
    from usbbackup.varlink import Client

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
    parser.add_argument("--drive", metavar="D", help=f"only this drive: {shown.D}")
    parser.add_argument(
        "--wait", action="store_true", help="wait for the end, exit with the worst outcome's code"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="tell what would be copied, write nothing; waits for the end"
    )
    parser.add_argument(
        "--accept-source",
        action="store_true",
        help="a source that is much smaller or elsewhere than last time is meant to be so",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document a line for each event")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask the agent; without one do the work here."""
    wanted = {
        "jobs": args.jobs,
        "drive": args.drive,
        "accept_source": args.accept_source,
        "dry_run": args.dry_run,
        "wait": args.wait or args.dry_run,
    }
    agent = reached(terminal)
    began = False
    try:
        with shown.telling(terminal, as_json=args.json, waits=wanted["wait"] or agent is None) as teller:
            try:
                _here(wanted, teller, terminal) if agent is None else _there(agent, wanted, teller)
            finally:
                began = teller.began
    except KeyboardInterrupt:
        if began:
            terminal.complain(_ENDED if agent is None else _GOES_ON)
        raise
    return max(teller.outcomes, key=WORSE.index).exit_code if teller.outcomes else 0


_ENDED = "the backup was ended; the next one goes on from there"
_GOES_ON = "the backup goes on; `usbbackup watch` shows it, `usbbackup cancel` ends it"


def _here(wanted: Answer, teller: shown.Teller, terminal: "Terminal") -> None:
    from usbbackup.agent import daemon, once

    world = daemon.real_world(terminal.env)
    teller.remark("no agent runs: the work is done by this command")
    for sentence in once.runs(world, wanted, teller.tell):
        teller.remark(safe(sentence))


def _there(agent: "Client", wanted: Answer, teller: shown.Teller) -> None:
    with agent:
        answered(agent.call_more("Start", PATIENCE, **wanted), teller)
    if not wanted["wait"]:
        teller.remark("it goes on by itself: `usbbackup watch` shows how far it is")


def answered(answers: Iterable[Answer], teller: shown.Teller) -> None:
    """Pass events on; an agent that ends meanwhile is told as what it is."""
    try:
        for answer in answers:
            teller.tell(answer["event"])
    except NoAgentError as error:
        if not teller.began:
            raise
        raise NotNowError("the agent ended while the backup ran", "see: usbbackup history") from error
