"""`usbbackup recover-home`: the files of an encrypted home, out of a backup of it."""

import argparse
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from usbbackup.cli.asked import reading
from usbbackup.cli.shown import SNAPSHOT
from usbbackup.clock import rfc3339
from usbbackup.errors import Exit, UsageError, UsbbackupError
from usbbackup.text import human_bytes, safe

if TYPE_CHECKING:
    from usbbackup.agent.recovering import Source
    from usbbackup.cli.main import Terminal
    from usbbackup.ecryptfs.home import EncryptedHome
    from usbbackup.ecryptfs.listing import Damaged, Listed
    from usbbackup.ecryptfs.lower import Note, Wanted
    from usbbackup.ecryptfs.passphrase import Keys
    from usbbackup.ecryptfs.recovery import Tally

HELP = "recover the files of an encrypted home (eCryptfs), without its kernel module and without root"

_SHOWN = 20  # damaged entries that are told; the list in the directory has all
_OFTEN = 0.2  # seconds from one report of progress to the next
_TRIES = 3  # of somebody at a terminal
_TYPES = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Of what, where to, and what opens it."""
    parser.add_argument(
        "source",
        metavar="SNAPSHOT|DIR",
        help=f"{SNAPSHOT}; or a mounted drive, or whatever directory holds the home",
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="only this, as seen from the home; left out: everything"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--to", type=Path, metavar="DIR", help="write to this directory; made where it is missing"
    )
    what.add_argument("--list", action="store_true", help="tell what there is, write nothing")
    parser.add_argument("--user", metavar="NAME", help="whose home, where there are several")
    parser.add_argument(
        "--mount-passphrase",
        action="store_true",
        help="the passphrase is the mount passphrase (32 characters), not the login passphrase",
    )
    parser.add_argument(
        "--passcommand",
        metavar="CMD",
        help="prints the passphrase; left out: it is asked for, or read from standard input",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Find the home, open it, list or recover it."""
    from usbbackup.ecryptfs import aes, directory

    aes.require()
    with _source(args, terminal) as source:
        part = directory.wanted(args.paths, source.home.mount_point)
        keys = _unlocked(source.home, args, terminal)
        if args.list:
            return _list(source, source.listed(keys, part), args.json, terminal)
        tally = _recovered(source, keys, part, args, terminal)
    if args.json:
        terminal.json(record(source, args.to, tally))
    else:
        _tell(source, args.to, tally, terminal)
    return Exit.FAILED if tally.damaged or source.notes else Exit.DONE


@contextmanager
def _source(args: argparse.Namespace, terminal: "Terminal") -> Iterator["Source"]:
    """What is meant: a directory where there is one of that name, else a snapshot."""
    from usbbackup.agent.recovering import in_directory, in_snapshot
    from usbbackup.backup.naming import Wish

    if Path(args.source).exists() or "/" in args.source:
        yield in_directory(Path(args.source), args.user)
    else:
        with in_snapshot(reading(terminal), Wish.of(args.source), args.user) as source:
            yield source


def _recovered(
    source: "Source", keys: "Keys", part: "Wanted", args: argparse.Namespace, terminal: "Terminal"
) -> "Tally":
    from usbbackup.ecryptfs import directory

    with _Progress(terminal, source, quiet=args.json) as progress, source.lower(keys, part, args.to) as lower:
        return directory.recovered(lower, args.to, keys, part, progress.tell)


def _unlocked(home: "EncryptedHome", args: argparse.Namespace, terminal: "Terminal") -> "Keys":
    """The keys; somebody who sits at a terminal may mistype."""
    from usbbackup.ecryptfs.passphrase import WrongPassphraseError

    tries = _TRIES if args.passcommand is None and _somebody(terminal) else 1
    while True:
        tries -= 1
        try:
            return home.unlocked(_secret(home, args, terminal), mount=args.mount_passphrase)
        except WrongPassphraseError as error:
            if tries == 0:
                raise
            terminal.complain(error.message, "try again")


def _secret(home: "EncryptedHome", args: argparse.Namespace, terminal: "Terminal") -> bytes:
    """From the command that prints it, from the terminal, or one line of standard input."""
    if args.passcommand is not None:
        return _printed(args.passcommand, terminal)
    if _somebody(terminal):
        from getpass import getpass

        kind = "Mount" if args.mount_passphrase else "Login"
        return os.fsencode(getpass(f"{kind} passphrase of {safe(home.user)}: "))
    line = terminal.stdin.readline() if terminal.stdin is not None else ""
    if not line:
        raise UsageError(
            "there is no passphrase",
            "type it at a terminal, give it as one line of standard input, or use --passcommand",
        )
    return os.fsencode(line.removesuffix("\n"))


def _somebody(terminal: "Terminal") -> bool:
    return terminal.stdin is not None and terminal.stdin.isatty()


