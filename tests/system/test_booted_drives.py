"""Drives that somebody has to do something about first: root, or a mount on demand."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from furnishing import Stick, outcomes, plugged
from machine import User, until

pytestmark = pytest.mark.system

SUDO = "anna ALL=(root) NOPASSWD: /usr/bin/install"


@pytest.fixture
def fresh(anna: User, stick: Stick) -> Iterator[tuple[User, Path]]:
    """A stick as `mkfs.ext4` leaves it: only root may write to its top directory."""
    anna.machine.run("sh", "-c", f"echo '{SUDO}' > /etc/sudoers.d/install")
    with plugged(stick, anna, owner=0) as at:
        yield anna, at
    anna.machine.run("rm", "/etc/sudoers.d/install")
    anna.run("usbbackup", "uninstall", "--purge")


def answered(user: User, answers: str, *command: str) -> tuple[int, str]:
    """What a command says at a terminal where somebody answers; its exit code with it."""
    script = ("script", "--quiet", "--return", "--echo=never", "--command", " ".join(command), "/dev/null")
    done = user.run(*script, stdin=answers, check=False)
    return done.returncode, done.stdout.replace("\r", "")


def test_what_root_must_do_on_a_fresh_stick_is_offered_and_done_if_the_user_wants_it(
    fresh: tuple[User, Path], stick: Stick
) -> None:
    anna, at = fresh
    setup = (
        "usbbackup",
        "setup",
        "--label",
        stick.label,
        "--any-bus",
        "--engine",
        "rsync",
        "--source",
        "Documents",
    )
    # May the drive hold backups? Yes. Run the one command? No.
    code, said = answered(anna, "y\nn\n", *setup)
    assert "Run it now?" in said
    command = said.partition("This has to be run once:  ")[2].splitlines()[0]
    assert command.startswith("sudo install -d -o anna -g anna -m ")
    assert command.endswith(f" {at}/usbbackup")
    assert code == 75
    assert not anna.run("ls", at / "usbbackup", check=False).stdout
    assert anna.show("usbbackup", "ActiveState")["ActiveState"] == "active"
    # The same again, and yes: it goes on to the first backup.
    code, said = answered(anna, "y\ny\n", "usbbackup", "setup")
    assert (code, "home: success" in said) == (0, True), said
    assert outcomes(anna) == ["success"]


def test_a_drive_that_is_mounted_on_demand_is_backed_up_to_without_anybody_opening_it(
    configured: Callable[..., User], stick: Stick
) -> None:
    anna = configured("name: script, engine: command, command: ['true']")
    machine, at = anna.machine, f"/mnt/{stick.label}"
    unit = machine.run("systemd-escape", "--path", at).stdout.strip()

    def plug() -> None:
        node = stick.plug(anna.uid)
        machine.run("mkdir", "-p", at)
        # Below /dev, systemd would wait for its own udev, which a container has not.
        machine.run("sh", "-c", f"rm -f /srv/stick; cp -a {machine.node(node)} /srv/stick")

    plug()
    machine.run(
        "sh", "-c", f"cat > /run/systemd/system/{unit}.mount", stdin=f"[Mount]\nWhat=/srv/stick\nWhere={at}\n"
    )
    machine.run("sh", "-c", f"cat > /run/systemd/system/{unit}.automount", stdin=f"[Automount]\nWhere={at}\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", f"{unit}.automount")
    try:
        anna.done("ls", at)  # whoever uses it for the first time opens it
        until(lambda: outcomes(anna) == ["success"], "the first run")
        machine.run("systemctl", "stop", f"{unit}.mount")
        stick.pull()
        until(lambda: "is gone" in anna.journal("--unit", "usbbackup"), "the drive to be missed")
        plug()
        until(lambda: outcomes(anna) == ["success", "success"], "the second run")
        assert f"mounted by opening {at}" in anna.journal("--unit", "usbbackup")
    finally:
        machine.run("systemctl", "stop", f"{unit}.automount", f"{unit}.mount", check=False)
        machine.run("sh", "-c", f"rm /run/systemd/system/{unit}.*; systemctl daemon-reload")
