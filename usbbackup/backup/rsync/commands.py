"""What rsync is asked: argument lists and lists of names, made by pure functions.

rsync runs in the job's directory on the drive, and its destination is relative to that: a path through
`/proc/.../fd` is not safe, rsync 3.5.0 has been seen to write into `/` when the drive behind it was detached.
It gets names (name_list), and no filters for them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from usbbackup.backup.fitness import Fitness
from usbbackup.backup.rsync import name_list
from usbbackup.backup.walk import Group, inside

PACKAGE = "rsync"
PROGRAM: tuple[bytes, ...] = (
    b"rsync",
    b"--files-from=-",
    b"--from0",
    b"--ignore-missing-args",  # what vanishes between the walk and the copy is no error
    b"--force",  # a file where a directory was
    b"--numeric-ids",
    b"--no-human-readable",
    b"--8-bit-output",  # without it long names are escaped in a way that cannot be undone
    b"--outbuf=L",
)
TELLS_PROGRESS = (b"--info=progress2,stats2,name0",)
# XFS shows root each access control list once more, as an attribute: where the source has none of that name
# rsync would remove it, and the list with it. Who filters attributes filters `system.` too (rsync(1), -X).
_ROOTS_ATTRIBUTES = (b"--filter=-x system.*", b"--filter=-x trusted.SGI_ACL_*")
_ROOT = os.geteuid() == 0
_NAMES_CHANGES = (b"--dry-run", b"--out-format=%i %n//%L")  # no path of rsync's has two slashes side by side


@dataclass(frozen=True)
class Copy:
    """One rsync: from `base` to the same place below `to`, a folder in the job's directory."""

    base: bytes  # absolute
    to: str
    links: tuple[str, ...] = ()  # folders like `to`: what did not change since becomes a hard link to theirs
    by_content: bool = False  # size and time prove nothing: compare checksums
    anew: bool = False  # nothing proves anything: copy all of it; without `by_content`, which prevails
    dry: bool = False
    itemized: bool = False  # dry, and every entry that differs is named: rsync_log.item


def copy(what: Copy, fitness: Fitness) -> tuple[bytes, ...]:
    """The argument list that fills a stage.

    >>> copy(Copy(b"/home/d", "incomplete-T", ("snapshots/S",)), Fitness())[-3:]
    (b'--link-dest=../../../snapshots/S/home/d', b'/home/d/', b'incomplete-T/home/d/')
    """
    below = what.base.strip(b"/")
    up = b"../" * len((os.fsencode(what.to) + b"/" + below).rstrip(b"/").split(b"/"))
    return (
        *PROGRAM,
        *(_NAMES_CHANGES if what.itemized else TELLS_PROGRESS),
        *kept(fitness),
        *((b"--checksum",) if what.by_content else ()),
        *((b"--ignore-times",) if what.anew else ()),
        *((b"--dry-run",) if what.dry else ()),
        *(b"--link-dest=" + up + _joined(folder, below) for folder in what.links),
        inside(what.base),
        inside(_joined(what.to, below)),
    )


def _joined(folder: str, below: bytes) -> bytes:
    return os.fsencode(folder) + (b"/" + below if below else b"")


def kept(fitness: Fitness, *, root: bool = _ROOT) -> tuple[bytes, ...]:
    """As in `-aHAX` without its `-r`, less what the drive cannot keep.

    >>> kept(Fitness(), root=False)
    (b'-tlDHpogXA', b'--modify-window=-1')
    """
    letters = (
        (b"t", True),
        (b"l", fitness.symlinks),
        (b"D", fitness.fifos),
        (b"H", fitness.hard_links),
        (b"p", fitness.modes),
        (b"og", fitness.owners),
        (b"X", fitness.xattrs),
        (b"A", fitness.acls),
    )
    flags = b"-" + b"".join(letter for letter, kept in letters if kept)
    names = _ROOTS_ATTRIBUTES if root and fitness.xattrs else ()
    return flags, b"--modify-window=%d" % fitness.window, *names


def common(places: Sequence[tuple[bytes, bool]]) -> bytes:
    """The directory that all sources have in common; each is a path, and whether it is a directory.

    >>> common([(b"/home/d", True)]), common([(b"/home/d", True), (b"/home/e", True)])
    (b'/home/d', b'/home')
    >>> common([(b"/home/d/file", False)]), common([(b"/file", False)])
    (b'/home/d', b'/')
    """
    return os.path.commonpath(
        [path if directory else path.rpartition(b"/")[0] or b"/" for path, directory in places]
    )


def named(group: Group, base: bytes) -> bytes:
    """The part of the list for `copy` that one directory makes: every line ends with a NUL.

    >>> named(Group(b"/s", [b"/s/f"]), b"/s"), named(Group(b"/s/d", [b"/s/d/f"], whole=True), b"/s")
    (b'/f\\x00', b'/d/\\x00')
    """
    start = len(inside(base))
    own = b"" if group.directory is None else group.directory
    if group.whole:
        return name_list.whole(own, start) + b"\0"
    lines = (name_list.single(path, start) for path in (own, *group.names))
    return b"".join([b"%b\0" % line for line in lines if line is not None])


def above(base: bytes) -> bytes:
    """What no list for `copy` can name: `base` and the directories above it, each ended by a NUL.

    >>> above(b"/home/d"), above(b"/")
    (b'/home\\x00/home/d\\x00', b'')
    """
    parts = base.rstrip(b"/").split(b"/")
    return b"".join(b"/".join(parts[:depth]) + b"\0" for depth in range(2, len(parts) + 1))
