"""Real drives for tests: loop devices with udev, and an ordinary user to meet them as.

Without root or the needed programs these tests are skipped, and say why.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo import loop_drive
from demo.loop_drive import LoopDrive

REPOSITORY = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class OrdinaryUser:
    """Somebody without any privilege, with a home that is theirs."""

    home: Path
    uid: int = 65534
    gid: int = 65534

    @property
    def owner(self) -> tuple[int, int]:
        """What `LoopDrive(owner=...)` takes."""
        return self.uid, self.gid

    def command(self, *command: str | Path) -> tuple[str, ...]:
        """A command line that becomes this user first."""
        drop = ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--")
        return (*drop, *map(str, command))

    @property
    def environment(self) -> Mapping[str, str]:
        """As after a login: nothing of root's."""
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.home / ".run"),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, in their home."""
        done = subprocess.run(
            self.command(*command),
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def python(self, code: str, *arguments: str | Path) -> str:
        """Run Python code as this user with our package at hand; returns what it printed."""
        return self.run(sys.executable, "-c", code, *arguments).stdout


@pytest.fixture(scope="session")
def udevd() -> Iterator[None]:
    """Udev runs for as long as any test needs it."""
    if reason := loop_drive.missing():
        pytest.skip(reason)
    with loop_drive.udevd():
        yield


@pytest.fixture
def ground() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own are closed to all but root."""
    path = Path(tempfile.mkdtemp(prefix="usbbackup-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    # --one-file-system: were anything still mounted in there, it must not be emptied.
    subprocess.run(["rm", "-rf", "--one-file-system", path], check=True)


class Workshop:
    """Makes drives, and takes all of them away in the end."""

    def __init__(self, ground: Path) -> None:
        self._ground = ground
        self._made: list[LoopDrive] = []

    def drive(self, *, fs_type: str = "ext4", **options: Any) -> LoopDrive:
        """A new drive; skips the test where this machine cannot have it."""
        if reason := loop_drive.missing(fs_type):
            pytest.skip(reason)
        name = f"drive{len(self._made)}"
        self._made.append(LoopDrive(self._ground, name=name, fs_type=fs_type, **options))
        return self._made[-1]

    def copy(self, drive: LoopDrive) -> LoopDrive:
        """A drive with the same bytes as another."""
        self._made.append(drive.copy(f"drive{len(self._made)}"))
        return self._made[-1]

    def close(self) -> None:
        """Take all away."""
        for drive in reversed(self._made):
            drive.close()


@pytest.fixture
def workshop(udevd: None, ground: Path) -> Iterator[Workshop]:
    """Real drives: `workshop.drive(fs_type="btrfs", owner=...)`. All are gone afterwards."""
    shop = Workshop(ground)
    yield shop
    shop.close()


@pytest.fixture
def ordinary_user(ground: Path) -> OrdinaryUser:
    """An ordinary user with a home of their own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    user = OrdinaryUser(ground / "home")
    for directory in (user.home, user.home / ".run"):
        directory.mkdir(mode=0o700)
        os.chown(directory, *user.owner)
    return user
