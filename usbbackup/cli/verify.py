"""`usbbackup verify`: prove that what the drives hold is what was kept."""

import argparse
import asyncio
from typing import TYPE_CHECKING

from usbbackup.cli.asked import reading
from usbbackup.cli.main import how_many
from usbbackup.cli.shown import SNAPSHOT, D, counted
from usbbackup.errors import Exit
from usbbackup.text import human_bytes

if TYPE_CHECKING:
    from usbbackup.agent.proving import Proven
    from usbbackup.cli.main import Terminal

HELP = "read what is on the drives, and tell what is not as it was kept"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What, and how much of it."""
    parser.add_argument(
        "snapshot", nargs="?", metavar="SNAPSHOT", help=f"{SNAPSHOT}; left out: all there are"
    )
    parser.add_argument("--drive", metavar="D", help=f"only on this drive: {D}")
    parser.add_argument(
        "--sample", type=how_many, metavar="N", help="of rsync jobs read only so many files, chosen at random"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Read it in this process; no agent is needed. Exits with 1 where anything is not as it was kept."""
    found = asyncio.run(_verified(args, terminal))
    if args.json:
        terminal.json([record(one) for one in found])
    else:
        for one in found:
            _tell(one, terminal)
    return Exit.FAILED if any(one.proof.flaws for one in found) else Exit.DONE


async def _verified(args: argparse.Namespace, terminal: "Terminal") -> list["Proven"]:
    from usbbackup.agent.proving import verified
    from usbbackup.backup.naming import Wish

    wish = Wish.of(args.snapshot) if args.snapshot else None
    async with reading(terminal) as drives:
        found = await verified(drives, wish, args.drive, args.sample)
        for trouble in drives.troubles:
            terminal.complain(trouble)
        return found


def record(one: "Proven") -> dict[str, object]:
    """For scripts."""
    from usbbackup.backup.entry import shown

    return {
        "job": one.job,
        "drive": one.drive,
        "snapshots": list(one.snapshots),
        "files": one.proof.files,
        "bytes": one.proof.bytes,
        "unknown": one.proof.unknown,
        "flaws": [
            {
                "path": None if flaw.path is None else shown(b"/" + flaw.path),
                "what": flaw.what,
                "snapshots": list(flaw.snapshots),
            }
            for flaw in one.proof.flaws
        ],
    }


def _tell(one: "Proven", terminal: "Terminal") -> None:
    proof = one.proof
    read = f"{counted(len(one.snapshots), 'snapshot', 'snapshots')} of job '{one.job}'"
    if proof.files:
        sizes = f"{counted(proof.files, 'file', 'files')} ({human_bytes(proof.bytes)})"
        terminal.say(f"{read}: {sizes} read, and as they were kept")
    elif not proof.flaws and not proof.unknown:
        terminal.say(f"{read}: checked, and whole")
    if proof.unknown:
        terminal.say(
            f"{read}: of {counted(proof.unknown, 'file', 'files')} nothing was known to compare with"
        )
    for flaw in proof.flaws:
        terminal.complain(flaw.sentence)
    if proof.flaws:
        terminal.complain(
            f"{counted(len(proof.flaws), 'flaw', 'flaws')} found in job '{one.job}'",
            "back up to another drive, and check this one's cable and health",
        )
