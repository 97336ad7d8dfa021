"""`make demo`: one drive, from plug to restored file, told as it happens.

As root the drive is a loop device with a real file system, real udev events and a real mount. As an ordinary
user a directory plays the drive. Everything happens in a temporary directory that is gone afterwards.
"""

import filecmp
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from demo import loop_drive
from demo.loop_drive import LoopDrive
from usbbackup.varlink import Client

CONFIG = """\
drives:
  - {drive}
jobs:
  - name: photos
    engine: rsync
    sources: [~/Photos]
  - name: letters
    engine: borg
    sources: [~/Letters]
    passcommand: [cat, {home}/passphrase]
"""


# Ctrl-C is for the demo alone, which then ends the others in order: they are in process groups of their own.
APART: dict[str, Any] = {"process_group": 0}


class Drive(Protocol):
    """Something that can be plugged in and pulled out."""

    root: Path
    entry: str
    agent: tuple[str, ...]

    def plug(self) -> None:
        """Plug it in and have it mounted."""

    def pull(self) -> None:
        """Pull it out."""


class RealDrive:
    """A loop device: real udev events, a real mount."""

    agent = (sys.executable, "-m", "usbbackup", "daemon")

    def __init__(self, image: LoopDrive) -> None:
        self._image = image
        self.root = image.mount_point
        # A loop device is not on USB; and another drive of this label may be plugged in here.
        uuid = subprocess.check_output(["blkid", "-o", "value", "-s", "UUID", image.image], text=True).strip()
        self.entry = f"{{label: backup, uuid: {uuid}, bus: any}}"

    def plug(self) -> None:
        """Attach and mount it."""
        self._image.plug()
        self._image.mount()

    def pull(self) -> None:
        """Take it away as it is."""
        self._image.pull()


class PlayedDrive:
    """A directory; the agent's standard input is its plug."""

    entry = "{label: backup}"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.agent = (sys.executable, "-m", "demo.agent", str(root))
        self.plug_in: Any = None

    def plug(self) -> None:
        """Tell the agent that it came."""
        self._say("plug")

    def pull(self) -> None:
        """Tell the agent that it went."""
        self._say("pull")

    def _say(self, word: str) -> None:
        self.plug_in.write(word + "\n")
        self.plug_in.flush()


def main() -> int:
    """Show it, and fail loudly if anything does not hold."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with ExitStack() as stack:
            show(stack)
    except KeyboardInterrupt:
        print("\nStopped; everything is cleaned up.")
        return 130
    print("\nThat was all: plug in the drive, and the backup happens.")
    return 0


def show(stack: ExitStack) -> None:
    """The story."""
    here = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usbbackup-demo-")))
    env = a_home(here)
    home = Path(env["HOME"])
    drive = a_drive(here, stack)
    config = Path(env["XDG_CONFIG_HOME"], "usbbackup/config.yaml")
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG.format(drive=drive.entry, home=home))

    say("1. A home with photos and letters, and a configuration with two jobs")
    print(config.read_text())
    say("2. The agent starts. No drive is plugged in")
    agent = stack.enter_context(an_agent(drive, env))
    usbbackup(env, "status")

    say("3. A drive labelled 'backup' is plugged in. It is a stranger: not one byte is written to it")
    before = listing(drive.root) if isinstance(drive, PlayedDrive) else []
    drive.plug()
    stranger = wait_for_state(env, "refused")
    usbbackup(env, "drives")
    check(not (drive.root / "usbbackup").exists(), "nothing was written to the unknown drive")
    check(not before or listing(drive.root) == before, "nothing was changed on the unknown drive")
    check(stranger["enrolled"] is False, "it is not enrolled")

    say("4. It is enrolled, once. The backups begin by themselves")
    with Client.connect(Path(env["XDG_RUNTIME_DIR"], "usbbackup/control.sock")) as listener:
        events = listener.call_more("Watch")
        usbbackup(env, "drives", "enrol")
        wait_for_ends(events, {"photos", "letters"})
    usbbackup(env, "snapshots")

    say("5. One file is brought back from each, with cp and with borg alone, and compared")
    bring_back(env, home, here)

    say("6. The drive is unplugged")
    drive.pull()
    wait_for_state(env, "absent")
    usbbackup(env, "status")
    usbbackup(env, "history")
    usbbackup(env, "why")
    outcomes = [run["outcome"] for run in asked(env, "history")]
    check(outcomes == ["success", "success"], "both runs are recorded as successes")

    say("7. The agent is told to stop")
    agent.send_signal(signal.SIGTERM)
    check(agent.wait(60) == 0, "it ended in order")


def a_home(here: Path) -> dict[str, str]:
    """A small home with real files, and an environment that leads into it."""
    home = here / "home"
    for number in range(1, 25):
        photo = home / "Photos" / f"2026-{number % 12 + 1:02}" / f"IMG_{number:04}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(os.urandom(50_000))
    letters = home / "Letters"
    letters.mkdir()
    (letters / "to grandmother.txt").write_text("Dear grandmother,\nthank you for the socks.\n")
    (letters / "añejo.txt").write_text("Names of any kind are kept.\n")
    (home / "passphrase").write_text("correct horse battery staple\n")
    (home / "passphrase").chmod(0o600)
    run = here / "run"
    run.mkdir(mode=0o700)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM", "NO_COLOR") if name in os.environ}
    kept["PATH"] += ":/usr/sbin:/sbin"
    return kept | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_RUNTIME_DIR": str(run),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }


def a_drive(here: Path, stack: ExitStack) -> Drive:
    """A real one where that is possible."""
    reason = loop_drive.missing()
    if reason is None:
        stack.enter_context(loop_drive.udevd())
        image = LoopDrive(here, owner=(os.getuid(), os.getgid()))
        stack.callback(image.close)
        print("The drive of this demo is a loop device: a real file system, real udev events, a real mount.")
        return RealDrive(image)
    print(f"The drive of this demo is a directory ({reason}).")
    root = here / "drive"
    root.mkdir()
    return PlayedDrive(root)


@contextmanager
def an_agent(drive: Drive, env: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The agent, once it is ready; told to stop at the end."""
    with (
        tempfile.TemporaryDirectory() as somewhere,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
    ):
        ready.bind(f"{somewhere}/notify")
        ready.settimeout(60)
        agent = subprocess.Popen(
            drive.agent,
            env={**env, "NOTIFY_SOCKET": f"{somewhere}/notify"},
            stdin=subprocess.PIPE,
            text=True,
            **APART,
        )
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            if isinstance(drive, PlayedDrive):
                drive.plug_in = agent.stdin
            yield agent
        finally:
            agent.terminate()
            try:
                agent.wait(60)
            except subprocess.TimeoutExpired:
                agent.kill()


