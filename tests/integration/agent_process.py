"""The whole product as a process: one person's agent, configuration and command line, until `close`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from people import Person
from trees import Entry, portrait

from usbbackup.clock import SystemClock
from usbbackup.history import History

T = TypeVar("T")
PATIENCE = 60.0  # seconds for anything; a machine that is busy with other work is slow

SLOW = {
    "rsync": 'exec {real} --bwlimit=300 "$@"',
    "borg": '[ "$1" = create ] || exec {real} "$@"; shift; exec {real} create --compression=lzma,9 "$@"',
}

BORG_ANSWERS = {
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
}

# As the agent's own user, since the socket answers to nobody else.
WATCH = """
import json, pathlib, sys
from usbbackup.errors import NoAgentError
from usbbackup.varlink import Client
try:
    with Client.connect(pathlib.Path(sys.argv[1])) as agent:
        for answer in agent.call_more("Watch"):
            print(json.dumps(answer["event"]), flush=True)
except NoAgentError:
    pass
"""


def until(found: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Ask again and again until the answer is a true one, and return it: for what no event tells."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)
    return answer


class Agent:
    """A running `usbbackup daemon`: what it tells its manager, and what happens to its runs."""

    def __init__(self, person: Person, environment: Mapping[str, str], log: Path) -> None:
        self.told: list[str] = []  # every assignment sent to NOTIFY_SOCKET, in order
        self.events: list[dict[str, Any]] = []
        self.log = log
        self._news = Event()
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"\0usbbackup-test-{os.getpid()}-{id(self)}"
        self._listening.bind(address)
        self._listener = Thread(target=self._listen)
        self._listener.start()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                person.command(person.code.python, "-m", "usbbackup", "daemon"),
                env={**environment, "NOTIFY_SOCKET": address.replace("\0", "@")},
                cwd=person.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                umask=0o077,  # what a script sees must not depend on it
            )
        self._watching: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def status_lines(self) -> list[str]:
        """What `systemctl status` would have shown, in order."""
        return [line.removeprefix("STATUS=") for line in self.told if line.startswith("STATUS=")]

    def wait_for(self, found: Callable[[], T], what: str) -> T:
        """Look again at everything that the agent tells, until it is there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self.process.poll() is not None
            self._news.clear()
            if answer := found():
                return answer
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"waited for {what}; the agent's own words:\n{self.log.read_text()}")
            self._news.wait(0.5)

    def watch(self, person: Person, socket_path: Path) -> None:
        """Collect what happens to runs from now on."""
        self._watching = subprocess.Popen(
            person.command(person.code.python, "-c", WATCH, socket_path),
            env=person.environment,
            cwd=person.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._watcher = Thread(target=self._collect)
        self._watcher.start()

    def kill(self) -> None:
        """As a power cut would: it cannot say a word."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """Ask it to end in order, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """See to it that it is gone, whatever has happened."""
        try:
            if self.process.poll() is None:
                self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
        if self._watching is not None:
            self._watching.kill()
            self._watcher.join()
            self._watching.communicate()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", self._listening.getsockname())
        self._listener.join()
        self._listening.close()

    def _listen(self) -> None:
        while data := self._listening.recv(8192):
            self.told += data.decode().splitlines()
            self._news.set()

    def _collect(self) -> None:
        assert self._watching is not None and self._watching.stdout is not None
        for line in self._watching.stdout:
            self.events.append(json.loads(line))
            self._news.set()


class House:
    """Where one person lives: something to back up, a configuration, at most one agent, the command line."""

    def __init__(self, person: Person, label: str) -> None:
        self.person = person
        self.label = label  # of this test's drives alone
        self.environment = dict(person.environment)
        self.documents = person.home / "documents"
        self.agents: list[Agent] = []

    @property
    def agent(self) -> Agent:
        """The one that was started last."""
        return self.agents[-1]

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.person.home / ".config/usbbackup/config.yaml"

    @property
    def history(self) -> Path:
        """The database of runs."""
        return self.person.home / ".local/state/usbbackup/history.db"

    @property
    def socket(self) -> Path:
        """Where the agent listens."""
        return self.person.home / ".run/usbbackup/control.sock"

    def write(self, path: Path, text: str, mode: int = 0o644) -> Path:
        """A file of this person's."""
        missing = [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]
        for directory in reversed(missing):
            directory.mkdir()
            os.chown(directory, *self.person.owner)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, *self.person.owner)
        return path

    def drive_entry(self, **more: Any) -> dict[str, Any]:
        """The configuration of this test's drives; loop devices are not on USB."""
        return {"name": "stick", "label": self.label, "bus": "any", **more}

    def job(self, engine: str, name: str | None = None, **more: Any) -> dict[str, Any]:
        """A job that backs the documents up."""
        free = {"encryption": "none"} if engine == "borg" else {}
        return {"name": name or engine, "engine": engine, "sources": [str(self.documents)], **free, **more}

    def configure(self, *jobs: Mapping[str, Any], drives: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write the configuration; JSON is YAML too."""
        self.write(
            self.config, json.dumps({"drives": list(drives) or [self.drive_entry()], "jobs": list(jobs)})
        )

    def be_slow(self) -> None:
        """Let rsync and borg, the real ones, take their time from now on."""
        programs = self.person.home / "bin"
        for name, slow in SLOW.items():
            real = shutil.which(name)
            text = f'#!/bin/sh\n[ -e "$HOME/slow" ] || exec {real} "$@"\n{slow.format(real=real)}\n'
            self.write(programs / name, text, 0o755)
        self.write(self.person.home / "slow", "")
        self.environment["PATH"] = f"{programs}:{self.person.environment['PATH']}"

    def be_quick(self) -> None:
        """And no longer."""
        (self.person.home / "slow").unlink()

    def start(self) -> Agent:
        """Start the agent and wait until it says that it is ready."""
        self.agents.append(Agent(self.person, self.environment, self.person.home / "agent.log"))
        self.agent.wait_for(lambda: "READY=1" in self.agent.told, "READY=1")
        self.agent.watch(self.person, self.socket)
        return self.agent

    def cli(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `usbbackup` with these arguments."""
        return subprocess.run(
            self.person.command(self.person.code.python, "-m", "usbbackup", *arguments),
            env=self.environment,
            cwd=self.person.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )

    def begun(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Run `usbbackup` and do not wait for its end."""
        return subprocess.Popen(
            self.person.command(self.person.code.python, "-m", "usbbackup", *arguments),
            env=self.environment,
            cwd=self.person.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self, *arguments: str | Path) -> str:
        """Run `usbbackup`, which has to succeed; returns what it printed."""
        ended = self.cli(*arguments)
        assert ended.returncode == 0, f"{arguments}: {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def json(self, *arguments: str | Path) -> Any:
        """What a command answers with --json."""
        return json.loads(self.done(*arguments, "--json"))

    def refused(self, *arguments: str | Path) -> dict[str, Any]:
        """The error that a command answers with --json; its code is the exit code."""
        ended = self.cli(*arguments, "--json")
        error: dict[str, Any] = json.loads(ended.stdout)["error"]
        assert ended.returncode == error["code"]
        assert not ended.stderr
        return error

    def drive(self, uuid: str | None = None) -> dict[str, Any]:
        """The one drive of `status`, or the one with this UUID."""
        drives = self.json("status")["drives"]
        (found,) = [drive for drive in drives if uuid in (None, drive["uuid"])]
        return found  # type: ignore[no-any-return]

    def wait_for_drive(self, state: str, uuid: str | None = None) -> dict[str, Any]:
        """Wait until `status` shows the drive in this state."""

        def there() -> dict[str, Any] | None:
            drive = self.drive(uuid)
            return drive if drive["state"] == state else None

        return until(there, f"the drive to be {state}")  # type: ignore[return-value]

    def runs(self) -> list[dict[str, Any]]:
        """The history, oldest first."""
        return list(reversed(self.json("history", "--limit", "1000")))

    def wait_ended(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many runs have ended in all, and return them, oldest first."""

        history = History.open(self.history, SystemClock(), readonly=True)
        try:
            self.agent.wait_for(
                lambda: sum(run.outcome is not None for run in history.runs(1000)) >= count,
                f"{count} runs to end",
            )
        finally:
            history.close()
        ended = [run for run in self.runs() if run["outcome"] is not None]
        assert len(ended) == count
        return ended

    def wait_for_transfer(self, job: str) -> dict[str, Any]:
        """Wait until this job has copied something, and has not copied all."""
        return self.agent.wait_for(
            lambda: next((event for event in self.agent.events if _copies(event, job)), None),
            f"job {job} to copy",
        )

    def snapshots(self, job: str | None = None) -> list[dict[str, Any]]:
        """What `snapshots` lists, oldest first."""
        found = self.json("snapshots", *(("--job", job) if job else ()))
        return sorted(found, key=lambda snapshot: snapshot["time"])

    def restored(self, snapshot: Mapping[str, Any]) -> dict[bytes, Entry]:
        """The documents as a snapshot has them: looked at where they are, or taken out by borg itself."""
        inside = self.documents.relative_to("/")
        if snapshot["path"]:
            return portrait(Path(snapshot["path"]) / inside)
        mounted = Path(self.drive(snapshot["drive"])["mount_point"])
        (repository,) = mounted.glob(f"usbbackup/*/*/{snapshot['job']}/borg")
        with tempfile.TemporaryDirectory() as place:
            extract = ("borg", "extract", "--numeric-ids", f"{repository}::{snapshot['snapshot']}")
            # As root, so that owners come back; with a cache of its own, so that nothing of root's gets in.
            environment = {**self.environment, **BORG_ANSWERS, "HOME": f"{place}/home"}
            subprocess.run(extract, cwd=place, env=environment, stdin=subprocess.DEVNULL, check=True)
            return portrait(Path(place) / inside)

    def close(self) -> None:
        """End every agent."""
        while self.agents:
            self.agents.pop().close()


def _copies(event: Mapping[str, Any], job: str) -> bool:
    return event["job"] == job and event["phase"] == "transfer" and bool(event["bytes"])


def family(pid: int) -> set[int]:
    """All descendants of a process that are alive."""
    found = set[int]()
    todo = [pid]
    while todo:
        for task in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            with suppress(OSError):
                children = {int(child) for child in task.read_text().split()}
                todo += children - found
                found |= children
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of these processes that have not ended."""
    return {pid for pid in pids if Path(f"/proc/{pid}").exists() and not _zombie(pid)}


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True
