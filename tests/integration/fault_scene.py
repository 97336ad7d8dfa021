"""One home and one drive to which a fault is done, and what has to be true of them afterwards."""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_process import BORG_ANSWERS, Agent, until
from fault_gates import Gate, Hold, Lease
from fault_matrix import Cell
from fault_template import MANY, MOUNTED, Attributes, Portrait, Template, picture, run
from people import Person

from demo.loop_drive import LoopDrive

GATED_AGENT = Path(__file__).with_name("gated_agent.py")
EXT4_IOC_SHUTDOWN = 0x8004587D  # linux/fs/ext4: takes a u32; 0 writes out what is dirty first
OURS = (".local/share/usbbackup", ".local/state/usbbackup", ".cache/usbbackup", ".config/borg", ".run")
PRUNING = {"keep": {"last": 1}}
VERIFYING = {"verify": {"every": "1d", "sample": 5}}


@dataclass(frozen=True)
class HeldBack(Person):
    """A person whose agent stops at a gate."""

    gate: Gate

    def command(self, *command: str | Path) -> tuple[str, ...]:
        """The agent's command line, and any other one, as this person."""
        if command[1:] == ("-m", "usbbackup", "daemon"):
            command = (command[0], GATED_AGENT, self.gate.phase, self.gate.directory)
        return super().command(*command)


