"""Booted machines for the system tests; `make test-system` makes what they need."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from machine import Machine, User, missing

from demo import loop_drive
from demo.loop_drive import LoopDrive

REPOSITORY = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("USBBACKUP_TEST_CACHE", Path.home() / ".cache/usbbackup-tests"))


@pytest.fixture(scope="session", autouse=True)
def possible() -> None:
    """Skip where no container can be booted, and say why."""
    if reason := missing(CACHE) or loop_drive.missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def udevd() -> Iterator[None]:
    """Udev runs for as long as any test needs it."""
    with loop_drive.udevd():
        yield


@pytest.fixture(scope="session")
def wheels(possible: None) -> Iterator[Path]:
    """Our wheel, and those of the libraries that it needs."""
    with tempfile.TemporaryDirectory(prefix="usbbackup-wheels-") as directory:
        pip = [sys.executable, "-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check", "wheel"]
        subprocess.run(
            [*pip, f"--wheel-dir={directory}", REPOSITORY, "pip", "setuptools", "wheel"], check=True
        )
        yield Path(directory)


@contextmanager
def booted(tree: str) -> Iterator[Machine]:
    """A machine that runs."""
    with tempfile.TemporaryDirectory(prefix=f"usbbackup-{tree}-") as directory:
        machine = Machine(CACHE / tree, Path(directory))
        try:
            machine.boot()
            yield machine
        finally:
            machine.close()


@pytest.fixture(scope="session")
def debian12(udevd: None) -> Iterator[Machine]:
    """Debian 12, systemd 252: the program comes by pipx, for each user."""
    with booted("debian12") as machine:
        yield machine


class Stick:
    """A drive with a label of its own; whoever it is plugged in for first owns its top directory."""

    def __init__(self, directory: Path) -> None:
        self.label = f"s{directory.name[-8:]}".lower()
        self._directory = directory
        self._drive: LoopDrive | None = None

    def plug(self, owner: int) -> Path:
        """Attach it; returns the device node."""
        if self._drive is None:
            self._drive = LoopDrive(self._directory, label=self.label, owner=(owner, owner))
        return self._drive.plug()

    def pull(self) -> None:
        """Take it away."""
        if self._drive is not None:
            self._drive.pull()

    def close(self) -> None:
        """Delete it."""
        if self._drive is not None:
            self._drive.close()


@pytest.fixture
def stick(udevd: None) -> Iterator[Stick]:
    """A drive for one test."""
    with tempfile.TemporaryDirectory(prefix="usbbackup-stick-") as directory:
        drive = Stick(Path(directory))
        yield drive
        drive.close()


@contextmanager
def plugged(stick: Stick, user: User) -> Iterator[Path]:
    """The stick in the machine, mounted as a desktop does it; a path as the machine sees it."""
    at = f"/media/{user.name}/{stick.label}"
    user.machine.mount(stick.plug(user.uid), at)
    try:
        yield Path(at)
    finally:
        user.machine.run("umount", "-l", at, check=False)
        stick.pull()


def by_pipx(user: User, wheels: Path) -> None:
    """Install the program as the README says, from wheels instead of the network."""
    place = user.machine.root / "wheels"
    if not place.exists():
        subprocess.run(["cp", "-r", wheels, place], check=True)
        subprocess.run(["chmod", "-R", "a+rX", place], check=True)
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    (wheel,) = place.glob("usbbackup-*.whl")
    user.done("pipx", "install", f"/wheels/{wheel.name}", env=offline)
