"""`usbbackup check-config`: is the configuration right?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "check the configuration, or print its JSON Schema"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file and the form of the answer."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="left out: the one in force")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of configurations")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Read it strictly; ConfigError says what is wrong and where."""
    from usbbackup import config

    if args.schema:
        terminal.json(config.schema())
        return 0
    path = args.file or terminal.paths.config_file
    found = config.load(path, terminal.paths.home)
    jobs = [job.name for job in found.jobs]
    if args.json:
        terminal.json(
            {"file": safe(str(path)), "jobs": jobs, "drives": [drive.name for drive in found.drives]}
        )
    else:
        terminal.say(
            f"{safe(str(path))} is right: {len(jobs)} job{'s' * (len(jobs) != 1)} ({', '.join(jobs)})"
        )
    return 0
