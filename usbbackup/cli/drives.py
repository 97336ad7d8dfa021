"""`usbbackup drives`: list, enrol and forget drives."""

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from usbbackup.cli import shown
from usbbackup.errors import NoAgentError, NotNowError
from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "list drives, enrol one for your backups, or forget one"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The four ways to use it."""
    json = argparse.ArgumentParser(add_help=False)
    json.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    verbs = parser.add_subparsers(dest="verb", metavar="")
    enrol = verbs.add_parser("enrol", parents=[json], help="say that a drive may hold your backups")
    enrol.add_argument(
        "drive",
        nargs="?",
        metavar="D",
        help="name, UUID, label, device or mount point; left out: the only unknown drive that is plugged in",
    )
    enrol.add_argument("--read-only", action="store_true", help="only to read backups that are on it")
    forget = verbs.add_parser("forget", parents=[json], help="take that back; nothing on the drive changes")
    forget.add_argument("drive", metavar="D", help="name, UUID, label, device or mount point")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """List, enrol or forget."""
    match args.verb:
        case "enrol":
            _enrol(args, terminal)
        case "forget":
            drive = _ask(terminal, "Forget", drive=args.drive)["drive"]
            said = f"the drive '{drive['name']}' is forgotten; its backups stay on it, no more are written"
            terminal.json(drive) if args.json else terminal.say(said)
        case _:
            drives = _ask(terminal, "Drives")["drives"]
            terminal.json(drives) if args.json else shown.drives(drives, terminal)
    return 0


def _enrol(args: argparse.Namespace, terminal: "Terminal") -> None:
    made = _ask(terminal, "Enrol", drive=args.drive, read_only=args.read_only, adopt=None)["drive"]
    if made["command"] and _may_run(made, terminal):
        made = _ask(terminal, "Enrol", drive=args.drive, read_only=args.read_only, adopt=None)["drive"]
    if made["message"]:
        raise NotNowError(made["message"], made["hint"])
    drive = made["drive"]
    if args.json:
        terminal.json(drive)
    else:
        terminal.say(f"the drive '{drive['name']}' ({drive['uuid']}) may hold your backups from now on")


def _may_run(made: dict[str, Any], terminal: "Terminal") -> bool:
    """Offer to run the one command that root must run on a fresh drive; never without being asked."""
    if not (sys.stdin.isatty() and terminal.out.isatty()):
        return False
    import shlex

    terminal.say(made["message"])
    terminal.say(f"Root has to run once:  {shlex.join(made['command'])}")
    print("Run it now? [y/N] ", end="", file=terminal.out, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        return False
    return subprocess.run(made["command"], check=False).returncode == 0


def _ask(terminal: "Terminal", method: str, **parameters: Any) -> dict[str, Any]:
    try:
        with Client.connect(terminal.paths.socket) as agent:
            answer: dict[str, Any] = agent.call(method, **parameters)
            return answer
    except NoAgentError:
        from usbbackup.agent import once

        return once.drives(terminal.env, method, parameters)
