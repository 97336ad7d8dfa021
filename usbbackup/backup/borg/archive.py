"""A borg archive, opened: its entries to the byte and the nanosecond, single files, exact copies."""

import hashlib
import json
import stat
from collections.abc import Callable, Sequence
from typing import Any

from usbbackup.backup.borg import commands
from usbbackup.backup.borg.log import Moved as BorgMoved
from usbbackup.backup.borg.session import Answer, Session
from usbbackup.backup.entry import Entry, Kind, above, hostile, is_below, is_within
from usbbackup.backup.opened import Moved, Snapshot, untouched
from usbbackup.errors import NotNowError, UsbbackupError
from usbbackup.outcome import Stop
from usbbackup.running import Sink
from usbbackup.text import safe

_LARGEST_ENTRY = 1 << 28  # bytes of JSON: the list of a huge file's chunks
_MOST_WORDS = 100_000  # bytes of paths in one command line; the kernel takes more (execve(2))
_NO_ENTRY = "Include pattern"  # of borg's warning about a directory that it gave back, as it was asked


class Archive:
    """See `opened.Opened`."""

    def __init__(self, snapshot: Snapshot, session: Session) -> None:
        self.snapshot = snapshot
        self.session = session

    async def each(self, take: Callable[[Entry], None], below: Sequence[bytes] = ()) -> None:
        """Ask borg for its own account of the archive."""
        leading = {path for top in below for path in above(top)}
        tops = frozenset(below)

        def sort_out(entry: Entry) -> None:
            if not below or entry.path in leading or is_below(entry.path, tops):
                take(entry)

        listing = Listing(sort_out)
        await self._ask(commands.dump(self.snapshot.snapshot), Stop(), on_stdout=listing)
        listing.close()

    async def holding(self, chunks: frozenset[str]) -> list[tuple[bytes, frozenset[str]]]:
        """The paths of files that have some of these pieces, and which; by borg's ids in hexadecimal."""
        found: list[tuple[bytes, frozenset[str]]] = []

        def pick(path: bytes, ids: set[str]) -> None:
            if held := chunks & ids:
                found.append((path, held))

        listing = Listing(lambda entry: None, pick)
        await self._ask(commands.dump(self.snapshot.snapshot), Stop(), on_stdout=listing)
        listing.close()
        return found

    async def read(self, path: bytes, sink: Sink) -> None:
        """Have borg print the file."""
        argv = commands.extract(self.snapshot.snapshot, [], [path], commands.REPOSITORY, stdout=True)
        await self._ask(argv, Stop(), on_stdout=sink)

    def same_content(self, entry: Entry, fd: int) -> bool:
        """Only a file that nobody has touched since is known to be the same without extracting it."""
        return untouched(self.snapshot, fd)

    async def copy(
        self,
        paths: Sequence[bytes],
        into: int,
        *,
        alone: Sequence[bytes] = (),
        stop: Stop | None = None,
        moved: Moved = lambda _: None,
    ) -> tuple[str, ...]:
        """Have borg extract them; the kernel holds it to `into` (Landlock)."""
        leading = dict.fromkeys(path for top in (*paths, *alone) for path in above(top))
        argv = commands.extract(
            self.snapshot.snapshot, _few(paths), _few([*leading, *alone]), self.session.elsewhere
        )
        answer = await self._ask(argv, stop or Stop(), into=into, on_moved=lambda now: moved(now.bytes))
        return tuple(line for line in answer.account.unread if not line.startswith(f"borg: {_NO_ENTRY}"))

    async def _ask(
        self,
        argv: tuple[str | bytes, ...],
        stop: Stop,
        *,
        on_stdout: Sink | None = None,
        into: int | None = None,
        on_moved: Callable[[BorgMoved], None] = lambda _: None,
    ) -> Answer:
        answer = await self.session.ask(
            argv, stop, as_new=True, on_stdout=on_stdout, into=into, moved=on_moved
        )
        if stop:
            raise NotNowError(stop.message)
        if not answer.good:
            raise UsbbackupError(*await self.session.trouble(answer, stop))
        return answer


