"""Giving files back: exact copies in a private directory beside their places, then put there by renaming.

The private directory (`.usbbackup-restore-...`) lies on the file system that the files go to. So nothing is
ever half restored under its own name, nothing is written through a link that lies about, and an attempt that
was cut off is gone on from by the next: what is in place is seen to be the same, what was copied is there.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby

from usbbackup import kernel
from usbbackup.backup import removal
from usbbackup.backup.entry import Entry, Kind
from usbbackup.backup.opened import Moved, Opened, entries
from usbbackup.backup.plan import Act, Plan, Top, plan
from usbbackup.errors import NotAllowedError, NotNowError
from usbbackup.folders import closing, make_folder, names_in, open_below
from usbbackup.offload import in_thread
from usbbackup.outcome import Stop
from usbbackup.text import human_bytes, safe

PREFIX = ".usbbackup-restore-"
_SPARE = 1 << 20  # bytes that must stay free besides
_ACL = "system.posix_acl_"


@dataclass
class Restored:
    """What came of a restore."""

    made: int = 0  # entries, directories included
    replaced: int = 0
    same: int = 0
    kept: list[bytes] = field(default_factory=list)  # something else stands there, and was left alone
    bytes: int = 0
    notes: list[str] = field(default_factory=list)  # what could not be kept or put in place

    @property
    def whole(self) -> bool:
        """Is all that was asked for there as it was?"""
        return not self.kept and not self.notes


async def prepared(snapshot: Opened, wanted: Sequence[bytes], root: int, *, overwrite: bool) -> Plan:
    """What restoring these paths (none: everything) below the open directory `root` would do.

    Raises UsageError for a path that the snapshot does not have.
    """
    there = await entries(snapshot, wanted)
    compare = snapshot.same_content
    return await in_thread(lambda: plan(there, wanted, root, overwrite=overwrite, same_content=compare))


async def carry_out(
    snapshot: Opened, what: Plan, root: int, mark: str, *, stop: Stop, moved: Moved = lambda _: None
) -> Restored:
    """Do what was planned; `mark` is the same for every attempt at the same snapshot of the same drive.

    Raises NotNowError where there is not enough room, with how much is missing.
    """
    done = Restored(same=len(what.with_act(Act.SAME)))
    done.kept = [entry.path for entry in what.with_act(Act.KEEP)]
    for place, group in groupby(sorted(what.tops, key=lambda top: top.place), key=lambda top: top.place):
        tops = list(group)
        with closing(open_below(root, tops[0].entry.parent)) as anchor, _stage(anchor, mark) as stage:
            _enough_room(anchor, what.room(place) - await in_thread(_used, stage))
            trees = what.trees(top for top in tops if top.act is not Act.ALTER)
            alone = [top.entry.path for top in tops if top.act is Act.ALTER]
            done.notes += await snapshot.copy(trees, stage, alone=alone, stop=stop, moved=moved)
            await _on_disk(stage)
            await in_thread(_Merge(what, root, stage, done).all, tops)
            await in_thread(kernel.syncfs, anchor)
    await in_thread(_relink, what, root, done)
    await in_thread(_set_times, what, root)
    return done


async def _on_disk(stage: int) -> None:
    """What gets its name is on the disk before. Raises OSError where the disk has lost some of it.

    Then nothing is left to be gone on from: the kernel would show it as if it were there (syncfs(2)).
    """
    try:
        await in_thread(kernel.syncfs, stage)
    except OSError:
        await in_thread(removal.empty, stage)
        raise


@contextmanager
def _stage(anchor: int, mark: str) -> Iterator[int]:
    """The private directory of this restore; it stays where the block fails, and is gone on from."""
    same = PREFIX + hashlib.blake2b(mark.encode(), digest_size=4).hexdigest()
    name = f"{same}-{kernel.boot_id()[:8]}"  # before the last boot, data may be missing that should be there
    for old in names_in(anchor):
        if old.startswith(same) and old != name:
            _remove(anchor, old)
    try:
        stage = make_folder(anchor, name, 0o700)
    except PermissionError as error:
        raise NotAllowedError(
            "you may not write where the files are to go", "choose another directory"
        ) from error
    with closing(stage):
        if os.fstat(stage).st_uid != os.geteuid():
            raise NotAllowedError(f"the directory '{name}' is another user's", "look at it, and move it away")
        try:
            fcntl.flock(stage, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNowError("the same snapshot is being restored to here", "wait until that ends") from None
        try:
            yield stage
        except BaseException:
            with suppress(OSError):  # something is in it, to be gone on from
                os.rmdir(name, dir_fd=anchor)
            raise
        removal.empty(stage)
        os.rmdir(name, dir_fd=anchor)


def _remove(anchor: int, name: str) -> None:
    with suppress(OSError), closing(make_folder(anchor, name, 0o700)) as old:
        fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
        removal.empty(old)
        os.rmdir(name, dir_fd=anchor)


def _enough_room(anchor: int, needed: int) -> None:
    found = os.statvfs(anchor)
    free = found.f_bavail * found.f_frsize
    if needed + _SPARE > free:
        raise NotNowError(
            f"restoring needs {human_bytes(needed)}, and {human_bytes(free)} are free: "
            f"{human_bytes(needed + _SPARE - free)} are missing",
            "make room, or restore to another file system with --to; nothing was written",
        )


def _used(stage: int) -> int:
    """Bytes that an earlier attempt has copied."""
    total = 0
    for _, _, names, folder in os.fwalk(".", dir_fd=stage):
        for name in names:
            total += os.lstat(name, dir_fd=folder).st_blocks * 512
    return total


class _Merge:
    """Puts what is in the stage where it belongs."""

    def __init__(self, what: Plan, root: int, stage: int, done: Restored) -> None:
        self._what = what
        self._root = root
        self._stage = stage
        self._done = done
        self._below: dict[bytes, list[Entry]] = {}

    def all(self, tops: Sequence[Top]) -> None:
        """Each top; a directory's own metadata last, since putting things into it changes its time."""
        for entry, act, _ in sorted(tops, key=lambda top: top.act is Act.ALTER):
            try:
                self._top(entry, act)
            except FileExistsError:
                self._done.kept.append(entry.path)
            except OSError as error:
                self._done.notes.append(f"/{safe(entry.path)}: could not be put in place: {error.strerror}")
        self._count(tops)

    def _top(self, entry: Entry, act: Act) -> None:
        name = entry.path.rpartition(b"/")[2]
        with (
            closing(open_below(self._root, entry.parent)) as folder,
            closing(open_below(self._stage, entry.parent)) as staged,
            _unlocked(folder),
            _unlocked(staged),
        ):
            if act is Act.ALTER:
                with (
                    closing(open_below(folder, name)) as directory,
                    closing(open_below(staged, name)) as like,
                ):
                    _alter(directory, like, entry)
            elif entry.kind is Kind.DIRECTORY:
                _move_directory(entry, name, staged, folder, replacing=act is Act.REPLACE)
            elif act is Act.REPLACE:
                os.rename(name, name, src_dir_fd=staged, dst_dir_fd=folder)
            else:
                kernel.rename_new(name, name, src_dir_fd=staged, dst_dir_fd=folder)

    def _count(self, tops: Sequence[Top]) -> None:
        failed = set(self._done.kept)
        places = {top.entry.path for top in tops}
        within = b""
        for entry in self._what.with_act(Act.MAKE, Act.REPLACE, Act.ALTER):
            if entry.path in places:
                within = entry.path
            if not (entry.path == within or entry.path.startswith(within + b"/")) or within in failed:
                continue
            if self._what.acts[entry.path] is Act.MAKE:
                self._done.made += 1
            else:
                self._done.replaced += 1
            self._done.bytes += entry.size


