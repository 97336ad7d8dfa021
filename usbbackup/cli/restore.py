"""`usbbackup restore`: give files back."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbbackup.cli.asked import confirmed, reading
from usbbackup.cli.progress import bar
from usbbackup.cli.shown import SNAPSHOT, counted
from usbbackup.errors import Exit, UsageError
from usbbackup.text import human_bytes, safe

if TYPE_CHECKING:
    from usbbackup.agent.giving_back import Given, Order
    from usbbackup.backup.entry import Entry
    from usbbackup.cli.main import Terminal

HELP = "give files back from a snapshot"
_SHOWN = 20  # paths in a list for people


def arguments(parser: argparse.ArgumentParser) -> None:
    """What, and where to."""
    parser.add_argument("snapshot", nargs="?", metavar="SNAPSHOT", help=f"{SNAPSHOT}; left out with --as-of")
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="absolute, or as it is in the snapshot; left out: everything"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--to", metavar="DIR", help="make DIR/<the whole original path>; DIR is made where it is missing"
    )
    where.add_argument("--in-place", action="store_true", help="restore to where it was")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="also what is there now and differs; shows first what would change, and asks on a terminal",
    )
    parser.add_argument(
        "--as-of", metavar="TIME", help="the latest snapshot that is not younger: 2026-11-01, or with a time"
    )
    parser.add_argument("--job", metavar="JOB", help="with --as-of or latest: of this job")
    parser.add_argument("--json", action="store_true", help="answer in JSON, and ask nothing")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Restore from the drive; no agent is needed."""
    try:
        given = asyncio.run(_given(_order(args), args, terminal))
    except KeyboardInterrupt:
        terminal.complain("ended; run the same command again, and it goes on from there")
        raise
    if given.restored is None:
        terminal.complain("nothing was changed")
        return Exit.FAILED
    if args.json:
        terminal.json(record(given))
    else:
        _tell(given, terminal)
    return Exit.DONE if given.restored.whole else Exit.FAILED


def _order(args: argparse.Namespace) -> "Order":
    from usbbackup.agent.giving_back import Order
    from usbbackup.backup.naming import Wish, moment

    if args.as_of is not None:
        paths = [word for word in (args.snapshot, *args.paths) if word is not None]
        wish = Wish(job=args.job, as_of=moment(args.as_of))
    elif args.snapshot is None:
        raise UsageError("which snapshot? Name one, or a time with --as-of", "see: usbbackup snapshots")
    else:
        paths, wish = args.paths, Wish.of(args.snapshot)
    to = None if args.in_place else Path(args.to)
    return Order(wish, paths, to, args.overwrite, args.job)


async def _given(order: "Order", args: argparse.Namespace, terminal: "Terminal") -> "Given":
    from usbbackup.agent.giving_back import give_back

    def agree(replaced: Sequence["Entry"]) -> bool:
        if args.json or not replaced:
            return True
        terminal.say(f"{counted(len(replaced), 'entry', 'entries')} would be replaced:")
        for entry in replaced[:_SHOWN]:
            terminal.say(f"  /{safe(entry.path)}")
        if len(replaced) > _SHOWN:
            terminal.say(f"  and {len(replaced) - _SHOWN} more")
        return confirmed("Replace them?", terminal)

    async with reading(terminal) as drives:
        with bar("restoring", terminal, quiet=args.json) as begin:
            return await give_back(drives, order, agree, begin)


def record(given: "Given") -> dict[str, object]:
    """For scripts."""
    from usbbackup.backup.entry import shown

    done = given.restored
    assert done is not None  # noqa: S101 - asked only of what was done
    return {
        "snapshot": given.held.candidate.snapshot.snapshot,
        "drive": given.held.candidate.uuid,
        "to": str(given.to),
        "restored": done.made,
        "replaced": done.replaced,
        "unchanged": done.same,
        "bytes": done.bytes,
        "kept": [shown(b"/" + path) for path in done.kept],
        "notes": done.notes,
    }


def _tell(given: "Given", terminal: "Terminal") -> None:
    done = given.restored
    assert done is not None  # noqa: S101 - as above
    snapshot, where = given.held.candidate.snapshot.snapshot, safe(str(given.to))
    terminal.say(
        f"{counted(done.made + done.replaced, 'entry', 'entries')} ({human_bytes(done.bytes)}) "
        f"restored from {snapshot} to {where}"
    )
    if done.replaced:
        terminal.say(f"{done.replaced} of them replaced what was there")
    if done.same:
        terminal.say(f"{counted(done.same, 'entry was', 'entries were')} there already")
    if done.kept:
        terminal.complain(
            f"{counted(len(done.kept), 'entry', 'entries')} not restored: something else is there",
            "\n".join(
                [f"/{safe(path)}" for path in done.kept[:_SHOWN]]
                + ["--overwrite replaces files; a directory is never replaced"]
            ),
        )
    for note in done.notes:
        terminal.complain(note)
