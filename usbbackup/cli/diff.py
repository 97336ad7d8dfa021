"""`usbbackup diff`: what is different between two snapshots."""

import argparse
import asyncio
from typing import TYPE_CHECKING

from usbbackup.cli import entries
from usbbackup.cli.asked import reading
from usbbackup.cli.shown import SNAPSHOT, counted
from usbbackup.clock import rfc3339
from usbbackup.text import human_bytes, safe

if TYPE_CHECKING:
    from usbbackup.backup.difference import Changed
    from usbbackup.cli.main import Terminal

HELP = "tell what is different between two snapshots"
_SIGNS = {"added": "+", "removed": "-", "content": "M", "metadata": "m", "kind": "T"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which two."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", help=SNAPSHOT)
    parser.add_argument(
        "other",
        nargs="?",
        metavar="SNAPSHOT",
        help="the later one; left out: the first against the one before it",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Read both from their drives; no agent is needed."""
    found = asyncio.run(_compared(args, terminal))
    if args.json:
        terminal.json([record(changed) for changed in found])
        return 0
    for changed in found:
        entry = changed.entry
        size = human_bytes(entry.size) if entry.kind == "file" else ""
        terminal.say(f"{_SIGNS[changed.change]}  {size:>8}  /{safe(entry.path)}")
    words = ", ".join(
        f"{sum(changed.change == change for changed in found)} {sign} {change}"
        for change, sign in _SIGNS.items()
    )
    terminal.say(f"{counted(len(found), 'entry differs', 'entries differ')} ({words})")
    return 0


async def _compared(args: argparse.Namespace, terminal: "Terminal") -> list["Changed"]:
    from usbbackup.backup.naming import Wish

    async with reading(terminal) as drives:
        return await drives.difference(Wish.of(args.snapshot), Wish.of(args.other) if args.other else None)


def record(changed: "Changed") -> dict[str, object]:
    """For scripts: the entry as it is now, or was last, and what it was before."""
    old = changed.old
    return entries.record(changed.entry) | {
        "change": str(changed.change),
        "old_type": str(old.kind) if old else None,
        "old_size": old.size if old else None,
        "old_mtime": rfc3339(old.mtime_ns / 1e9) if old else None,
    }
