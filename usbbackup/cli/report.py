"""`usbbackup report`: drives, ages, sizes over time and outcomes by day, as one HTML page."""

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from usbbackup.cli.status import whatever_is_known
from usbbackup.errors import UsbbackupError
from usbbackup.files import write_atomically
from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal
    from usbbackup.history import RunRecord

HELP = "write one HTML page that shows drives, jobs, outcomes and sizes over time"
RUNS = 5000  # that are looked at


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where it goes."""
    parser.add_argument("--output", metavar="FILE", help="write it there; left out: to standard output")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Gather, draw, write. Raises UsbbackupError where the library for pictures is missing."""
    try:
        from usbbackup.cli.page import page
    except ModuleNotFoundError as error:
        if error.name != "svg":
            raise
        hint = "install it: pipx inject usbbackup svg.py"
        raise UsbbackupError("the library svg.py is not installed, which draws the report", hint) from None
    answer = whatever_is_known(terminal)
    for trouble in answer["troubles"]:
        terminal.complain(safe(trouble))
    html = page(answer["status"], _runs(terminal), terminal.clock.now())
    if args.output is None:
        terminal.say(html.rstrip("\n"))
        return 0
    try:
        write_atomically(Path(args.output), html.encode("utf-8", "backslashreplace"), mode=0o600)
    except OSError as error:
        raise UsbbackupError(f"{safe(args.output)} cannot be written: {error.strerror}") from error
    terminal.say(f"written to {safe(args.output)}")
    return 0


def _runs(terminal: "Terminal") -> "list[RunRecord]":
    """The latest runs, newest first; none where there is no history to read."""
    from usbbackup.history import History, HistoryError

    try:
        with closing(History.open(terminal.paths.history_db, terminal.clock, readonly=True)) as history:
            return history.runs(RUNS)
    except HistoryError as error:
        terminal.complain(error.message)
        return []
