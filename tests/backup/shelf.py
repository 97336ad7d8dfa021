"""Snapshots of both engines to read and to restore from, with everything in them that is easily lost."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from runs import ROOT, Place

from usbbackup.backup import restore
from usbbackup.backup.entry import Entry
from usbbackup.backup.opened import Opened, Snapshot, entries
from usbbackup.backup.plan import Plan
from usbbackup.backup.restore import Restored
from usbbackup.backup.snapshots import Reader, on, opened
from usbbackup.outcome import Stop
from usbbackup.paths import Paths

T = TypeVar("T")

ENGINES = [
    *(name for name in ("rsync", "borg") if shutil.which(name) is not None),
]
NAMES = (b"caf\xe9", b"new\nline", b"#x", b"-rf", b" lead", b"trail ", b"pp:x", b"\x7fdel", b"*?[a]", b"a\\b")
OLD = 1_500_000_000_123_456_789


@dataclass
class Shelf:
    """A place with a job, its snapshots, and a directory to restore to."""

    place: Place
    job: str = "home"
    log: list[str] = field(default_factory=list)

    @property
    def target(self) -> Path:
        path = self.place.top / "restored"
        path.mkdir(exist_ok=True)
        return path

    def where(self, path: str = "") -> Path:
        """Where a path of the source is restored to."""
        return Path(f"{self.target}{self.place.source}") / path

    def reader(self) -> Reader:
        paths = Paths.of({"HOME": str(self.place.top / "home")})
        return Reader({self.job: self.place.job}, self.place.programs, paths, self.place.clock)

    def snapshots(self) -> Sequence[Snapshot]:
        with self.place.opened() as target:
            return asyncio.run(on(target, self.reader())).snapshots

    def with_snapshot(self, use: Callable[[Opened], Awaitable[T]], number: int = -1) -> T:
        """Do something with an open snapshot."""
        return self.with_snapshots(lambda snapshots: use(snapshots[0]), number)

    def with_snapshots(self, use: Callable[[Sequence[Opened]], Awaitable[T]], *numbers: int) -> T:
        """Do something with these open snapshots; none: with all."""

        async def all_of_it() -> T:
            with self.place.opened() as target, ExitStack() as stack:
                there = (await on(target, self.reader())).snapshots
                wanted = [there[number] for number in numbers] or there
                return await use([await opened(one, target, self.reader(), stack) for one in wanted])

        return asyncio.run(all_of_it())

    def entries(self, below: Sequence[bytes] = (), number: int = -1) -> list[Entry]:
        return self.with_snapshot(lambda snapshot: entries(snapshot, below), number)

    def restore(
        self,
        *paths: str | Path,
        overwrite: bool = False,
        to: Path | None = None,
        number: int = -1,
        between: Callable[[Plan], None] = lambda plan: None,
    ) -> Restored:
        """Restore paths of the source (none: everything); `between` planning and doing the test may act."""
        wanted = [os.fsencode(self.place.source / path).lstrip(b"/") for path in paths]

        async def it(snapshot: Opened) -> Restored:
            root = os.open(to or self.target, os.O_RDONLY | os.O_DIRECTORY)
            try:
                plan = await restore.prepared(snapshot, wanted, root, overwrite=overwrite)
                between(plan)
                return await restore.carry_out(snapshot, plan, root, "mark", stop=Stop())
            finally:
                os.close(root)

        return self.with_snapshot(it, number)


def planted(top: Path) -> None:
    """A tree with everything in it that is easily lost."""
    (top / "letters/deep/er").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "letters/one.txt").write_text("one\n")
    (top / "letters/deep/same.txt").hardlink_to(top / "letters/one.txt")
    (top / "letters/deep/er/two.bin").write_bytes(os.urandom(100_000))
    (top / "link").symlink_to("letters/one.txt")
    (top / "nowhere").symlink_to(os.fsdecode(b"/no/such/pl\xe9ce"))
    os.mkfifo(top / "pipe")
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(top) + b"/" + name)).write_bytes(name)
    with (top / "sparse").open("wb") as file:
        file.truncate(10 << 20)
        file.seek(5 << 20)
        file.write(b"in the middle")
    os.setxattr(top / "letters/one.txt", "user.colour", b"green\0")
    os.setxattr(top / "letters", "user.kind", b"folder")
    if shutil.which("setfacl"):
        subprocess.run(["setfacl", "-m", "u:12345:rw", top / "sparse"], check=False)
        subprocess.run(["setfacl", "-d", "-m", "u:12345:rx", top / "letters/deep"], check=False)
    (top / "letters/one.txt").chmod(0o640)
    (top / "link-free").mkdir(mode=0o700)
    (top / "link-free/read-only").write_text("no\n")
    (top / "link-free/read-only").chmod(0o400)
    if ROOT:
        os.chown(top / "sparse", 1234, 2345)
        os.chown(top / "link", 1234, 2345, follow_symlinks=False)
        os.mknod(top / "null", 0o020666, os.makedev(1, 3))
    (top / "link-free").chmod(0o500)
    paths = [Path(os.fsdecode(path)) for path in _below(os.fsencode(top))]
    for number, path in enumerate(sorted(paths, key=lambda path: os.fsencode(path), reverse=True)):
        when = OLD + number * 10**9
        os.utime(path, ns=(when, when), follow_symlinks=False)


def _below(top: bytes) -> list[bytes]:
    found = [top]
    for directory, directories, files in os.walk(top):
        found += [directory + b"/" + name for name in (*directories, *files)]
    return found


def freed(top: Path) -> None:
    """Let the test's directory be removed afterwards."""
    for path in top.rglob("link-free"):
        path.chmod(0o700)
