"""A real UDisks2 on a bus of its own: nobody but root is allowed anything, since there is no polkit."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mocked_bus import MockedBus

UDISKSD = Path("/usr/libexec/udisks2/udisksd")


def missing() -> str | None:
    """Why there can be none here."""
    for program in ("dbus-daemon", "busctl", str(UDISKSD)):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


@contextmanager
def udisksd(directory: Path) -> Iterator[str]:
    """Run it, and give the address of its bus."""
    bus = MockedBus(directory)
    bus.start()
    env = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address, "PATH": "/usr/sbin:/usr/bin"}
    with (directory / "udisks.log").open("wb") as log:
        daemon = subprocess.Popen([UDISKSD], env=env, stdout=log, stderr=log)
        try:
            _wait(bus.address)
            yield bus.address
        finally:
            daemon.terminate()
            daemon.wait(30)
            bus.end()


def _wait(address: str) -> None:
    manager = ("org.freedesktop.UDisks2", "/org/freedesktop/UDisks2/Manager")
    ping = ["busctl", f"--address={address}", "call", *manager, "org.freedesktop.DBus.Peer", "Ping"]
    for _ in range(200):
        if subprocess.run(ping, capture_output=True).returncode == 0:
            return
        time.sleep(0.05)  # it has no other way to say that it listens
    raise AssertionError("udisksd did not come up")
