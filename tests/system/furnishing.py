"""What a booted machine is furnished with: the program, and drives."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import Machine, User

from demo.loop_drive import LoopDrive

REPOSITORY = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("USBBACKUP_TEST_CACHE", Path.home() / ".cache/usbbackup-tests"))


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


@contextmanager
def plugged(stick: Stick, user: User, owner: int | None = None) -> Iterator[Path]:
    """The stick in the machine, mounted as a desktop does it; a path as the machine sees it."""
    at = f"/media/{user.name}/{stick.label}"
    user.machine.mount(stick.plug(user.uid if owner is None else owner), at)
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


def runs(user: User) -> list[dict[str, object]]:
    """The history, newest first."""
    return json.loads(user.done("usbbackup", "history", "--json"))  # type: ignore[no-any-return]


def outcomes(user: User) -> list[object]:
    return [run["outcome"] for run in runs(user)]