def _move_directory(entry: Entry, name: bytes, staged: int, folder: int, *, replacing: bool) -> None:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with closing(os.open(name, flags, dir_fd=staged)) as top, _unlocked(top):  # its `..` changes: rename(2)
        if replacing:
            os.unlink(name, dir_fd=folder)
        kernel.rename_new(name, name, src_dir_fd=staged, dst_dir_fd=folder)


@contextmanager
def _unlocked(directory: int) -> Iterator[None]:
    """Let its owner change what is in a directory that is not to be written to; then it is as it was."""
    mode = stat.S_IMODE(os.fstat(directory).st_mode)
    if mode & stat.S_IRWXU == stat.S_IRWXU:
        yield
        return
    with suppress(PermissionError):  # another user's: what is done there will tell
        os.fchmod(directory, mode | stat.S_IRWXU)
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.fchmod(directory, mode)


def _alter(directory: int, like: int, entry: Entry) -> None:
    """Owner, mode, attributes and time of a directory that was there; in this order none undoes another."""
    with suppress(PermissionError):
        os.fchown(directory, entry.uid, entry.gid)
    os.fchmod(directory, entry.mode)
    wanted = {name: os.getxattr(like, name) for name in os.listxattr(like)}
    for name in os.listxattr(directory):
        if name not in wanted and name.startswith((_ACL, "user.")):
            os.removexattr(directory, name)
    for name, value in wanted.items():
        os.setxattr(directory, name, value)
    os.utime(directory, ns=(entry.mtime_ns, entry.mtime_ns))


def _relink(what: Plan, root: int, done: Restored) -> None:
    """Make names of one file that are new names of the file again that was there already."""
    groups: dict[bytes, list[Entry]] = {}
    for entry in what.entries:
        if entry.node and entry.kind is not Kind.DIRECTORY:
            groups.setdefault(entry.node, []).append(entry)
    for names in groups.values():
        there = [entry for entry in names if what.acts[entry.path] is Act.SAME]
        new = [entry for entry in names if what.acts[entry.path] in (Act.MAKE, Act.REPLACE)]
        for entry in new if there else []:
            try:
                _link(root, there[0].path, entry.path)
            except OSError as error:
                done.notes.append(f"/{safe(entry.path)}: is no hard link: {error.strerror}")


def _set_times(what: Plan, root: int) -> None:
    """A directory that was as in the snapshot is so again, though things were put into it."""
    changed = {top.entry.parent for top in what.tops} & what.alike
    for entry in what.entries:
        if entry.path in changed:
            with closing(open_below(root, entry.path)) as folder, suppress(PermissionError):
                os.utime(folder, ns=(entry.mtime_ns, entry.mtime_ns))


def _link(root: int, old: bytes, new: bytes) -> None:
    with (
        closing(open_below(root, old.rpartition(b"/")[0])) as source,
        closing(open_below(root, new.rpartition(b"/")[0])) as folder,
        _unlocked(folder),
    ):
        name, temporary = new.rpartition(b"/")[2], f"{PREFIX}link".encode()
        if os.lstat(name, dir_fd=folder).st_ino == os.lstat(old.rpartition(b"/")[2], dir_fd=source).st_ino:
            return
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        os.link(
            old.rpartition(b"/")[2], temporary, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False
        )
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
