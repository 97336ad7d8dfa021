"""One home and one drive to which a fault is done, and what has to be true of them afterwards."""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_process import BORG_ANSWERS, Agent, House, until
from fault_matrix import Cell
from people import Code, Person, settled_in
from trees import Entry, noise, plant, portrait

from demo.loop_drive import LoopDrive

GATED_AGENT = Path(__file__).with_name("gated_agent.py")
MOUNTED = "rw,errors=remount-ro,noinit_itable"
EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4: takes a u32; 0 writes out what is dirty first
OURS = (".local/share/usbbackup", ".local/state/usbbackup", ".cache/usbbackup", ".config/borg", ".run")
MANY = 200  # files that the run to be hit has to copy, one of them large

Portrait = dict[bytes, Entry]
Attributes = dict[bytes, bytes]


@dataclass(frozen=True)
class HeldBack(Person):
    """A person whose agent stops at a gate."""

    phase: str = ""
    gate: Path = Path()

    def command(self, *command: str | Path) -> tuple[str, ...]:
        """The agent's command line, and any other one, as this person."""
        if command[1:] == ("-m", "usbbackup", "daemon"):
            command = (command[0], GATED_AGENT, self.phase, self.gate)
        return super().command(*command)


class Template:
    """A home and a drive after one good backup, with new files to copy: every cell begins with them."""

    def __init__(self, ground: Path, engine: str) -> None:
        self.ground, self.engine = ground, engine
        self.house = House(
            settled_in(Person(ground / "home", os.geteuid(), os.getegid(), Code())), ground.name[-10:]
        )
        self._first_documents()
        self.house.configure(self.house.job(engine))
        drive = LoopDrive(ground, name="template", label=self.house.label)
        try:
            drive.plug()
            drive.mount(options=MOUNTED)
            self.house.done("drives", "enrol")
            self.house.done("start", "--wait")
            (self.earlier,) = (snapshot["snapshot"] for snapshot in self.house.snapshots())
            drive.unmount()
        finally:
            drive.pull()
            until(lambda: not _run("losetup", "-j", drive.image), "the loop device to be free")
        self.first = picture(self.house.documents)
        self._more_documents()
        self.second = picture(self.house.documents)
        _run("cp", "-a", self.house.person.home, ground / "home.template")

    def _first_documents(self) -> None:
        documents, owner = self.house.documents, self.house.person.owner
        plant(documents, owner)
        os.setxattr(documents / "run.sh", "user.colour", b"green")
        noise(documents / "letters/large", 1_000_000, owner)

    def _more_documents(self) -> None:
        documents, owner = self.house.documents, self.house.person.owner
        (documents / "new").mkdir()
        for number in range(MANY):
            noise(self.nth(number), 8_000_000 if number == MANY // 2 - 1 else 6_000, owner)
        (documents / "note 3.txt").write_text("changed\n")
        (documents / "note 4.txt").unlink()
        (documents / "run.sh").chmod(0o700)  # its content is that of before: a link must not take this over
        (documents / "letters/copy.txt").unlink()  # so that there is one link less to its other name

    def nth(self, number: int) -> Path:
        """The new files in the order in which both engines come to them."""
        return self.house.documents / f"new/{number:03}"

    def restore(self) -> None:
        """The home as it was."""
        shutil.rmtree(self.house.person.home)
        _run("cp", "-a", self.ground / "home.template", self.house.person.home)


class Lease:
    """A file that cannot be opened by others (fcntl(2), F_SETLEASE) until it is let go."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.fcntl(self._fd, fcntl.F_SETSIG, signal.SIGURG)  # which nobody minds
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def reached(self) -> bool:
        """Does somebody wait for it?"""
        return fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK

    def open(self) -> bool:
        """Let go."""
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        os.close(self._fd)
        return True


class Gate:
    """Where the agent itself holds still; see gated_agent.py."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._reached, self._go = directory / "reached", directory / "go"
        os.mkfifo(self._go)

    def reached(self) -> bool:
        """Does the agent wait?"""
        return self._reached.exists()

    def open(self) -> bool:
        """Let it go on; False where it does not listen yet, or any more."""
        with suppress(OSError):
            os.close(os.open(self._go, os.O_WRONLY | os.O_NONBLOCK))
            return True
        return False


class Scene:
    """One cell: from the plug of the drive to the backup after the one that was hit."""

    def __init__(self, template: Template, cell: Cell, ground: Path) -> None:
        self.template, self.cell, self.ground = template, cell, ground
        self.house = template.house
        template.restore()
        self.carrier: LoopDrive | None = None
        self.drive = self._drive()
        self.bare = self._bare()
        self.strangers = self._strangers()

    # before the fault

    def begin(self) -> None:
        """Plug the drive in, start the agent, and wait until it holds still at the phase."""
        self.plug()
        phase, _, percent = self.cell.phase.removesuffix(" %").partition(" ")
        person = self.house.person
        self.gate: Lease | Gate
        file = self.template.nth(MANY * int(percent or 0) // 100)
        if percent and self.cell.engine == "rsync":
            self.gate = Lease(file)
        else:
            directory = self.ground / "gate"
            self.gate = Gate(directory)
            if percent:
                phase += f" {file}"  # borg waits for no lease (O_NONBLOCK), but for its list
            elif self.cell.fault == "engine killed":
                phase += " program"
            person = HeldBack(person.home, person.uid, person.gid, person.code, phase, directory)
        self.start(person)
        agent = self.house.agent
        deadline = time.monotonic() + 60
        while not self.gate.reached():
            assert agent.process.poll() is None, agent.log.read_text()
            assert time.monotonic() < deadline, f"{self.cell.phase} is not reached:\n{agent.log.read_text()}"
            time.sleep(0.005)

    def start(self, person: Person | None = None) -> None:
        """Start an agent."""
        house = self.house
        log = house.person.home / ".run/agent.log"
        house.agents.append(Agent(person or house.person, house.environment, log))

    def plug(self) -> None:
        """Plug the drive in, which is mounted at once."""
        self.drive.plug()
        self.drive.mount(options=MOUNTED)

    # faults are made of these

    def go(self) -> None:
        """Let everything that holds still go on."""
        if self.house.agent.process.poll() is None or isinstance(self.gate, Lease):
            until(self.gate.open, "the gate to be opened")

    def engines(self) -> set[int]:
        """The processes of the run."""
        return self.inhabitants() - {self.house.agent.pid}

    def inhabitants(self) -> set[int]:
        """All processes that the agent is, or has started: they know this home."""
        mark = b"\0HOME=" + os.fsencode(self.house.person.home) + b"\0"
        found = set()
        for process in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if mark in b"\0" + (process / "environ").read_bytes():
                    found.add(int(process.name))
        return found

    def signal(self, number: int, pids: set[int]) -> None:
        """Signal all of these."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> set[int]:
        """Stop the agent and its engines, and wait until they have stopped."""
        pids = self.inhabitants()
        self.signal(signal.SIGSTOP, pids)
        until(lambda: all(_state(pid) in "TZX" for pid in pids), "everything to stop")
        return pids

    def fill(self) -> Path:
        """Take every block of the drive."""
        filler = self.drive.mount_point / "filler"
        with filler.open("wb") as file:
            size, at = 1 << 25, 0
            while size >= 512:
                try:
                    os.posix_fallocate(file.fileno(), at, size)
                    at += size
                except OSError:
                    size //= 2
        return filler

    def take_inodes(self) -> Path:
        """Take every inode of the drive."""
        directory = self.drive.mount_point / "fillers"
        directory.mkdir()
        with suppress(OSError):
            for number in range(1 << 20):
                os.close(os.open(directory / str(number), os.O_CREAT | os.O_WRONLY))
        return directory

    def break_below(self) -> None:
        """Let every read and write of the drive be an I/O error from now on."""
        assert self.carrier is not None
        fd = os.open(self.carrier.mount_point, os.O_RDONLY)
        fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", 0))
        os.close(fd)

    def mend_below(self) -> None:
        """And no longer; the drive is not plugged in."""
        assert self.carrier is not None
        self.carrier.unmount()
        self.carrier.mount()

    def cut_power(self, image: Path | None = None) -> None:
        """Go on with home and image as they are now; or with another image."""
        self.freeze()
        if isinstance(self.gate, Lease):
            self.gate.open()
        home = self.house.person.home
        cut = home.with_name("home.cut")
        _run("cp", "-a", home, cut)
        _run("cp", "--sparse=always", image or self.drive.image, self.ground / "cut.img")
        self.signal(signal.SIGKILL, self.inhabitants())
        self.house.agent.process.wait(60)
        until(lambda: not self.inhabitants(), "everything to be dead")
        self.take_away()
        shutil.rmtree(home)
        cut.rename(home)
        (self.ground / "cut.img").rename(self.drive.image)

    def take_away(self) -> None:
        """Pull the drive, and wait until nothing keeps its file system alive."""
        self.drive.pull()
        until(lambda: not _run("losetup", "-j", self.drive.image), "the loop device to be free")

    # what has to be true afterwards

    def ended(self, count: int) -> dict[str, Any]:
        """The last of so many runs, which all have ended; none is told of twice."""
        return self.house.wait_ended(count)[-1]

    def check_nobody_is_left(self) -> None:
        """Only the agent itself is alive."""
        until(lambda: self.inhabitants() == {self.house.agent.pid}, "the processes of the run to be gone")

    def check_places(self) -> None:
        """Nothing was written but to the drive and to our own directories at home; the drive is away."""
        assert self._bare() == self.bare
        assert self._strangers() == self.strangers

    def check_snapshots(self, complete: int) -> None:
        """The first snapshot is as it was made, all later ones that are listed are the documents of now."""
        snapshots = self.house.snapshots()
        assert len(snapshots) == complete
        assert snapshots[0]["snapshot"] == self.template.earlier
        assert self._kept(snapshots[0]) == self.template.first
        assert all(self._kept(snapshot) == self.template.second for snapshot in snapshots[1:])
        assert picture(self.house.documents) == self.template.second

    def _kept(self, snapshot: dict[str, Any]) -> tuple[Portrait, Attributes]:
        inside = self.house.documents.relative_to("/")
        if snapshot["path"]:
            return picture(Path(snapshot["path"]) / inside)
        (repository,) = self.drive.mount_point.glob(f"usbbackup/*/*/{snapshot['job']}/borg")
        with tempfile.TemporaryDirectory(dir=self.ground) as place:
            # With a home of its own, so that the agent's borg does not learn anything here.
            environment = {**self.house.environment, **BORG_ANSWERS, "HOME": f"{place}/home"}
            extract = ("borg", "extract", "--numeric-ids", f"{repository}::{snapshot['snapshot']}")
            subprocess.run(extract, cwd=place, env=environment, stdin=subprocess.DEVNULL, check=True)
            return picture(Path(place) / inside)

    def _drive(self) -> LoopDrive:
        directory = self.ground
        if self.cell.fault == "I/O errors":
            self.carrier = LoopDrive(self.ground, name="carrier", size=160 << 20)
            self.carrier.plug()
            directory = self.carrier.mount()
        _run("cp", "--sparse=always", self.template.ground / "template.img", directory / "drive.img")
        drive = LoopDrive(directory, name="drive")
        drive.mount_point = self.ground / "drive.mounted"
        drive.mount_point.mkdir()
        return drive

    def _bare(self) -> tuple[list[str], int]:
        """The directory that the drive is mounted on; its time tells also of what has come and gone."""
        point = self.drive.mount_point
        return sorted(path.name for path in point.iterdir()), point.stat().st_mtime_ns

    def _strangers(self) -> dict[str, tuple[int, int]]:
        """What else might be written to by mistake."""
        home = self.house.person.home
        paths = [path for path in home.rglob("*") if not _is_ours(str(path.relative_to(home)))]
        about = {str(path): path.lstat() for path in (*paths, Path("/"))}
        return {path: (seen.st_mtime_ns, seen.st_size) for path, seen in about.items()}

    def close(self) -> None:
        """Take all away."""
        self.signal(signal.SIGCONT, self.inhabitants())
        for agent in self.house.agents:
            agent.process.kill()
        self.house.close()
        self.signal(signal.SIGKILL, self.inhabitants())
        self.drive.close()
        if self.carrier is not None:
            self.carrier.close()


@contextmanager
def shared(ground: Path) -> Iterator[Path]:
    """A directory below which whatever is unmounted is unmounted everywhere.

    A container that begins meanwhile has a copy of all mounts, and would keep a drive alive while it runs.
    """
    _run("mount", "--bind", ground, ground)
    try:
        _run("mount", "--make-shared", ground)
        yield ground
    finally:
        _run("umount", "-l", ground)


def picture(top: Path) -> tuple[Portrait, Attributes]:
    """All of a tree that a backup has to keep."""
    attributes = {}
    for path in top.rglob("*"):
        names = os.listxattr(path, follow_symlinks=False)
        for name in names:
            key = os.fsencode(path.relative_to(top)) + b"\0" + os.fsencode(name)
            attributes[key] = os.getxattr(path, name, follow_symlinks=False)
    return portrait(top), attributes


def _is_ours(path: str) -> bool:
    return any(path == own or path.startswith(f"{own}/") or own.startswith(f"{path}/") for own in OURS)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "X"


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()
