"""`usbbackup doctor`: what could keep backups from happening, and what mends it."""

import argparse
import sys
from typing import TYPE_CHECKING

from usbbackup.cli import status
from usbbackup.cli.table import table
from usbbackup.errors import ConfigError, Exit

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal
    from usbbackup.install.doctor import Facts

HELP = "look at everything that backups lean on; exits 1 if anything is wrong"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The form of the answer."""
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Look, print, and exit 1 if anything is wrong."""
    from usbbackup.install.checks import CHECKS
    from usbbackup.install.doctor import examine, is_well

    findings = examine(_facts(terminal), CHECKS)
    if args.json:
        terminal.json([finding.record() for finding in findings])
    else:
        rows = [
            (
                (finding.check, finding.state, finding.what),
                None if finding.state == "ok" else _below(finding.why, finding.command),
            )
            for finding in findings
        ]
        table(("CHECK", "STATE", "WHAT"), rows, terminal)
    return Exit.DONE if is_well(findings) else Exit.FAILED


def _below(why: str, command: str | None) -> str:
    return f"{why}: {command}" if command else why


def _facts(terminal: "Terminal") -> "Facts":
    from usbbackup import config
    from usbbackup.config import Config
    from usbbackup.install import units
    from usbbackup.install.doctor import Facts
    from usbbackup.install.place import Place, Service
    from usbbackup.install.tools import SystemTools

    tools, paths = SystemTools(terminal.env, patience=20.0), terminal.paths
    read: Config | ConfigError
    try:
        read = config.load(paths.config_file, paths.home)
    except ConfigError as error:
        read = error
    answer = status.whatever_is_known(terminal)
    return Facts(
        place=Place.of(terminal.env, units.program(sys.argv[0], sys.executable, terminal.env)),
        service=Service.of(tools),
        tools=tools,
        env=terminal.env,
        config=read,
        status=answer["status"],
        troubles=answer["troubles"],
        now=terminal.clock.now(),
    )
