"""Real drives for tests: loop devices with udev, and people to meet them as.

Without root or the needed programs these tests are skipped, and say why.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_process import House
from people import Code, Person, settled_in
from trees import plant

from demo import loop_drive
from demo.loop_drive import LoopDrive, shared

ORDINARY = (65534, 65534)


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
    with shared(ground):
        shop = Workshop(ground)
        yield shop
        shop.close()


@pytest.fixture(scope="session")
def readable_code() -> Iterator[Code]:
    """Our code where every user can read it: the checkout itself, or else a copy."""
    with tempfile.TemporaryDirectory(prefix="usbbackup-code-", dir="/tmp") as directory:
        here = Code()
        Path(directory).chmod(0o755)
        stranger = Person(Path("/"), *ORDINARY, here)
        can = stranger.run(here.python, "-c", "import usbbackup.config", check=False).returncode == 0
        yield here if can else here.copied_to(Path(directory))


@pytest.fixture
def ordinary_user(request: pytest.FixtureRequest, ground: Path) -> Person:
    """An ordinary user with a home of their own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    return settled_in(Person(ground / "home", *ORDINARY, request.getfixturevalue("readable_code")))


@pytest.fixture
def myself(ground: Path) -> Person:
    """Whoever runs the tests, with a home of their own."""
    return settled_in(Person(ground / "my home", os.geteuid(), os.getegid(), Code()))


@pytest.fixture
def house(request: pytest.FixtureRequest, ground: Path) -> Iterator[House]:
    """The product at one person's home; an ordinary user's where the test is parametrized with that."""
    person = request.getfixturevalue(getattr(request, "param", "myself"))
    house = House(person, f"t{ground.name[-8:]}")
    plant(house.documents, person.owner)
    yield house
    house.close()


@pytest.fixture
def stick(workshop: Workshop, house: House) -> Iterator[Callable[..., LoopDrive]]:
    """Makes drives that the house's configuration means, its person's own; to be plugged in by the test."""
    owner = house.person.owner if house.person.uid else None

    def make(**options: Any) -> LoopDrive:
        return workshop.drive(**{"label": house.label, "owner": owner, **options})

    yield make
    house.close()  # the agent goes before its drives do
