"""A real UDisks2 on a bus of its own: nobody but root is allowed anything, since there is no polkit."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UDISKSD = Path("/usr/libexec/udisks2/udisksd")
_BUS = """<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>"""


def missing() -> str | None:
    """Why there can be none here."""
    for program in ("dbus-daemon", "busctl", str(UDISKSD)):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


@contextmanager
def udisksd(directory: Path) -> Iterator[str]:
    """Run it, and give the address of its bus."""
    path = directory / "bus"
    (directory / "bus.conf").write_text(_BUS.format(path=path))
    address = f"unix:path={path}"
    with (directory / "udisks.log").open("wb") as log:
        bus = subprocess.Popen(
            [
                "dbus-daemon",
                f"--config-file={directory}/bus.conf",
                "--print-address",
                "--nofork",
                "--nopidfile",
            ],
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert bus.stdout is not None
        bus.stdout.readline()
        daemon = subprocess.Popen(
            [UDISKSD],
            env={"DBUS_SYSTEM_BUS_ADDRESS": address, "PATH": "/usr/sbin:/usr/bin"},
            stdout=log,
            stderr=log,
        )
        try:
            _wait(address)
            yield address
        finally:
            for process in (daemon, bus):
                process.terminate()
                process.wait(30)
            bus.stdout.close()


def _wait(address: str) -> None:
    ping = [
        "busctl",
        f"--address={address}",
        "call",
        "org.freedesktop.UDisks2",
        "/org/freedesktop/UDisks2/Manager",
    ]
    for _ in range(200):
        if subprocess.run([*ping, "org.freedesktop.DBus.Peer", "Ping"], capture_output=True).returncode == 0:
            return
        time.sleep(0.05)  # it has no other way to say that it listens
    raise AssertionError("udisksd did not come up")
