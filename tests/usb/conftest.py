"""The machine that all tests of real USB sticks share, and each test's own desk in it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.usb.desk import DOCUMENTS, Desk
from tests.usb.machine import UsbMachine, missing


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UsbMachine]:
    """Set up with no drive plugged in: the service runs and waits for one."""
    if reason := missing():
        pytest.skip(reason)
    cache = Path(os.environ.get("USBBACKUP_TEST_CACHE", Path.home() / ".cache/usbbackup-tests"))
    machine = UsbMachine(cache / "vm", tmp_path_factory.mktemp("machine"))
    machine.build()
    try:
        machine.boot()
        machine.write(f"{DOCUMENTS}/letter.txt", "Dear reader\n")
        film = ("dd", "if=/dev/urandom", f"of={DOCUMENTS}/film.bin", "bs=1M", "count=12", "status=none")
        assert machine.david(*film).returncode == 0
        setup = machine.david("usbbackup", "setup", "--yes", "--label", "backup", "--source", DOCUMENTS)
        assert setup.returncode == 0, setup.stdout + setup.stderr
        yield machine
    finally:
        machine.close()


@pytest.fixture
def desk(machine: UsbMachine, tmp_path: Path) -> Iterator[Desk]:
    """One test's."""
    desk = Desk(machine, tmp_path)
    yield desk
    desk.clear()
