"""A home that is encrypted until login: a real one, mounted after the user's manager has started."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from furnishing import by_pipx
from machine import Machine, User, until

pytestmark = pytest.mark.system

PROFILE = b"umask 027\n# the last line has no end"


class Safe:
    """A user's home on gocryptfs, opened and closed as PAM would do it."""

    def __init__(self, user: User) -> None:
        self.user = user
        name, self.machine = user.name, user.machine
        self._cipher = f"/home/{name}.cipher"
        self.machine.run("install", "-d", "-o", name, "-g", name, self._cipher)
        self.machine.run("sh", "-c", f"echo secret > {self._cipher}.pass; chmod 644 {self._cipher}.pass")
        user.done(
            "gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", f"{self._cipher}.pass", self._cipher
        )

    def open(self) -> None:
        """Mount it over the home."""
        self.user.done(
            "gocryptfs",
            "-q",
            "-nonempty",
            "-passfile",
            f"{self._cipher}.pass",
            self._cipher,
            f"/home/{self.user.name}",
        )

    def close(self) -> None:
        """Unmount it, as after the last logout."""
        self.machine.run("umount", "-l", f"/home/{self.user.name}")

    def reboot(self) -> None:
        """The user's manager starts at boot, because of lingering, while the home is closed."""
        unit = f"user@{self.user.uid}.service"
        self.machine.run("systemctl", "stop", unit)
        self.close()
        self.machine.run("systemctl", "start", unit)
        self.user.wait_for_manager()


@pytest.fixture(scope="module")
def safe(debian12: Machine, wheels: Path) -> Iterator[Safe]:
    """Emma, her home open, the program installed in it."""
    safe = Safe(debian12.user("emma"))
    safe.open()
    safe.user.write(".profile", PROFILE.decode())
    by_pipx(safe.user, wheels)
    yield safe


def profile(safe: Safe) -> bytes:
    return safe.user.done("cat", ".profile").encode()


def test_the_service_starts_at_each_login_and_never_before(safe: Safe) -> None:
    emma = safe.user
    said = emma.done("usbbackup", "setup", "--yes", "--label", "nowhere")
    assert "your home is opened at login (gocryptfs): the service starts then" in said
    assert b"usbbackup" in profile(safe)
    assert emma.done("ls", ".config/autostart").split() == ["usbbackup.desktop"]
    emma.wait_active()
    for _ in range(2):
        safe.reboot()
        closed = emma.tree()
        assert emma.show("usbbackup", "LoadState")["LoadState"] == "not-found"
        assert emma.run("pgrep", "-f", "usbbackup daemon", check=False).returncode == 1
        safe.open()
        login = emma.log_in("umask")
        assert (login.stdout, login.stderr) == ("0027\n", "")  # quiet, and the rest of the profile holds
        emma.wait_active()
        pid = emma.show("usbbackup", "MainPID")
        emma.log_in()
        assert emma.show("usbbackup", "MainPID", "NRestarts") == {**pid, "NRestarts": "0"}
        assert "wrong" not in emma.done("usbbackup", "doctor", "--json").split('"home"')[1].split("}")[0]
    emma.done("usbbackup", "setup", "--yes")
    emma.done("usbbackup", "uninstall", "--purge")
    assert profile(safe) == PROFILE
    assert not emma.run("ls", ".config/autostart", check=False).stdout
    safe.close()
    assert emma.tree() == closed  # not a byte was written where the home is mounted
    safe.open()


def test_the_autostart_entry_starts_it_where_no_profile_is_read(safe: Safe) -> None:
    """As under a desktop whose sessions begin without a login shell."""
    emma = safe.user
    emma.done("usbbackup", "setup", "--yes", "--label", "nowhere")
    safe.reboot()
    safe.open()
    session = "desktop.target"  # nothing but a desktop's session starts its autostart entries
    wants = "[Unit]\nWants=xdg-desktop-autostart.target\n"
    safe.machine.run("sh", "-c", f"cat > /etc/systemd/user/{session}", stdin=wants)
    emma.systemctl("daemon-reload")  # makes units of entries: systemd-xdg-autostart-generator(8)
    emma.systemctl("start", session)
    emma.wait_active()
    pid = emma.show("usbbackup", "MainPID")
    entry = "app-usbbackup@autostart.service"
    emma.systemctl("stop", entry, "xdg-desktop-autostart.target", session)
    emma.systemctl("start", session)  # the next login
    until(lambda: emma.show(entry, "ActiveState")["ActiveState"] == "inactive", "the entry to be done")
    assert emma.show("usbbackup", "MainPID", "NRestarts") == {**pid, "NRestarts": "0"}
    emma.done("usbbackup", "uninstall", "--purge")


