"""Booted machines for the system tests; `make test-system` makes what they need."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from furnishing import CACHE, REPOSITORY, Stick, booted
from machine import Machine, missing

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
