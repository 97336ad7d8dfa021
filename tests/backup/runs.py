"""Whole runs of jobs with the real programs, onto a drive that is a directory, and what they leave there."""

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from usbbackup.backup import layout
from usbbackup.backup.engine import Request
from usbbackup.backup.perform import perform
from usbbackup.clock import SystemClock, Timer
from usbbackup.config import JobConfig
from usbbackup.outcome import Progress, Result, SourceSeen, Stop
from usbbackup.paths import Paths
from usbbackup.programs import Ended, Program, SystemPrograms
from usbbackup.target import DriveFacts

ROOT = os.geteuid() == 0
NOON = 1_800_000_000.0
_LONG = 20.0  # seconds; limits for what a drive may take, which no test waits for


class Clock(SystemClock):
    """A wall clock that the test sets, and short waits that are a hundred times as short."""

    def __init__(self) -> None:
        self.wall = NOON

    def now(self) -> float:
        return self.wall

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return super().later(seconds if seconds >= _LONG else seconds / 100, callback)


class Programs(SystemPrograms):
    """The real programs; `before` each the test may have its say, and change what is run."""

    def __init__(self) -> None:
        super().__init__(SystemClock(), os.environ)
        self.before: Callable[[Program], Program] = lambda program: program
        self.seen: list[Program] = []

    async def run(self, program: Program, **options) -> Ended:
        self.seen.append(program)
        return await super().run(self.before(program), **options)


@dataclass
class Drive:
    """A target; there for as long as nobody says otherwise."""

    fd: int
    facts: DriveFacts
    reason: str | None = None

    def still_there(self) -> str | None:
        return self.reason


@dataclass
class Place:
    """A home with sources, and a drive, side by side below one directory."""

    top: Path
    drive_top: Path | None = None
    job: JobConfig = field(default_factory=lambda: JobConfig(name="home", engine="rsync"))
    clock: Clock = field(default_factory=Clock)
    programs: Programs = field(default_factory=Programs)
    last: dict[str, SourceSeen] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    stop: Stop = field(default_factory=Stop)
    drive: Drive | None = None

    def __post_init__(self) -> None:
        self.top = self.top.resolve()
        self.mount = self.drive_top or self.top / "drive"
        self.folder = self.mount / "usbbackup/host-12345678/me"
        for path in (self.folder, self.source, self.top / "home"):
            path.mkdir(parents=True, exist_ok=True)
        if not self.job.sources:
            self.job = self.with_job(sources=(str(self.source),))

    @property
    def source(self) -> Path:
        return self.top / "source"

    @property
    def job_folder(self) -> Path:
        return self.folder / self.job.name

    def with_job(self, **changes) -> JobConfig:
        """The job with some of its fields changed."""
        fields = {name: getattr(self.job, name) for name in JobConfig.__struct_fields__}
        return JobConfig(**(fields | changes))

    def run(self, *, report: Callable[[Progress], None] | None = None, **changes) -> Result:
        """One run, a minute after the one before; a good one is remembered for the next."""
        self.clock.wall += 60
        self.stop = Stop()

        def told(progress: Progress) -> None:
            self.progress.append(progress)
            if report is not None:
                report(progress)

        with self.opened() as target:
            result = asyncio.run(perform(replace(self.request(target, told), **changes)))
        self.last.update({seen.source: seen for seen in result.sources})
        return result

    def request(self, target: "Drive", told: Callable[[Progress], None]) -> Request:
        """What a run is asked for."""
        return Request(
            job=self.job,
            target=target,
            run="1",
            programs=self.programs,
            clock=self.clock,
            paths=Paths.of({"HOME": str(self.top / "home")}),
            stop=self.stop,
            report=told,
            log=self.log.append,
            last=dict(self.last),
        )

    @contextmanager
    def opened(self) -> Iterator[Drive]:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        facts = DriveFacts("stick", "u-1", "backup", "/dev/null", self.mount, "ext4")
        self.drive = Drive(fd, facts)
        try:
            yield self.drive
        finally:
            os.close(fd)

    def snapshots(self) -> list[Path]:
        """The published snapshots' directories, in their order."""
        if not self.job_folder.exists():
            return []
        fd = os.open(self.job_folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [self.job_folder / layout.SNAPSHOTS / time for time in layout.published(fd)]
        finally:
            os.close(fd)

    def stored(self, number: int = -1, of: Path | None = None) -> Path:
        """Where a source lies in a snapshot."""
        return self.snapshots()[number] / str(of or self.source).lstrip("/")

    def stages(self) -> list[str]:
        """What is in the job's folder besides snapshots and the record."""
        return sorted({path.name for path in self.job_folder.iterdir()} - {layout.SNAPSHOTS, "published"})


def everything(top: Path, *, inodes: bool = True) -> dict[str, tuple[object, ...]]:
    """All there is to know of a tree: contents, kinds, modes, owners, times, attributes, hard links."""
    first: dict[int, str] = {}
    known: dict[str, tuple[object, ...]] = {}
    for path in sorted([top, *top.rglob("*")], key=os.fsencode):
        name = str(path.relative_to(top))
        found = path.lstat()
        known[name] = (
            stat.filemode(found.st_mode),
            (found.st_uid, found.st_gid),
            (found.st_mtime_ns, found.st_rdev),
            _content(path, found.st_mode),
            _attributes(path),
            first.setdefault(found.st_ino, name) if inodes and not path.is_dir() else None,
        )
    return known


def _content(path: Path, mode: int) -> str | None:
    if stat.S_ISLNK(mode):
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else None


def _attributes(path: Path) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    names = [name for name in names if not name.startswith("trusted.SGI_ACL_")]  # of XFS: the lists again
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
