"""`usbbackup find`: which snapshots on which drives hold a file; the drives may lie in a drawer."""

import argparse
import asyncio
from typing import TYPE_CHECKING

from usbbackup.cli.asked import reading
from usbbackup.clock import from_compact_utc, rfc3339
from usbbackup.text import human_bytes, safe

if TYPE_CHECKING:
    from usbbackup.backup.catalogue.database import Seen
    from usbbackup.cli.main import Terminal

HELP = "tell which snapshots hold a file, also on drives that are not plugged in"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to look for."""
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        help="a file's name, or a pattern such as '*.pdf'; with a slash also the directories before it",
    )
    parser.add_argument(
        "--rebuild", action="store_true", help="first note anew what the drives hold that are plugged in"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Ask the catalogue at home."""
    from usbbackup.agent import once, searching

    world = once.here(terminal.env)
    if args.rebuild:

        async def rebuild() -> None:
            async with reading(terminal) as drives:
                await searching.rebuilt(drives, world)

        asyncio.run(rebuild())
    found = searching.found(world, args.pattern)
    if args.json:
        terminal.json([record(one) for one in found])
        return 0
    for one in found:
        _tell(one, terminal)
    if not found:
        terminal.say(f"No snapshot that is known of has '{safe(args.pattern)}'.")
    return 0


def record(one: "Seen") -> dict[str, object]:
    """For scripts."""
    from usbbackup.backup.entry import shown

    return {
        "path": shown(one.path),
        "drive": one.drive,
        "label": one.label,
        "job": one.job,
        "first": one.first,
        "last": one.last,
        "version": one.version,
        "current": one.current,
        "size": one.size,
        "mtime": rfc3339(one.mtime),
    }


def _tell(one: "Seen", terminal: "Terminal") -> None:
    until = "now" if one.current else _day(one.last)
    terminal.say(f"{safe(one.path)}  {human_bytes(one.size)}")
    terminal.say(
        f"    drive '{safe(one.label)}', job {one.job}: {_day(one.first)} to {until}; "
        f"last version {_day(one.version)} ({one.last})"
    )


def _day(snapshot: str) -> str:
    """The local day of a snapshot."""
    time = snapshot.rpartition("@")[2]
    return (rfc3339(from_compact_utc(time)) or time)[:10]
