"""What people and scripts wait for loads only what it needs."""

import subprocess
import sys

import pytest

from tests.cli.house import House

SLOW = {"asyncio", "ssl", "rich", "dbus_fast", "pyudev", "yaml", "msgspec", "pathspec"}


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (("status", "--json"), set()),
        (("status", "--tree", "--json"), set()),
        (("history", "--json"), set()),
        (("why", "--json"), set()),
        (("status",), {"rich"}),
    ],
    ids=" ".join,
)
def test_a_command_beside_an_agent_imports_nothing_slow(
    living: House, command: tuple[str, ...], needed: set[str]
) -> None:
    """No event loop, no YAML, no udev; rich only where people read."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "usbbackup", *command],
        env=living.env,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert SLOW & imported == needed


def test_status_without_an_agent_has_no_event_loop_either(house: House) -> None:
    """It reads the configuration and asks udev, and imports nothing that acts."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "usbbackup", "status", "--json"],
        env=house.env,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert {"asyncio", "usbbackup.otp", "usbbackup.programs", "usbbackup.backup.perform"} & imported == set()
    assert "usbbackup.agent.glance" in imported
