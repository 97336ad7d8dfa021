"""The borg engine, with the real borg in directories of its own."""

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from usbbackup.backup.borg.engine import Borg, snapshots
from usbbackup.backup.borg.session import Session
from usbbackup.backup.engine import Copied, Over, Request, Work, failed
from usbbackup.backup.secret import WaitingForSecret
from usbbackup.clock import SystemClock, Timer
from usbbackup.config import JobConfig
from usbbackup.errors import UsbbackupError
from usbbackup.folders import LayoutError
from usbbackup.outcome import Outcome, Phase, Progress, Stop
from usbbackup.paths import Paths
from usbbackup.programs import Ended, Program, SystemPrograms
from usbbackup.target import DriveFacts

pytestmark = pytest.mark.skipif(shutil.which("borg") is None, reason="borg is not installed")

PASSPHRASE = "correct horse battery staple"  # noqa: S105 - of a repository that lives for a second
TIMES = [f"2026-11-2{day}T101500Z" for day in range(10)]
NAMES = [
    *(b"plain", b"new\nline", b"\xff\xfe", b" lead", b"-dash", b"back\\slash", b"tab\t", b"esc\x1b[31m"),
    *(b"quo'\"te", b"#hash", b"x::y", b"{now}", b"*?[a]", "ü".encode(), b"..."),
]


ENCRYPTED = JobConfig(
    name="home", engine="borg", encryption="repokey-blake2", passcommand=("echo", PASSPHRASE)
)


class SwiftClock(SystemClock):
    """Seconds of waiting are hundredths."""

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return super().later(seconds / 100, callback)


@dataclass
class Listed:
    """A scan with a given list; `between` is called before its last entry."""

    paths: list[bytes]
    between: Callable[[], None] = lambda: None

    def write(self, out, prefix: bytes, seen=None) -> None:
        for path in self.paths[:-1]:
            out.write(prefix + path + b"\0")
        self.between()
        out.write(prefix + self.paths[-1] + b"\0")


@dataclass
class Changed(SystemPrograms):
    """The real programs, with something changed about each."""

    change: Callable[[Program], Program] = lambda program: program

    def __post_init__(self) -> None:
        super().__init__(SwiftClock(), os.environ)

    async def run(self, program: Program, **options) -> Ended:
        return await super().run(self.change(program), **options)


@dataclass
class Drive:
    """The target; there for as long as nobody says otherwise."""

    fd: int
    facts: DriveFacts
    reason: str | None = None

    def still_there(self) -> str | None:
        return self.reason