def _few(paths: Sequence[bytes]) -> list[bytes]:
    """As many paths as fit on a command line: where they are too many, directories that hold them."""
    few = list(dict.fromkeys(paths))
    while sum(map(len, few)) > _MOST_WORDS and any(b"/" in path for path in few):
        few = list(dict.fromkeys(path.rpartition(b"/")[0] or path for path in few))
    return few


class Listing:
    """Reads what `borg debug dump-archive` prints, as it comes: entries, one JSON object after the other.

    Each stands at its own lines, indented by four blanks; borg's texts hold no newline.
    """

    def __init__(
        self,
        take: Callable[[Entry], None],
        pieces: Callable[[bytes, set[str]], None] = lambda path, ids: None,
    ) -> None:
        """`pieces` is told the ids of the chunks of each file, in hexadecimal digits."""
        self._take = take
        self._pieces = pieces
        self._rest = b""
        self._within = False
        self._lines: list[bytes] | None = None
        self._size = 0
        self._masters: dict[str, tuple[int, bytes, int]] = {}
        self._ended = False

    def __call__(self, chunk: bytes) -> None:
        """Take the next piece of it; raises UsbbackupError where it is something else."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """Raises UsbbackupError where the end is missing."""
        if not self._ended:
            raise _unreadable()

    def _line(self, line: bytes) -> None:
        match line:
            case b'    "_items": [' if not self._within:
                self._within = True
            case b"    {" if self._within:
                self._lines = [b"{"]
            case b"    }" | b"    }," if self._lines is not None:
                self._finish(self._lines)
                self._lines, self._size = None, 0
            case b"    ]" if self._within:
                self._ended = True
            case _ if self._lines is not None:
                self._size += len(line)
                if self._size > _LARGEST_ENTRY:
                    raise _unreadable()
                self._lines.append(line)

    def _finish(self, lines: list[bytes]) -> None:
        try:
            item = json.loads(b"\n".join((*lines, b"}")))
            self._take(self._entry(item))
            ids = {str(chunk[0]).removeprefix("\x7f") for chunk in item.get("chunks") or ()}
            self._pieces(_bytes(item["path"]), ids)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _unreadable(repr(error)) from error

    def _entry(self, item: dict[str, Any]) -> Entry:
        mode, source = int(item["mode"]), item.get("source")
        kind = Kind.of(mode)
        size, content, room = _contents(item)
        node = b""
        if kind is not Kind.SYMLINK and source is not None:
            size, content, room = self._masters.get(source, (size, content, 0))
            node = _bytes(source)
            if not is_within(node):  # borg would make it another name of a file that lies elsewhere
                raise hostile(node)
        elif item.get("hardlink_master"):
            node = _bytes(item["path"])
            self._masters[item["path"]] = size, content, room
        return Entry(
            _bytes(item["path"]),
            kind,
            stat.S_IMODE(mode),
            int(item["uid"]),
            int(item["gid"]),
            size if kind is Kind.FILE else 0,
            int(item["mtime"]),
            _bytes(source or "") if kind is Kind.SYMLINK else b"",
            node,
            content if kind is Kind.FILE else b"",
            room if kind is Kind.FILE else 0,
        )


def _contents(item: dict[str, Any]) -> tuple[int, bytes, int]:
    """Size, what tells the content from others, and bytes without the pieces that are in it twice."""
    chunks = item.get("chunks") or []
    digest = hashlib.blake2b("".join(str(chunk[0]) for chunk in chunks).encode(), digest_size=16)
    sizes = {str(chunk[0]): int(chunk[1]) for chunk in chunks}
    return (
        int(item.get("size") or sum(int(chunk[1]) for chunk in chunks)),
        digest.digest(),
        sum(sizes.values()),
    )


def _bytes(text: str) -> bytes:
    """A text of borg's account: plain where it is UTF-8, else DEL and hexadecimal digits.

    >>> _bytes("a"), _bytes(chr(127) + "ff")
    (b'a', b'\\xff')
    """
    return bytes.fromhex(text[1:]) if text.startswith("\x7f") else text.encode()


def _unreadable(why: str = "it ends too early") -> UsbbackupError:
    return UsbbackupError(
        f"what borg says of the snapshot cannot be read: {safe(why)}",
        "use borg itself meanwhile, as README.txt on the drive says",
    )
