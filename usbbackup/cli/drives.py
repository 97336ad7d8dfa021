"""`usbbackup drives`: list, enrol, forget and eject drives."""

import argparse
import shlex
import subprocess
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.cli.asked import SHORT, Answer, asked
from usbbackup.cli.talk import Asker, talks
from usbbackup.errors import NotNowError
from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "list drives, enrol one for your backups, forget or eject one"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The four ways to use it."""
    json = argparse.ArgumentParser(add_help=False)
    json.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer in JSON")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs (left out: list)")
    may = "say that a drive may hold your backups"
    enrol = verbs.add_parser("enrol", parents=[json], help=may, description=f"{may.capitalize()}.")
    enrol.add_argument(
        "drive",
        nargs="?",
        metavar="D",
        help=f"{shown.D}; left out: the only unknown drive that is plugged in",
    )
    enrol.add_argument("--read-only", action="store_true", help="only to read backups that are on it")
    back = "take that back; nothing on the drive changes"
    forget = verbs.add_parser("forget", parents=[json], help=back, description=f"{back.capitalize()}.")
    forget.add_argument("drive", metavar="D", help=f"{shown.D}; it need not be plugged in")
    safe_to = "make a drive safe to unplug: unmount it, lock it, switch it off; nothing is done by force"
    eject = verbs.add_parser("eject", parents=[json], help=safe_to, description=f"{safe_to.capitalize()}.")
    eject.add_argument("drive", metavar="D", help=shown.D)


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """List, enrol, forget or eject."""
    match args.verb:
        case "enrol":
            enrol(terminal, args.drive, read_only=args.read_only, as_json=args.json)
        case "forget":
            _forget(args, terminal)
        case "eject":
            _eject(args, terminal)
        case _:
            drives = asked(terminal, "Drives", SHORT)["drives"]
            terminal.json(drives) if args.json else shown.drives(drives, terminal)
    return 0


def enrol(terminal: "Terminal", word: str | None, *, read_only: bool = False, as_json: bool = False) -> None:
    """Enrol a drive and say so; offers to run what root must do first. Raises NotNowError."""
    wish = {"drive": word, "read_only": read_only}
    made = asked(terminal, "Enrol", **wish)
    if made["command"] and not as_json and _has_run(made, terminal):
        made = asked(terminal, "Enrol", **wish)
    if made["message"]:
        raise NotNowError(safe(made["message"]), made["hint"] and safe(made["hint"]))
    drive = made["drive"]
    if as_json:
        terminal.json(drive)
        return
    what = "be read from now on" if read_only else "hold your backups from now on"
    terminal.say(f"{_called(drive)} may {what}")
    for limit in made["limits"]:
        terminal.say(safe(limit))


def _forget(args: argparse.Namespace, terminal: "Terminal") -> None:
    drive = asked(terminal, "Forget", drive=args.drive)["drive"]
    if args.json:
        terminal.json(drive)
    else:
        terminal.say(f"{_called(drive)} is forgotten; its backups stay on it, no more are written")


def _eject(args: argparse.Namespace, terminal: "Terminal") -> None:
    made = asked(terminal, "Eject", drive=args.drive)
    if args.json:
        terminal.json(made["drive"])
    else:
        terminal.say(f"{_called(made['drive'])}: {safe(made['message'])}")


def _called(drive: Answer) -> str:
    return f"the drive '{safe(drive['label'] or drive['name'])}' ({safe(drive['uuid'])})"


def _has_run(made: Answer, terminal: "Terminal") -> bool:
    """Offer to run the one command that root must run on a fresh drive; never without being asked."""
    if not talks(terminal):
        return False
    terminal.say(safe(made["message"]))
    terminal.say(f"This has to be run once:  {safe(shlex.join(made['command']))}")
    if not Asker(terminal).agrees("Run it now?", default=False):
        return False
    try:
        return subprocess.run(made["command"], check=False).returncode == 0
    except OSError as error:
        terminal.complain(f"{safe(made['command'][0])} cannot be run: {error.strerror}")
        return False
