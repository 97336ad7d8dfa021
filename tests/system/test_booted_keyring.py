"""A passphrase in the desktop's keyring, a real one: open while somebody is logged in, or locked."""

import json
from collections.abc import Iterator

import pytest
from furnishing import Stick, outcomes, plugged
from machine import User, until

pytestmark = pytest.mark.system

SERVICE = ("org.freedesktop.secrets", "/org/freedesktop/secrets", "org.freedesktop.Secret.Service")


def unlock(user: User) -> None:
    """As PAM does it at login."""
    opened = "exec gnome-keyring-daemon --replace --unlock --components=secrets >/dev/null 2>&1"
    user.done("sh", "-c", opened, stdin="the login password")


def lock(user: User) -> None:
    """As when the screen is locked, where the user wants that."""
    keyring = f"{SERVICE[1]}/collection/login"
    user.done("busctl", "--user", "call", *SERVICE, "Lock", "ao", "1", keyring)


@pytest.fixture
def keyring(anna: User) -> Iterator[User]:
    """Anna, at a desktop with an open keyring."""
    unlock(anna)
    yield anna
    anna.run("usbbackup", "uninstall", "--purge")
    anna.run("pkill", "-x", "gnome-keyring-d", check=False)
    anna.machine.run("sh", "-c", f"rm -rf /home/{anna.name}/.config /home/{anna.name}/.local/share/[uk]*")


def test_a_passphrase_in_the_keyring_is_read_by_the_service_and_waited_for_while_that_is_locked(
    keyring: User, stick: Stick
) -> None:
    anna = keyring

    def reason() -> str:
        (drive,) = json.loads(anna.done("usbbackup", "status", "--json"))["drives"]
        return str(drive["reason"])

    documents = ("--source", f"/home/{anna.name}/Documents", "--label", stick.label, "--any-bus")
    with plugged(stick, anna):
        desktop = {"DISPLAY": ":77"}
        said = anna.done("usbbackup", "setup", "--yes", "--engine", "borg", *documents, env=desktop)
        assert "the passphrase is kept in your keyring" in said
        assert "home: success" in said
        secret = anna.done("secret-tool", "lookup", "usbbackup", "home").strip()
        assert len(secret) > 30
        assert anna.run("grep", "-r", secret, ".config", ".local", check=False).returncode == 1
        assert secret not in said + anna.journal()
    lock(anna)
    with plugged(stick, anna):
        until(lambda: reason().startswith("waiting-for-secret: job 'home'"), "the job to wait")
        assert outcomes(anna) == ["success"]  # no run, so none that has failed
        unlock(anna)
        assert "home: success" in anna.done("usbbackup", "start", "home", "--wait")
    assert outcomes(anna) == ["success", "success"]