@dataclass
class Place:
    """A home, a job's directory on a drive, and a source, all below one directory."""

    top: Path
    job: JobConfig = field(
        default_factory=lambda: JobConfig(name="home", engine="borg", encryption="none", compression="none")
    )
    stop: Stop = field(default_factory=Stop)
    programs: SystemPrograms = field(default_factory=Changed)
    log: list[str] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    report: Callable[[Progress], None] | None = None
    drive: Drive | None = None
    repository: str | None = None
    repositories: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("drive", "source", "home"):
            (self.top / name).mkdir(parents=True, exist_ok=True)

    @property
    def source(self) -> Path:
        return self.top / "source"

    @property
    def paths(self) -> Paths:
        return Paths.of({"HOME": str(self.top / "home"), "XDG_RUNTIME_DIR": str(self.top / "home")})

    def listed(self) -> list[bytes]:
        top = os.fsencode(self.source)
        return [top[1:], *((top + b"/" + name)[1:] for name in sorted(names(top)))]

    def run(self, time: str = TIMES[0], scan: Listed | None = None) -> Copied:
        """The engine's whole run, as `perform` leads it."""
        return asyncio.run(self._run(time, scan or Listed(self.listed())))

    async def _run(self, time: str, scan: Listed) -> Copied:
        job_fd = os.open(self.top / "drive", os.O_RDONLY)
        try:
            engine, work = Borg(), Work(self._request(job_fd), job_fd, time, scan)
            await engine.stage(work)
            copied = await engine.transfer(work)
            await engine.publish(work)
        finally:
            os.close(job_fd)
        return copied

    def _request(self, fd: int) -> Request:
        facts = DriveFacts("backup", "0000-UUID", "backup", "/dev/null", self.top / "drive", "ext4")
        return Request(
            job=self.job,
            target=self.drive or Drive(fd, facts),
            run="1",
            programs=self.programs,
            clock=SwiftClock(),
            paths=self.paths,
            stop=self.stop,
            report=self.report or self.progress.append,
            log=self.log.append,
            repository=self.repository,
            on_repository=self.repositories.append,
        )

    def snapshots(self) -> list[str]:
        async def main() -> list[str]:
            fd = os.open(self.top / "drive", os.O_RDONLY)
            try:
                return await snapshots(Session(fd, self.programs, self.paths), self.job.name)
            finally:
                os.close(fd)

        return asyncio.run(main())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unencrypted repository with one snapshot."""
    place = Place(tmp_path_factory.mktemp("made") / "place")
    (place.source / "file").write_text("first")
    place.run()
    return place.top


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, Copied]:
    """The first run into an encrypted repository, of every name there can be."""
    place = Place(tmp_path_factory.mktemp("encrypted") / "place", ENCRYPTED)
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(place.source) + b"/" + name)).write_bytes(name)
    (place.top / "drive" / "borg.new").mkdir()
    (place.top / "drive" / "borg.new" / "half").write_text("of a repository")
    return place, place.run()


@pytest.fixture
def encrypted(first: tuple[Place, Copied], tmp_path: Path) -> Place:
    shutil.copytree(first[0].top, tmp_path / "place", symlinks=True)
    return Place(tmp_path / "place", ENCRYPTED)


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Place:
    """A copy of it: so all tests meet a repository that was somewhere else last time."""
    shutil.copytree(made, tmp_path / "place", symlinks=True)
    return Place(tmp_path / "place")


@pytest.fixture
def new(tmp_path: Path) -> Place:
    return Place(tmp_path / "place")


def over(place: Place, scan: Listed | None = None) -> Over:
    with pytest.raises(Over) as caught:
        place.run(TIMES[1], scan)
    return caught.value


def test_the_first_run_makes_a_repository_and_keeps_its_key(first):
    place, copied = first
    assert copied.files == len(NAMES)
    assert (copied.unread, copied.notes) == ((), ())
    assert {path.name for path in (place.top / "drive").iterdir()} == {"borg", "reserve"}
    key = place.paths.keys / "0000-UUID-home.key"
    assert key.read_text().startswith("BORG_KEY ")
    assert key.stat().st_mode & 0o777 == 0o600
    assert place.paths.cache.joinpath("borg").is_dir()
    assert any(progress.phase is Phase.TRANSFER for progress in place.progress)


def test_every_name_there_can_be_is_in_the_archive_with_its_content(encrypted):
    back = encrypted.top / "back"
    back.mkdir()
    borg = ("borg", "extract", f"{encrypted.top}/drive/borg::home@{TIMES[0]}")
    env = os.environ | {"HOME": f"{encrypted.top}/home", "BORG_PASSPHRASE": PASSPHRASE, "LC_ALL": "C.UTF-8"}
    env |= {"BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    subprocess.run(borg, cwd=back, env=env, check=True)
    (restored,) = back.rglob("source")
    top = os.fsencode(restored)
    assert {name: Path(os.fsdecode(top + b"/" + name)).read_bytes() for name in names(top)} == {
        name: name for name in NAMES
    }


def test_snapshots_are_listed_in_order_also_after_the_drive_was_mounted_elsewhere(place):
    (place.source / "file").write_text("second")
    place.run(TIMES[2])
    place.run(TIMES[1])
    assert place.snapshots() == [f"home@{TIMES[0]}", f"home@{TIMES[2]}", f"home@{TIMES[1]}"]


def test_no_repository_has_no_snapshots(new):
    assert new.snapshots() == []


def test_what_vanished_is_a_note_and_what_borg_cannot_be_given_is_told(place):
    (place.source / "car\nriage").write_text("another file")
    (place.source / "car\rriage").write_text("with a carriage return")
    listed = place.listed()
    copied = place.run(TIMES[1], Listed([*listed[:1], listed[0] + b"/gone", *listed[1:]]))
    assert copied.notes == (f"{place.source}/gone: vanished before it was read",)
    assert copied.unread == (
        f"{place.source}/car\\rriage: borg cannot be given a name with a carriage return",
    )
    assert copied.files == 2


def test_an_unreadable_file_is_told_and_the_rest_is_saved():
    """As an ordinary user, for whom there are unreadable files."""
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        place = Place(Path(top) / "place")
        (place.source / "secret").write_text("")
        (place.source / "secret").chmod(0)
        (place.source / "file").write_text("")
        if os.geteuid() == 0:
            nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
            place.programs = Changed(lambda program: replace(program, argv=(*nobody, *program.argv)))
            Path(top).chmod(0o755)
            for made in (place.paths.config.parent / "borg", place.paths.cache / "borg" / "tmp"):
                made.mkdir(parents=True)
            for each in (Path(top), *Path(top).rglob("*")):
                os.chown(each, 65534, 65534)
        copied = place.run()
        assert copied.unread == (f"{place.source}/secret: Permission denied",)
        assert copied.files == 1


def test_a_wrong_passphrase_fails_and_says_so(encrypted):
    encrypted.job = replace_job(encryption="repokey", passcommand=("echo", "wrong"))
    result = over(encrypted).result
    assert result.outcome is Outcome.FAILED
    assert result.message == "the passphrase does not open the borg repository"


def test_a_locked_repository_is_left_alone_and_the_holder_is_named(place):
    """The lock is never broken: whoever holds it may be writing."""
    place.programs = Changed(hurried)
    holding = ("borg", "with-lock", "borg", "sh", "-c", "echo $PPID; read -r _")
    env = os.environ | {"HOME": f"{place.top}/home", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}
    env |= {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(holding, cwd=place.top / "drive", env=env, **pipes) as holder:
        pid = int(holder.stdout.readline())
        message = over(place).result.message
        holder.stdin.close()
        assert holder.wait() == 0 or holder.returncode == 1
    assert message.startswith(f"the borg repository is locked by process {pid} on ")


def test_a_stopped_run_leaves_no_snapshot_and_no_lock(place):
    def stop(_: Progress) -> None:
        place.stop.set(Outcome.CANCELLED, "you said so")

    def wait_for_it() -> None:
        stopped = threading.Event()
        place.stop.on_set(stopped.set)
        stopped.wait()
        raise Over(place.stop.result())

    place.report = stop
    assert (
        over(place, Listed([*place.listed() * 2000, b"never"], wait_for_it)).result.outcome
        is Outcome.CANCELLED
    )
    assert not (place.top / "drive" / "borg" / "lock.exclusive").exists()
    place.stop, place.report = Stop(), None
    place.programs = Changed(hurried)
    place.run(TIMES[2])
    assert place.snapshots() == [f"home@{TIMES[0]}", f"home@{TIMES[2]}"]


def test_half_a_list_never_becomes_a_snapshot(place):
    """Neither where the scan gives up, nor where the one who writes the list dies and its pipe ends."""

    def doubt() -> None:
        raise failed("the source is doubtful")

    assert over(place, Listed(place.listed(), doubt)).result.message == "the source is doubtful"

    def die() -> None:
        raise BrokenPipeError

    assert "exited with status 1" in over(place, Listed(place.listed(), die)).result.message
    assert place.snapshots() == [f"home@{TIMES[0]}"]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_when_the_drive_is_detached_half_way_nothing_lands_in_the_bare_mount_point(place):
    drive = place.top / "drive"
    moved = place.top / "moved"
    drive.rename(moved)
    drive.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "drive", drive), check=True)
    shutil.copytree(moved / "borg", drive / "borg")
    (place.source / "big").write_bytes(os.urandom(1 << 20))
    scan = Listed(place.listed(), lambda: subprocess.run(("umount", "-l", drive), check=True))
    result = over(place, scan).result
    assert result.outcome is Outcome.FAILED
    assert list(drive.iterdir()) == []


def test_the_passphrase_is_nowhere_to_be_seen(encrypted):
    """Not in the arguments and the environment of any process, and in no file that was written."""
    place = encrypted
    place.job = replace_job(encryption="repokey-blake2", passcommand=("cat", f"{place.top}/passphrase"))
    (place.top / "passphrase").write_text(PASSPHRASE + "\n")
    looked: list[str] = []

    def look() -> None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                looked.append(
                    str(process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes())
                )
            except OSError:
                continue

    place.run(TIMES[1], Listed(place.listed() * 300, look))
    assert any("borg::home@" in each and "BORG_PASSPHRASE_FD" in each for each in looked)
    assert not any(PASSPHRASE in each for each in (*looked, *place.log))
    (place.top / "passphrase").unlink()
    assert (
        subprocess.run(
            ("grep", "-r", PASSPHRASE, place.top), stdout=subprocess.DEVNULL, check=False
        ).returncode
        == 1
    )


def test_an_unencrypted_repository_that_this_computer_does_not_know_gets_nothing(place):
    shutil.rmtree(place.top / "home")
    (place.top / "home").mkdir()
    assert over(place).result.message == "borg does not know this unencrypted repository on this computer"


def test_without_a_passphrase_nothing_is_written(new):
    new.job = replace_job(
        encryption="repokey", passcommand=("sh", "-c", "echo no; echo keyring is locked >&2; exit 3")
    )
    result = over(new).result
    assert isinstance(result, WaitingForSecret)
    assert result.message == "there is no passphrase: the passcommand ended with exit code 3"
    assert list((new.top / "drive").iterdir()) == []
    assert new.log == []


def test_a_symbolic_link_in_place_of_the_repository_is_refused(new):
    (new.top / "drive" / "borg").symlink_to(new.top / "source")
    with pytest.raises(LayoutError):
        new.run()
    assert list(new.source.iterdir()) == []


def test_a_directory_that_is_no_repository_is_named(new):
    (new.top / "drive" / "borg").mkdir()
    assert "no borg repository" in over(new).result.message
    with pytest.raises(UsbbackupError, match="no borg repository"):
        new.snapshots()


def test_borg_2_is_refused_by_name(new, tmp_path):
    fake = tmp_path / "bin" / "borg"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "borg 2.0.0b25" && exit\nexit 2\n')
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    new.programs = Changed(lambda program: replace(program, env={**program.env, "PATH": path}))
    assert (
        over(new).result.message == "'borg 2.0.0b25' is installed, and usbbackup works with borg 1.2 to 1.4"
    )


def test_where_the_drive_is_gone_borg_is_not_even_asked(place):
    facts = DriveFacts("backup", "0000-UUID", "backup", "/dev/null", place.top / "drive", "ext4")
    place.drive = Drive(-1, facts, "it was pulled")
    place.programs = Changed(lambda program: pytest.fail("was run"))
    assert over(place).result.outcome is Outcome.INTERRUPTED


def test_a_repository_that_was_replaced_is_not_written_to(place):
    """Its id is kept at home with the enrolment, also where borg's own memory of it is gone."""
    place.run(TIMES[1])
    (identity,) = place.repositories
    place.repository = identity
    shutil.rmtree(place.paths.config.parent / "borg")
    config = place.top / "drive" / "borg" / "config"
    config.chmod(0o600)
    config.write_text(config.read_text().replace(identity, "0" * 64))
    result = over(place).result
    assert result.outcome is Outcome.FAILED
    assert result.message.startswith("the borg repository on the drive is not the one")


def test_a_new_repository_is_noted(new):
    new.run()
    assert [len(identity) for identity in new.repositories] == [64]


def replace_job(**changes) -> JobConfig:
    return JobConfig(**({"name": "home", "engine": "borg"} | changes))


def names(directory: bytes) -> list[bytes]:
    return os.listdir(directory)  # noqa: PTH208 - pathlib has no names that are bytes


def hurried(program: Program) -> Program:
    """Nobody waits for a lock."""
    argv = tuple(word.replace("--lock-wait=10", "--lock-wait=0") for word in map(str, program.argv))
    return replace(program, argv=argv)
