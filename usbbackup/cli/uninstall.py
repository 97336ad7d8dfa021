"""`usbbackup uninstall`: take every trace away that setting up has left, and only those."""

import argparse
import sys
from typing import TYPE_CHECKING

from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "stop the service and remove its units and login hook; nothing on any drive changes"


def arguments(parser: argparse.ArgumentParser) -> None:
    """How much goes."""
    parser.add_argument(
        "--purge",
        action="store_true",
        help="also the configuration, the history, logs, caches and the record of enrolled drives",
    )


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Look, then do it step by step."""
    from usbbackup.install import plan, steps, units
    from usbbackup.install.place import Place, Service
    from usbbackup.install.tools import SystemTools

    tools = SystemTools(terminal.env)
    place = Place.of(terminal.env, units.program(sys.argv[0], sys.executable, terminal.env))
    todo = plan.taking_away(place, Service.of(tools), purge=args.purge)
    for step in todo:
        steps.do(step, tools)
        terminal.say(step.told)
    if not todo:
        terminal.say("there is nothing to take away")
    if place.packaged:
        terminal.say("the program is a package: remove it with: sudo apt remove usbbackup")
    kept = [place.paths.config, place.paths.data, place.paths.state]
    kept = plan.secrets_kept(place) if args.purge else [path for path in kept if path.exists()]
    if kept:
        why = "what opens encrypted backups" if args.purge else "your configuration, enrolments and history"
        terminal.say(f"kept, {why}: {', '.join(safe(str(path)) for path in kept)}")
    return 0
