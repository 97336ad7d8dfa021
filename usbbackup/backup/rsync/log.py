"""What rsync says: its progress, its statistics, its complaints, and what its exit code means (rsync(1))."""

import errno
import os
import re
from dataclasses import dataclass, field
from enum import Enum, auto

from usbbackup.programs import Ended
from usbbackup.text import safe

_PROGRESS = re.compile(rb"\s*([\d,.]+)\s+(\d+)%\s")
_CHECKED = re.compile(rb"(?:to|ir)-chk=(\d+)/(\d+)\)")
_STATS = {
    "total_bytes": re.compile(rb"Total file size: ([\d,.]+)"),
    "copied": re.compile(rb"Number of regular files transferred: ([\d,.]+)"),
    "copied_bytes": re.compile(rb"Total transferred file size: ([\d,.]+)"),
}
_VANISHED = re.compile(rb"file has vanished: (.*)")
_DISCARDED = re.compile(rb"(?:WARNING|ERROR): (.*) failed verification -- update discarded")
_TROUBLE = re.compile(rb"rsync: \[(\w+)[^]]*\] (.*): [^:]* \((\d+)\)")
_ATTRIBUTES = re.compile(rb"failed to set |[gs]et_acl|rsync_xal_[gs]et|l?ch(?:own|grp|mod) |[lf]setxattr")
_NOISE = re.compile(
    rb"\s*$|rsync (?:error|warning): |--link-dest arg does not exist|skipping non-regular file|"
    rb"rsync: .*(?:write error: Broken pipe|connection unexpectedly closed|Connection reset)"
)
_DEVICE = b"attempt to copy device contents without --copy-devices"
_ITEM = re.compile(rb"([<>ch.*])([fLDS])\S{9} (.*?)//(?: => (.*))?", re.DOTALL)
_ESCAPED = re.compile(rb"\\#([0-3][0-7]{2})")

FULL = frozenset((errno.ENOSPC, errno.EDQUOT))
_DRIVE = frozenset((errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.EUCLEAN))
_ONE_NAME = frozenset((errno.EILSEQ, errno.EINVAL, errno.ENAMETOOLONG, errno.EFBIG, errno.EOPNOTSUPP))
_CHANGED = frozenset((errno.ENOENT, errno.ENODATA, errno.EISDIR, errno.ENOTDIR, errno.ELOOP))
_KEPT = 1000  # complaints that are kept by name


class Kind(Enum):
    """What a complaint means for the snapshot."""

    NOISE = auto()  # nothing, or another line says it better
    CHANGED = auto()  # one name vanished or changed while it was read
    MISSED = auto()  # one name is not there as it should be
    FATAL = auto()  # it is worth nothing


@dataclass(frozen=True)
class Complaint:
    """One line of rsync's standard error."""

    kind: Kind
    about: str  # safe to show
    errno: int = 0


@dataclass(frozen=True)
class Moved:
    """How far the transfer is."""

    bytes: int
    percent: float
    total: int | None = None  # bytes, roughly, once one per cent is done


@dataclass
class Account:
    """What was heard of one rsync."""

    total_bytes: int | None = None  # of everything on the list
    copied: int | None = None  # regular files
    copied_bytes: int | None = None
    moved: Moved = Moved(0, 0.0)
    complaints: dict[Kind, list[Complaint]] = field(default_factory=lambda: {kind: [] for kind in Kind})
    missed: int = 0  # how many were missed; the list has the first thousand
    differing: list[bytes] = field(default_factory=list)  # where they were itemized

    def out(self, line: bytes) -> Moved | None:
        """One line of its standard output."""
        if (moved := progress(line)) is not None:
            self.moved = moved
            return moved
        for name, pattern in _STATS.items():
            if (found := pattern.match(line)) is not None:
                setattr(self, name, _number(found[1]))
        self.differing.extend(item(line))
        return None

    def err(self, line: bytes) -> None:
        """One line of its standard error."""
        heard = complaint(line)
        self.missed += heard.kind is Kind.MISSED
        if len(same := self.complaints[heard.kind]) < _KEPT:
            same.append(heard)

    def lines(self, kind: Kind) -> tuple[str, ...]:
        """The complaints of one kind, as sentences, each once."""
        return tuple(dict.fromkeys(heard.about for heard in self.complaints[kind]))