def _printed(command: str, terminal: "Terminal") -> bytes:
    import asyncio
    import shlex

    from usbbackup.backup import secret
    from usbbackup.outcome import Stop
    from usbbackup.programs import SystemPrograms

    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise UsageError(f"--passcommand cannot be understood: {error}", "quote it as for a shell") from error
    if not argv:
        raise UsageError("--passcommand names no command")
    programs = SystemPrograms(terminal.clock, terminal.env)
    answer = asyncio.run(secret.ask(argv, programs, terminal.clock, Stop()))
    if isinstance(answer, secret.WaitingForSecret):
        raise UsbbackupError(answer.message, "try the command in a terminal; nothing was written")
    return answer.value


def _list(source: "Source", found: Iterable["Listed | Damaged"], as_json: bool, terminal: "Terminal") -> int:
    """All entries, line by line; a damaged one is told beside them."""
    from usbbackup.ecryptfs.listing import Damaged

    entries: list[dict[str, object]] = []
    damaged: list[Note] = []
    for one in found:
        if isinstance(one, Damaged):
            damaged.append((one.path, one.why))
        elif as_json:
            entries.append(_entry(one))
        else:
            terminal.say(_line(one))
    if as_json:
        terminal.json({"from": safe(str(source)), "entries": entries, "damaged": _damaged(damaged)})
    else:
        _complain(damaged, terminal)
    return Exit.FAILED if damaged else Exit.DONE


def record(source: "Source", to: Path, tally: "Tally") -> dict[str, object]:
    """For scripts."""
    return {
        "from": safe(str(source)),
        "to": safe(str(to)),
        "files": tally.files,
        "directories": tally.folders,
        "already_there": tally.there,
        "bytes": tally.bytes,
        "attributes_lost": tally.bare,
        "damaged": _damaged(tally.damaged),
        "notes": [safe(note) for note in source.notes],
    }


def _damaged(damaged: Sequence["Note"]) -> list[dict[str, str]]:
    return [{"path": safe("/".join(path)), "reason": safe(why)} for path, why in damaged]


def _entry(one: "Listed") -> dict[str, object]:
    """For scripts; what cannot be printed has backslash escapes, in paths and targets alike."""
    return {
        "path": safe("/".join(one.path)),
        "type": _TYPES.get(stat.S_IFMT(one.mode), "other"),
        "mode": f"{stat.S_IMODE(one.mode):04o}",
        "size": one.size,
        "mtime": rfc3339(one.mtime_ns / 1e9),
        "target": safe(one.target) if one.target else None,
    }


def _line(one: "Listed") -> str:
    """For people, much as `ls -l` writes it."""
    leads = f" -> {safe(one.target)}" if one.target else ""
    when = datetime.fromtimestamp(one.mtime_ns // 10**9).astimezone().strftime("%Y-%m-%d %H:%M")
    size = human_bytes(one.size) if stat.S_ISREG(one.mode) and one.size is not None else ""
    return f"{stat.filemode(one.mode)}  {size:>8}  {when}  {safe('/'.join(one.path))}{leads}"


def _tell(source: "Source", to: Path, tally: "Tally", terminal: "Terminal") -> None:
    from usbbackup.ecryptfs import directory

    there = f", {tally.there} of them there already" if tally.there else ""
    terminal.say(f"{tally.files} files ({human_bytes(tally.bytes)} written{there}) are in {safe(str(to))}")
    if tally.bare:
        terminal.complain(
            f"mode, owner, times or attributes of {tally.bare} entries could not be given back",
            "the file system cannot keep them, or they belonged to somebody else; the contents are whole",
        )
    for note in source.notes:
        terminal.complain(safe(note))
    _complain(tally.damaged, terminal, f"all of them are listed in {safe(str(to))}/{directory.DAMAGED}")


def _complain(damaged: Sequence["Note"], terminal: "Terminal", where: str | None = None) -> None:
    if not damaged:
        return
    lines = [f"{safe('/'.join(path))} {safe(why)}" for path, why in damaged[:_SHOWN]]
    more = [f"and {len(damaged) - _SHOWN} more"] if len(damaged) > _SHOWN else []
    terminal.complain(
        f"{len(damaged)} entries could not be recovered, or not as they were:",
        "\n".join([*lines, *more, *([where] if where else [])]),
    )


class _Progress:
    """One line on the terminal that is written over again, where somebody is there to see it."""

    def __init__(self, terminal: "Terminal", source: "Source", *, quiet: bool) -> None:
        self._terminal = terminal
        self._source = source
        self._damaged = 0
        self._shown = not quiet and terminal.err.isatty()
        self._last = 0.0

    def tell(self, tally: "Tally") -> None:
        """How far it is. Raises NotNowError where it is a drive that has left that looks like damage."""
        if len(tally.damaged) != self._damaged:
            self._damaged = len(tally.damaged)
            self._source.check()
        if self._shown and (now := self._terminal.clock.monotonic()) - self._last >= _OFTEN:
            self._last = now
            self._write(f"{tally.files} files, {human_bytes(tally.bytes)}, {len(tally.damaged)} damaged")

    def _write(self, text: str) -> None:
        print(f"\r{text}\x1b[K", end="", file=self._terminal.err, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._last:
            self._write("")
        if kind is KeyboardInterrupt:
            self._terminal.complain("ended; run the same command again, and it goes on from there")
