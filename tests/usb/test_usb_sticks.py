"""Real USB sticks, emulated down to the bus: plugged, pulled, switched off; `make test-vm` runs this."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from usb_machine import Stick, UsbMachine, missing

pytestmark = pytest.mark.vm
UNIT = """\
[Service]
Type=notify
ExecStart=/usr/local/bin/usbbackup daemon
ExecReload=/usr/local/bin/usbbackup reload
KillMode=mixed
[Install]
WantedBy=default.target
"""
COPY = {"name": "home", "engine": "rsync", "sources": ["/home/david/documents"]}
SCRIPT = {"name": "script", "engine": "command", "command": ["sh", "-c", "date > backed-up.txt"]}


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UsbMachine]:
    if reason := missing():
        pytest.skip(reason)
    cache = Path(os.environ.get("USBBACKUP_TEST_CACHE", Path.home() / ".cache/usbbackup-tests"))
    machine = UsbMachine(cache / "usb", tmp_path_factory.mktemp("machine"))
    machine.build()
    machine.boot()
    machine.write("/home/david/documents/letter.txt", "Dear reader\n")
    machine.done(
        "dd", "if=/dev/urandom", "of=/home/david/documents/film.bin", "bs=1M", "count=12", "status=none"
    )
    machine.write("/home/david/.config/systemd/user/usbbackup.service", UNIT)
    configure(machine, COPY)
    machine.david("systemctl", "--user", "daemon-reload")
    started = machine.david("systemctl", "--user", "start", "usbbackup")
    assert started.returncode == 0, machine.done("journalctl", "--no-pager", "-n", "50")
    yield machine
    machine.close()


def configure(machine: UsbMachine, *jobs: dict[str, Any], **drive: Any) -> None:
    """Another configuration, which a running agent takes."""
    config = {"drives": [{"name": "backup", "label": "backup", **drive}], "jobs": jobs}
    machine.write("/home/david/.config/usbbackup/config.yaml", json.dumps(config))
    machine.david("usbbackup", "reload")


def in_state(machine: UsbMachine, state: str) -> dict[str, Any]:
    return machine.until(
        lambda: next((one for one in machine.usbbackup("status")["drives"] if one["state"] == state), None),  # type: ignore[return-value, arg-type]
        f"a drive that is {state}",
    )


def runs(machine: UsbMachine) -> list[dict[str, Any]]:
    """Oldest first."""
    return list(reversed(machine.usbbackup("history")))


def ended(machine: UsbMachine, count: int) -> dict[str, Any]:
    """The last of so many runs, once it has ended."""

    def last() -> dict[str, Any] | None:
        found = [run for run in runs(machine) if run["outcome"] is not None]
        return found[-1] if len(found) >= count else None

    return machine.until(last, f"{count} runs")  # type: ignore[return-value]


def node(machine: UsbMachine) -> str:
    """The disk that has come last."""
    return machine.until(lambda: machine.root("sh", "-c", "ls /dev/sd? | tail -1").stdout.strip(), "a disk")


def enrol(machine: UsbMachine, stick: Stick) -> None:
    """Plug it in, mount it and enrol it by hand, as one does once."""
    machine.plug(stick)
    device = node(machine)
    machine.until(lambda: "Mounted" in machine.david("udisksctl", "mount", "-b", device).stdout, "the mount")
    if stick.fs_type == "btrfs":  # its top directory is root's, as mkfs makes it
        machine.done("chown", "david:", "/media/david/backup")
    assert machine.david("usbbackup", "drives", "enrol").returncode == 0


def leave(machine: UsbMachine, stick: Stick) -> None:
    """Pull it, and wait until everybody has noticed; forget it, so that the next test begins anew."""
    machine.pull(stick)
    in_state(machine, "absent")
    for one in machine.usbbackup("status")["drives"]:
        if one["enrolled"]:
            machine.david("usbbackup", "drives", "forget", one["uuid"])


def test_a_stick_is_mounted_backed_up_to_and_done_again_at_the_next_plug(
    machine: UsbMachine, tmp_path: Path
) -> None:
    """After it was enrolled once nobody has to do anything: UDisks2 mounts it, asked by the agent."""
    configure(machine, COPY)
    stick, before = Stick(tmp_path, "plain", "ext4"), len(runs(machine))
    enrol(machine, stick)
    assert ended(machine, before + 1)["outcome"] == "success"
    machine.pull(stick)
    in_state(machine, "absent")
    machine.plug(stick)
    assert ended(machine, before + 2)["outcome"] == "success"
    assert len(machine.usbbackup("snapshots")) == 2
    leave(machine, stick)


def test_pulled_in_mid_run_it_is_interrupted_and_the_next_plug_finishes_it(
    machine: UsbMachine, tmp_path: Path
) -> None:
    stick, before = Stick(tmp_path, "pulled", "ext4"), len(runs(machine))
    configure(machine, SCRIPT)
    enrol(machine, stick)
    ended(machine, before + 1)
    machine.pull(stick)
    in_state(machine, "absent")
    configure(machine, COPY)
    machine.plug(stick, slow=True)
    machine.until(
        lambda: any(run["phase"] == "transfer" for run in machine.usbbackup("status")["runs"]), "the transfer"
    )
    machine.pull(stick)
    assert ended(machine, before + 2)["outcome"] == "interrupted"
    assert machine.root("pgrep", "-x", "rsync").returncode == 1
    machine.plug(stick)
    assert ended(machine, before + 3)["outcome"] == "success"
    (snapshot,) = machine.usbbackup("snapshots")
    machine.done("cmp", f"{snapshot['path']}/home/david/documents/film.bin", "/home/david/documents/film.bin")
    leave(machine, stick)


def test_after_the_backup_it_is_switched_off_and_gone(machine: UsbMachine, tmp_path: Path) -> None:
    """The kernel has no such disk any more when "safe to unplug" is said."""
    configure(machine, COPY, after="power-off")
    stick, before = Stick(tmp_path, "off", "ext4"), len(runs(machine))
    enrol(machine, stick)
    assert ended(machine, before + 1)["outcome"] == "success"
    in_state(machine, "absent")
    assert machine.root("sh", "-c", "ls /dev/sd?").returncode != 0
    assert "safe" in [one["verdict"] for one in machine.usbbackup("why")]
    leave(machine, stick)


def test_a_stick_whose_top_directory_is_roots_waits_with_the_command_that_mends_it(
    machine: UsbMachine, tmp_path: Path
) -> None:
    configure(machine, COPY)
    stick, before = Stick(tmp_path, "roots", "ext4", owner=0), len(runs(machine))
    machine.plug(stick)
    device = node(machine)
    machine.until(lambda: "Mounted" in machine.david("udisksctl", "mount", "-b", device).stdout, "the mount")
    refused = machine.david("usbbackup", "drives", "enrol")
    assert refused.returncode == 75
    (command,) = [line for line in refused.stderr.splitlines() if "sudo install" in line]
    machine.done("sh", "-ec", command.partition("sudo ")[2])
    assert machine.david("usbbackup", "drives", "enrol").returncode == 0
    assert ended(machine, before + 1)["outcome"] == "success"
    leave(machine, stick)


@pytest.mark.parametrize(("fs_type", "job"), [("btrfs", COPY), ("vfat", SCRIPT)])
def test_other_file_systems_are_mounted_and_backed_up_to(
    machine: UsbMachine, tmp_path: Path, fs_type: str, job: dict[str, Any]
) -> None:
    configure(machine, job)
    stick, before = Stick(tmp_path, fs_type, fs_type), len(runs(machine))
    enrol(machine, stick)
    assert ended(machine, before + 1)["outcome"] == "success"
    leave(machine, stick)