def progress(line: bytes) -> Moved | None:
    """A line of `--info=progress2`: by bytes or by entries, whichever share is larger.

    The bytes of files that did not change are never copied, one large file is a single entry.

    >>> progress(b"      1,238,099  52%    1.2MB/s    0:00:10 (xfr#5, to-chk=100/400)")
    Moved(bytes=1238099, percent=75.0, total=2380959)
    >>> progress(b"Total file size: 12 bytes")
    """
    if (found := _PROGRESS.match(line)) is None:
        return None
    copied, share = _number(found[1]), int(found[2])
    checked = _CHECKED.search(line)
    left, entries = (int(checked[1]), int(checked[2])) if checked else (1, 1)
    by_entries = 100.0 * (1 - left / entries) if left <= entries != 0 else 0.0
    return Moved(copied, max(by_entries, min(float(share), 100.0)), copied * 100 // share if share else None)


def item(line: bytes) -> tuple[bytes, ...]:
    """The entries, no directories, that a line of `--out-format="%i %n//%L"` names as different.

    Two where one became another name of the other.

    >>> item(b".f...p..... d/a\\\\#012b//"), item(b"hf+++++++++ c// => a"), item(b".d..t...... d///")
    ((b'd/a\\nb',), (b'c', b'a'), ())
    """
    if (found := _ITEM.match(line)) is None:
        return ()
    names = (found[3], found[4]) if found[1] == b"h" and found[4] else (found[3],)
    return tuple(_plain(name) for name in names)


def complaint(line: bytes) -> Complaint:
    """What a line of rsync's standard error means for the snapshot.

    >>> complaint(b'rsync: [sender] send_files failed to open "/a/b": Permission denied (13)').about
    '/a/b: Permission denied'
    """
    if _NOISE.match(line):
        return Complaint(Kind.NOISE, safe(line))
    if (found := _VANISHED.match(line) or _DISCARDED.match(line)) is not None:
        return Complaint(Kind.CHANGED, f"{_name(found[1])}: vanished or changed while it was read")
    if line == _DEVICE:
        return Complaint(Kind.FATAL, "a file became a device while it was to be copied")
    if (found := _TROUBLE.match(line)) is None:
        return Complaint(Kind.FATAL, safe(line))
    sender, number = found[1].lower() == b"sender", int(found[3])
    name, why = _name(found[2]), os.strerror(number)
    match found[2]:
        case _ if sender and number in _CHANGED:
            return Complaint(Kind.CHANGED, f"{name}: vanished or changed while it was read", number)
        case _ if sender and number != errno.ENOMEM:
            return Complaint(Kind.MISSED, f"{name}: {why}", number)
        case what if _ATTRIBUTES.match(what) and number not in _DRIVE:
            return Complaint(Kind.MISSED, f"{name}: kept without all of its attributes: {why}", number)
        case _ if number in _ONE_NAME:
            return Complaint(Kind.MISSED, f"{name}: the drive cannot hold it: {why}", number)
        case what:
            return Complaint(Kind.FATAL, f"{safe(what)}: {why}", number)


def _name(what: bytes) -> str:
    """The name in a complaint: quoted, with control characters as `\\#ooo`."""
    quoted = re.search(rb'"(.*?)(?:","[^"]*)?"[^"]*$', what, re.DOTALL)
    return safe(_plain(quoted[1] if quoted else what))


def _plain(name: bytes) -> bytes:
    """A name as rsync prints it with --8-bit-output, its control characters as `\\#ooo`."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), name)


def _number(digits: bytes) -> int:
    return int(re.sub(rb"\D", b"", digits) or b"0")


def unfit(ended: Ended, account: Account) -> str | None:
    """Why what rsync made must not be published, for a sentence; None where it may."""
    if ended.waited:
        return "a file became a pipe while it was to be copied, and rsync waited for somebody to write to it"
    fatal = account.complaints[Kind.FATAL]
    match ended.code:
        case 0 | 24:  # 24: some files vanished
            return None
        case 23 if not fatal:  # some entries were missed, and which ones is known
            return None
        case _:
            words = [heard.about for heard in fatal] or ended.last_words
            return f"rsync {ended.how}" + (f": {words[0]}" if words else "")


def is_full(account: Account) -> bool:
    """Did it end for want of room?"""
    return any(heard.errno in FULL for heard in account.complaints[Kind.FATAL])