class Scene:
    """One cell: from the plug of the drive to the backup after the one that was hit."""

    def __init__(self, template: Template, cell: Cell, ground: Path) -> None:
        self.template, self.cell, self.ground = template, cell, ground
        self.house = template.house
        template.restore()
        self.carrier: LoopDrive | None = None
        self.gate: Lease | Hold | Gate | None = None
        self._configure()
        self.drive = self._drive()
        self.bare = self._bare()
        self.strangers = self._strangers()

    # before the fault

    def begin(self) -> None:
        """Plug the drive in, start the agent, and wait until it holds still at the phase."""
        self.plug()
        self.gate = self._gate()
        person = self.house.person
        if isinstance(self.gate, Gate):
            person = HeldBack(person.home, person.uid, person.gid, person.code, self.gate)
        self.start(person)
        self._wait_at_the_gate()
        if self.cell.phase == "prune delete":
            begun, self.gate = self.gate, Hold(self.drive.mount_point, self._is_new_segment())
            until(begun.open, "borg to begin")
            self._wait_at_the_gate()

    def _configure(self) -> None:
        """Have the job do what the cell is about."""
        more = {"prune": PRUNING, "verify": VERIFYING}.get(self.cell.step, {})
        self.house.configure(self.house.job(self.template.kind.program, **more))
        if self.cell.phase == "compare":
            shutil.rmtree(self.house.person.home / ".cache/usbbackup/manifests")

    def _gate(self) -> Lease | Hold | Gate:
        point, (step, _, moment) = self.drive.mount_point, self.cell.phase.removesuffix(" %").partition(" ")
        match step, moment:
            case "transfer", percent:
                file = self.template.nth(MANY * int(percent) // 100)
                if self.template.kind.program == "rsync":
                    return Lease(file)
                moment = str(file)  # borg waits for no lease (O_NONBLOCK), but for its list
            case "clone" | "compare", _:
                return Hold(point, lambda path: "/snapshots/" in path and path.endswith("/crowd/20"))
            case "refresh", _:
                return Hold(point, lambda path: "/incomplete-" in path and path.endswith("/letters"))
            case "prune", "empty":
                return Hold(point, lambda path: ".removed/" in path and path.endswith("/letters"))
            case "verify", "sums":
                return Hold(point, lambda path: "/snapshots/" in path and path.endswith("/new/100"))
            case "verify", "drill":
                moment = "extract" if self.template.kind.program == "borg" else "rsync"
            case _ if self.cell.fault == "engine killed" and not moment:
                moment = "program"
        return Gate(self.ground / "gate", f"{step} {moment}".strip())

    def _is_new_segment(self) -> Callable[[str], bool]:
        there = {path.name for path in self.drive.mount_point.glob("usbbackup/*/*/*/borg/data/*/*")}
        return lambda path: "/borg/data/" in path and path.rpartition("/")[2] not in there

    def _wait_at_the_gate(self) -> None:
        agent, deadline = self.house.agent, time.monotonic() + 60
        while not self.gate.reached():
            told = f"{self.cell.phase} is not reached:\n{agent.log.read_text()}"
            assert agent.process.poll() is None, told
            assert time.monotonic() < deadline, told + self._told()
            time.sleep(0.005)

    def start(self, person: Person | None = None) -> None:
        """Start an agent."""
        house = self.house
        log = house.person.home / ".run/agent.log"
        house.agents.append(Agent(person or house.person, house.environment, log))

    def plug(self, look: Callable[[], None] | None = None) -> None:
        """Plug the drive in, which is mounted at once; `look` at it before it may be written to."""
        options = MOUNTED[self.template.kind.fs_type]
        self.drive.plug()
        if look is None:
            self.drive.mount(options=options)
            return
        self.drive.mount(options="ro")
        self.house.wait_for_drive("waiting")
        look()
        run("mount", "-o", f"remount,{options}", self.drive.mount_point)

    # faults are made of these

    def go(self) -> None:
        """Let everything that holds still go on."""
        if self.house.agent.process.poll() is None or not isinstance(self.gate, Gate):
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
        if isinstance(self.gate, Hold):
            self.gate.open()  # who waits in there stops when they come back from it
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
        self.template.keep_home(self.ground / "home.cut")
        run("cp", "--sparse=always", image or self.drive.image, self.ground / "cut.img")
        self.signal(signal.SIGKILL, self.inhabitants())
        self.house.agent.process.wait(60)
        until(lambda: not self.inhabitants(), "everything to be dead")
        self.take_away()
        self.template.restore(self.ground / "home.cut")
        (self.ground / "cut.img").rename(self.drive.image)

    def take_away(self) -> None:
        """Pull the drive, and wait until nothing keeps its file system alive."""
        self.drive.pull()
        # A container of somebody else's has copies of all mounts, and may keep them for as long as it runs.
        until(lambda: not run("losetup", "-j", self.drive.image), "the loop device to be free", seconds=300)

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

    def check_snapshots(self) -> list[str]:
        """Those that are listed are what they were when they were made; the source is untouched."""
        snapshots = self.house.snapshots()
        assert snapshots
        for snapshot in snapshots:
            is_first = snapshot["snapshot"] == self.template.earlier
            assert self._kept(snapshot) == (self.template.first if is_first else self.template.second)
        assert picture(self.house.documents) == self.template.second
        return [snapshot["snapshot"] for snapshot in snapshots]

    def check_all_is_done(self, last: dict[str, Any]) -> None:
        """After this run nothing is missing, and nothing is left that was in the way."""
        names = self.check_snapshots()
        assert names[-1] == last["snapshot"]
        assert len(names) == 1 if self.cell.step == "prune" else names[0] == self.template.earlier
        (job,) = self.drive.mount_point.glob(f"usbbackup/*/*/{last['job']}")
        assert not [*job.glob("incomplete-*"), *job.glob("borg/lock.exclusive")]
        assert not [*(self.house.person.home / ".cache/usbbackup").glob("drills/*")]
        if self.cell.step == "verify":
            (proven,) = (state["last_proven"] for state in self.house.json("status")["jobs"][0]["drives"])
            assert proven is not None

    def _told(self) -> str:
        """The log of the last run."""
        return self.house.done("history", self.house.runs()[-1]["run"])

    def _kept(self, snapshot: dict[str, Any]) -> tuple[Portrait, Attributes]:
        inside = self.house.documents.relative_to("/")
        if snapshot["path"]:
            return picture(Path(snapshot["path"]) / inside)
        (repository,) = self.drive.mount_point.glob(f"usbbackup/*/*/{snapshot['job']}/borg")
        with tempfile.TemporaryDirectory(dir=self.ground) as place:
            # With a home of its own, so that the agent's borg does not learn anything here.
            environment = {**self.house.environment, **BORG_ANSWERS, "HOME": f"{place}/home"}
            archive = f"{repository}::{snapshot['snapshot']}"
            extract = ("borg", "extract", "--bypass-lock", "--numeric-ids", archive)
            subprocess.run(extract, cwd=place, env=environment, stdin=subprocess.DEVNULL, check=True)
            return picture(Path(place) / inside)

    def _drive(self) -> LoopDrive:
        directory = self.ground
        if self.cell.fault == "I/O errors":
            self.carrier = LoopDrive(self.ground, name="carrier", size=160 << 20)
            self.carrier.plug()
            directory = self.carrier.mount()
        run("cp", "--sparse=always", self.template.ground / "template.img", directory / "drive.img")
        drive = LoopDrive(directory, name="drive", fs_type=self.template.kind.fs_type)
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
        if isinstance(self.gate, Lease | Hold):
            self.gate.open()
        self.signal(signal.SIGCONT, self.inhabitants())
        for agent in self.house.agents:
            agent.process.kill()
        self.house.close()
        self.signal(signal.SIGKILL, self.inhabitants())
        self.drive.close()
        if self.carrier is not None:
            self.carrier.close()


def _is_ours(path: str) -> bool:
    return any(path == own or path.startswith(f"{own}/") or own.startswith(f"{path}/") for own in OURS)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return "X"
