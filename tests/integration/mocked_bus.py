"""A message bus of the test's own, with services that python-dbusmock plays on it."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from usbbackup.bus import BusError, MessageBusAt, Place

PYTHON = "/usr/bin/python3"  # Debian's, which has the package python3-dbusmock
_BUS = """<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"""
MOCK = "org.freedesktop.DBus.Mock"


def missing() -> str | None:
    """Why there can be none here."""
    if shutil.which("dbus-daemon") is None:
        return "dbus-daemon is not installed"
    has_it = subprocess.run([PYTHON, "-c", "import dbusmock"], capture_output=True)
    return "python3-dbusmock is not installed" if has_it.returncode else None


class MockedBus:
    """The bus, and what is said to the services on it."""

    def __init__(self, directory: Path) -> None:
        self.address = f"unix:path={directory}/bus"
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the bus alone."""
        config = self._directory / "bus.conf"
        config.write_text(_BUS.format(path=self._directory / "bus"))
        command = ["dbus-daemon", f"--config-file={config}", "--print-address", "--nofork"]
        bus = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._processes.append(bus)
        assert bus.stdout is not None
        bus.stdout.readline()

    def play(self, template: str, *more: str) -> None:
        """Have a service played, by one of dbusmock's templates."""
        with self.log(template).open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [PYTHON, "-u", "-m", "dbusmock", "--template", template, *more],
                    env=dict.fromkeys(("DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"), self.address),
                    stdout=log,
                    stderr=log,
                )
            )

    def log(self, template: str) -> Path:
        """What the service was asked, a line for each call."""
        return self._directory / f"{template}.log"

    def asked(self, template: str, method: str) -> list[str]:
        """The calls of one method, in order."""
        return re.findall(rf"^[\d.]+ {method}(.*)$", self.log(template).read_text(), re.MULTILINE)

    async def ready(self, bus: MessageBusAt, place: Place) -> None:
        """Wait until a played service answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(BusError):
                await bus.call(place.at(place.path, "org.freedesktop.DBus.Peer"), "Ping")
                return
            time.sleep(0.05)  # noqa: ASYNC251 - nothing else goes on meanwhile
        raise AssertionError(f"{place.service} did not come up")

    def end(self) -> None:
        """End everything, the bus last."""
        while self._processes:
            process = self._processes.pop()
            process.terminate()
            process.wait(30)
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def mocked_bus(directory: Path) -> Iterator[MockedBus]:
    """A bus for as long as the block runs; skips the test where there can be none."""
    if reason := missing():
        pytest.skip(reason)
    bus = MockedBus(directory)
    bus.start()
    try:
        yield bus
    finally:
        bus.end()