def test_ssh_and_cron_hear_nothing_of_the_hook(safe: Safe) -> None:
    """Scripts that copy over ssh, and jobs of cron, would take a single letter for data or for trouble."""
    emma, machine = safe.user, safe.machine
    emma.done("usbbackup", "setup", "--yes", "--label", "nowhere")
    machine.run("sh", "-c", "mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/emma")
    server = "/usr/sbin/sshd -i -o AuthorizedKeysFile=/etc/ssh/emma.pub"  # root may not look into that home
    options = (f"ProxyCommand={server}", "StrictHostKeyChecking=no", "LogLevel=ERROR")
    dashed = (word for option in options for word in ("-o", option))
    ssh = ("ssh", "-i", "/etc/ssh/emma", *dashed, "emma@localhost")
    for command in ("echo heard", "bash -lc 'echo heard'"):
        said = machine.run(*ssh, command)
        assert (said.stdout, said.stderr) == ("heard\n", "")
    cron = ("su", "emma", "-s", "/bin/sh", "-c")  # no session, no service manager
    job = machine.run(*cron, "cd; . ./.profile; echo heard")
    assert (job.stdout, job.stderr) == ("heard\n", "")
    emma.done("usbbackup", "uninstall", "--purge")


def test_a_service_that_the_user_has_disabled_stays_off(safe: Safe) -> None:
    emma = safe.user
    emma.done("usbbackup", "setup", "--yes", "--label", "nowhere")
    emma.systemctl("disable", "usbbackup")
    safe.reboot()
    safe.open()
    emma.log_in()
    until(lambda: emma.show("usbbackup", "LoadState")["LoadState"] == "loaded", "the hook to look")
    emma.log_in("sleep 1")
    assert emma.show("usbbackup", "ActiveState")["ActiveState"] == "inactive"
    emma.done("usbbackup", "uninstall", "--purge")


def test_a_unit_that_is_known_before_the_home_is_open_is_skipped_and_not_failed(safe: Safe) -> None:
    """As when a package has brought it: program and unit are there, the home is what eCryptfs leaves."""
    emma = safe.user
    emma.done("usbbackup", "setup", "--yes", "--label", "nowhere", "--no-start")
    unit = emma.done("cat", ".config/systemd/user/usbbackup.service")
    program = emma.done("readlink", "-f", ".local/bin/usbbackup").strip()
    machine = safe.machine
    machine.run("python3", "-m", "venv", "/usr/local/usbbackup")
    pip = "/usr/local/usbbackup/bin/pip"
    machine.run("sh", "-c", f"{pip} -q install --no-index --find-links /wheels usbbackup")
    everywhere = unit.replace(f"/home/{emma.name}/.local/bin/usbbackup", "/usr/local/usbbackup/bin/usbbackup")
    assert program.startswith("/home/emma")
    assert everywhere != unit
    machine.run("sh", "-c", "cat > /etc/systemd/user/usbbackup.service", stdin=everywhere)
    emma.done("usbbackup", "uninstall", "--purge")
    safe.reboot()
    home = f"/home/{emma.name}"
    note = f"mkdir {home}/.ecryptfs && echo {home} > {home}/.ecryptfs/Private.mnt"
    machine.run("sh", "-c", note)
    closed = emma.tree()
    assert emma.systemctl("start", "usbbackup", check=False).returncode == 0
    assert "Skipped due to 'exec-condition'" in emma.journal("--unit", "usbbackup")
    assert emma.show("usbbackup", "ActiveState")["ActiveState"] == "inactive"
    assert emma.tree() == closed
    machine.run("rm", "-r", f"{home}/.ecryptfs", "/etc/systemd/user/usbbackup.service")
    safe.open()