def usbbackup(env: Mapping[str, str], *arguments: str) -> None:
    """Run a command as the user would, and show it."""
    print(f"$ usbbackup {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "usbbackup", *arguments]
    subprocess.run(command, env=env, check=True, stdin=subprocess.DEVNULL, **APART)
    print(flush=True)


def asked(env: Mapping[str, str], *arguments: str) -> Any:
    """What a command answers with --json."""
    command = [sys.executable, "-m", "usbbackup", *arguments, "--json"]
    done = subprocess.run(
        command, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **APART
    )
    return json.loads(done.stdout)


def wait_for_state(env: Mapping[str, str], state: str) -> dict[str, Any]:
    """Ask until the drive is in that state."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        drive: dict[str, Any] = asked(env, "status")["drives"][0]
        if drive["state"] == state:
            return drive
    raise SystemExit(f"FAILED: the drive is not {state} but {drive}")


def wait_for_ends(events: Iterator[dict[str, Any]], jobs: set[str]) -> None:
    """Tell the end of each of these jobs."""
    waiting = set(jobs)
    for answer in events:
        event = answer["event"]
        if event["event"] == "ended":
            print(f"   {event['job']}: {event['outcome']}: {event['message']}", flush=True)
            check(event["outcome"] == "success", f"{event['job']} succeeded")
            waiting.discard(event["job"])
        if not waiting:
            print(flush=True)
            return


def bring_back(env: Mapping[str, str], home: Path, here: Path) -> None:
    """A photo from rsync's snapshot, a letter from borg's archive."""
    found = {one["job"]: one for one in asked(env, "snapshots")}
    back = here / "back"
    back.mkdir()
    photo = home / "Photos/2026-02/IMG_0001.jpg"
    snapshot = Path(found["photos"]["path"])
    shutil.copy2(snapshot / photo.relative_to("/"), back)
    check(filecmp.cmp(photo, back / photo.name, shallow=False), f"{photo.name} came back as it was")

    letter = home / "Letters/to grandmother.txt"
    archive = found["letters"]["snapshot"]
    repository = snapshot.parent.parent.parent / "letters/borg"
    subprocess.run(
        ["borg", "extract", f"{repository}::{archive}", str(letter.relative_to("/"))],
        env={**env, "BORG_PASSCOMMAND": f"cat {home}/passphrase", "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"},
        cwd=back,
        check=True,
        **APART,
    )
    same = filecmp.cmp(letter, back / letter.relative_to("/"), shallow=False)
    check(same, f"{letter.name} came back as it was")
    print(flush=True)


def listing(root: Path) -> list[str]:
    """Everything below a directory."""
    return sorted(str(path) for path in root.rglob("*"))


def check(holds: bool, what: str) -> None:
    """Say that something holds, or fail."""
    if not holds:
        raise SystemExit(f"FAILED: not true: {what}")
    print(f"   checked: {what}", flush=True)


def say(title: str) -> None:
    """A heading."""
    print(f"\n== {title}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
