"""`usbbackup ls`: what a snapshot holds."""

import argparse
import asyncio
from typing import TYPE_CHECKING

from usbbackup.cli import entries
from usbbackup.cli.asked import reading
from usbbackup.cli.shown import SNAPSHOT

if TYPE_CHECKING:
    from usbbackup.backup.entry import Entry
    from usbbackup.cli.main import Terminal

HELP = "list what a snapshot holds"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which snapshot, and what of it."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help=SNAPSHOT)
    parser.add_argument("path", nargs="?", metavar="PATH", help="absolute, or as it is in the snapshot")
    parser.add_argument("--recursive", "-r", action="store_true", help="also what is in its directories")
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Read it from the drive; no agent is needed."""
    found = asyncio.run(_listed(args, terminal))
    if args.json:
        terminal.json([entries.record(entry) for entry in found])
    else:
        for entry in found:
            terminal.say(entries.line(entry))
    return 0


async def _listed(args: argparse.Namespace, terminal: "Terminal") -> list["Entry"]:
    from usbbackup.backup.entry import relative
    from usbbackup.backup.listing import listed
    from usbbackup.backup.naming import Wish

    wish = Wish.of(args.snapshot)
    path = relative(args.path) if args.path else b""
    async with reading(terminal) as drives:
        snapshot = await drives.open(await drives.find(wish))
        return await listed(snapshot, path, recursive=args.recursive)
