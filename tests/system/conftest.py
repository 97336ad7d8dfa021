"""Booted machines for the system tests; `make test-system` makes what they need."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from furnishing import CACHE, REPOSITORY, Stick, booted, by_pipx
from machine import Machine, User, missing

from demo import loop_drive


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


@pytest.fixture(scope="session")
def debian12(udevd: None) -> Iterator[Machine]:
    """Debian 12, systemd 252: the program comes by pipx, for each user."""
    with booted("debian12") as machine:
        yield machine


@pytest.fixture
def stick(udevd: None) -> Iterator[Stick]:
    """A drive for one test."""
    with tempfile.TemporaryDirectory(prefix="usbbackup-stick-") as directory:
        drive = Stick(Path(directory))
        yield drive
        drive.close()


@pytest.fixture(scope="session")
def anna(debian12: Machine, wheels: Path) -> User:
    """Somebody who has installed the program as the README says."""
    user = debian12.user("anna")
    by_pipx(user, wheels)
    (user.home / "Documents").mkdir()
    (user.home / "Documents/letter").write_text("Dear David")
    user.machine.run("chown", "-R", f"{user.uid}:{user.uid}", f"/home/{user.name}/Documents")
    return user


@pytest.fixture
def configured(anna: User, stick: Stick) -> Iterator[Callable[..., User]]:
    """Sets up the service with these jobs, for this test's own stick; takes all of it away again."""

    def configure(*jobs: str, trust: str = "label") -> User:
        written = "\n".join(f"  - {{{job}}}" for job in jobs)
        drive = f"  - {{label: {stick.label}, bus: any, trust: {trust}}}"
        anna.write(".config/usbbackup/config.yaml", f"drives:\n{drive}\njobs:\n{written}\n")
        anna.done("usbbackup", "setup", "--yes")
        anna.wait_active()
        return anna

    yield configure
    anna.run("usbbackup", "uninstall", "--purge")
    anna.machine.run("rm", "-rf", f"/home/{anna.name}/.config")
