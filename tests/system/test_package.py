"""The Debian package in a booted Debian 13: installed, used by several users, purged."""

import json
import subprocess
from collections.abc import Iterator

import pytest
from furnishing import CACHE, REPOSITORY, Stick, booted, plugged
from machine import Machine, User

pytestmark = pytest.mark.system

UNITS = "/usr/lib/systemd/user/usbbackup.service"


@pytest.fixture(scope="module")
def debian13(udevd: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Debian 13, systemd 257, with the package that is built from this tree."""
    out = tmp_path_factory.mktemp("deb")
    make = [REPOSITORY / "packaging/make-deb", CACHE / "debian13", out]
    built = subprocess.run(make, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr  # lintian's word is in it
    with booted("debian13") as machine:
        (deb,) = out.glob("*.deb")
        (machine.root / "usbbackup.deb").write_bytes(deb.read_bytes())
        machine.run("dpkg", "--install", "/usbbackup.deb")
        yield machine


@pytest.fixture(scope="module")
def bert(debian13: Machine) -> User:
    return debian13.user("bert")


def test_it_is_enabled_for_nobody_until_they_set_it_up(debian13: Machine, bert: User, stick: Stick) -> None:
    assert bert.show("usbbackup", "LoadState", "UnitFileState", "ActiveState") == {
        "LoadState": "loaded",
        "UnitFileState": "disabled",
        "ActiveState": "inactive",
    }
    options = ("--label", stick.label, "--any-bus", "--trust", "label", "--command", "/usr/bin/true")
    with plugged(stick, bert):
        assert "script: success" in bert.done("usbbackup", "setup", "--yes", *options)
    assert bert.show("usbbackup", "FragmentPath", "UnitFileState") == {
        "FragmentPath": UNITS,
        "UnitFileState": "enabled",
    }
    bert.systemctl("start", "usbbackup-start@script")
    assert bert.show("usbbackup-start@script", "ExecMainStatus")["ExecMainStatus"] == "75"
    assert "stays as it is" in bert.done("usbbackup", "setup", "--yes")
    assert "remove it with: sudo apt remove usbbackup" in bert.done("usbbackup", "uninstall", "--purge")
    assert bert.show("usbbackup", "UnitFileState", "ActiveState") == {
        "UnitFileState": "disabled",
        "ActiveState": "inactive",
    }
    assert debian13.run("sh", "-c", "find /etc/systemd/user -name 'usbbackup*'").stdout == ""


def test_manual_page_completions_and_catalogue_are_there(debian13: Machine, bert: User) -> None:
    assert (
        "plug in a drive" in debian13.run("man", "usbbackup", env={"MANPAGER": "cat", "TERM": "dumb"}).stdout
    )
    complete = "COMP_WORDS=(usbbackup sta); COMP_CWORD=1; . /usr/share/bash-completion/bash_completion"
    load = "_comp_load usbbackup 2>/dev/null || . /usr/share/bash-completion/completions/usbbackup"
    asked = f"{complete}; {load}; complete -p usbbackup"
    assert "usbbackup" in debian13.run("bash", "-c", asked).stdout
    assert "A backup has failed" in debian13.run("journalctl", "--list-catalog").stdout
    found = json.loads(bert.run("usbbackup", "doctor", "--json", check=False).stdout)
    assert {one["check"]: one["state"] for one in found}["catalogue"] == "ok"


def test_a_passphrase_is_kept_by_systemd_encrypted_for_this_user(bert: User, stick: Stick) -> None:
    """systemd 256 and newer; the agent, a service, has to be able to read it, too."""
    bert.write("Documents/letter", "Dear Anna")
    source = ("--source", "/home/bert/Documents", "--label", stick.label, "--any-bus")
    with plugged(stick, bert):
        said = bert.done("usbbackup", "setup", "--yes", "--engine", "borg", *source)
        assert "home: success" in said
        assert "encrypted so that only you on this machine can read it" in said
    passcommand = said.partition("read it with: ")[2].splitlines()[0]
    secret = bert.done("sh", "-c", passcommand).strip()
    assert len(secret) > 30
    assert secret not in said
    assert secret not in bert.journal()
    assert bert.run("grep", "-r", secret, ".config", ".local", check=False).returncode == 1
    bert.done("usbbackup", "uninstall", "--purge")
    bert.done("rm", "-r", ".local/share/usbbackup")


def test_a_server_without_a_session_bus_needs_no_more_than_lingering(debian13: Machine, stick: Stick) -> None:
    """Nobody is logged in, no desktop is there, and nothing complains twice."""
    sven = debian13.user("sven")
    sven.systemctl("mask", "--runtime", "--now", "dbus.socket", "dbus.service")
    debian13.run("rm", "-f", f"/run/user/{sven.uid}/bus")
    options = ("--label", stick.label, "--any-bus", "--trust", "label", "--command", "/usr/bin/true")
    sven.done("usbbackup", "setup", "--yes", *options)
    with plugged(stick, sven):
        sven.done("usbbackup", "start", "--wait")
    story = sven.journal("--unit", "usbbackup", "--priority", "warning").splitlines()
    assert len(story) == len(set(story))
    found = {
        one["check"]: one for one in json.loads(sven.run("usbbackup", "doctor", "--json", check=False).stdout)
    }
    assert (found["bus"]["state"], found["linger"]["state"]) == ("note", "ok")
    page = sven.done("usbbackup", "setup", "--server")
    assert "loginctl enable-linger sven" in page
    sven.done("usbbackup", "uninstall", "--purge")


def test_the_mount_unit_that_is_printed_for_servers_is_taken_by_systemd(debian13: Machine) -> None:
    script = (
        "usbbackup setup --server | sed -n \"/^cat > '.*mount'/,/^END/p\" | sh && systemctl daemon-reload"
    )
    debian13.run("sh", "-c", script)
    shown = debian13.run("systemctl", "show", "--property=LoadState,Where,What", "mnt-backup.mount").stdout
    assert set(shown.split()) == {"LoadState=loaded", "Where=/mnt/backup", "What=/dev/disk/by-label/backup"}
    debian13.run("rm", "/etc/systemd/system/mnt-backup.mount")


def test_root_has_a_service_of_its_own_for_system_backups(debian13: Machine, stick: Stick) -> None:
    debian13.run("loginctl", "enable-linger", "root")
    root = User(debian13, "root", 0)
    root.wait_for_manager()
    with plugged(stick, root) as at:
        options = ("--source", "/etc", "--label", stick.label, "--any-bus")
        assert "home: success" in root.done("usbbackup", "setup", "--yes", *options)
        assert debian13.run("sh", "-c", f"ls {at}/usbbackup/*/root/home/snapshots/*/etc/hostname").stdout
    root.done("usbbackup", "uninstall", "--purge")


def test_purging_it_leaves_nothing_on_the_system(debian13: Machine, bert: User) -> None:
    """Last in this file, since the package is gone then."""
    bert.done("usbbackup", "setup", "--yes", "--label", "nowhere")
    bert.done("usbbackup", "uninstall", "--purge")
    debian13.run("dpkg", "--purge", "usbbackup")
    places = "/etc /usr/bin /usr/lib /usr/share /var/lib/systemd"
    left = debian13.run("sh", "-c", f"find {places} -iname '*usbbackup*' | grep -v /proc", check=False).stdout
    assert left == ""
