"""A home of eCryptfs that its owner's login opens."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.usb.machine import Done, UsbMachine, until

pytestmark = pytest.mark.vm
HOME = "/home/emma"
PROFILE = "umask 027\n# the last line has no end"


@dataclass(frozen=True)
class Emma:
    """A user whose whole home is one of eCryptfs, opened by PAM when she logs in with her password."""

    machine: UsbMachine

    def move_in(self) -> None:
        """What `adduser --encrypt-home` does, with a profile of her own."""
        script = (
            "echo ecryptfs > /etc/modules-load.d/ecryptfs.conf; modprobe ecryptfs; "
            f"find {HOME} -mindepth 1 -delete; "
            "ecryptfs-setup-private --bootstrap --username emma --loginpass open-sesame; "
            f"printf %s '{PROFILE}' > {HOME}/.profile; chown emma: {HOME}/.profile; "
            f"umount -i {HOME}; keyctl clear @u"
        )
        self.machine.root("sh", "-c", script)

    def logs_in(self) -> None:
        """At the second terminal; the home is open then."""
        self.machine.terminal.log_in("emma", "open-sesame")
        assert self.machine.done("findmnt", "-n", "-o", "FSTYPE", HOME).strip() == "ecryptfs"

    def logs_out(self) -> None:
        """Nothing of hers runs any more, and the home is closed."""
        self.machine.terminal.log_out()
        until(lambda: self.machine.root("pgrep", "-u", "emma").returncode == 1, "all of hers to end")
        self.machine.root("umount", "-i", HOME)  # her manager ends last, and eCryptfs leaves it open for that
        assert self.machine.root("findmnt", HOME).returncode == 1

    def run(self, *command: str) -> Done:
        """A program of hers, beside her login."""
        about = (
            f"HOME={HOME}",
            "USER=emma",
            "XDG_RUNTIME_DIR=/run/user/1001",
            "PATH=/usr/local/bin:/usr/bin",
        )
        become = ("setpriv", "--reuid=emma", "--regid=emma", "--init-groups", "env", "-i", "-C", "/", *about)
        return self.machine.root(*become, *command)

    def runs_the_agent(self) -> bool:
        """Does her service run?"""
        return self.run("systemctl", "--user", "is-active", "usbbackup").stdout.strip() == "active"

    def profile(self) -> str:
        """Her profile; only where the home is open."""
        return self.machine.done("cat", f"{HOME}/.profile")

    def closed(self) -> str:
        """All that is at the mount point and of the encrypted home: names, modes, sizes, times."""
        look = ("find", HOME, "/home/.ecryptfs", "-printf", "%p %l %m %s %T@\n")
        return self.machine.done(*look)


@pytest.fixture(scope="module")
def emma(machine: UsbMachine) -> Iterator[Emma]:
    """Her home is set up, and usbbackup in it."""
    emma = Emma(machine)
    emma.move_in()
    emma.logs_in()
    setup = emma.run("usbbackup", "setup", "--yes", "--label", "nowhere")
    assert setup.returncode == 0, setup.stdout + setup.stderr
    assert "your home is opened at login (eCryptfs): the service starts then" in setup.stdout
    until(emma.runs_the_agent, "the agent")
    emma.logs_out()
    yield emma


@pytest.mark.parametrize("linger", [False, True], ids=["", "linger"])
def test_the_agent_of_an_encrypted_home_runs_from_each_login_on_and_never_before(
    emma: Emma, linger: bool
) -> None:
    """With linger her service manager runs from boot on, and knows of nothing that is in her home."""
    machine = emma.machine
    machine.done("loginctl", "enable-linger" if linger else "disable-linger", "emma")
    closed = emma.closed()
    machine.reboot()
    if linger:
        until(lambda: emma.run("systemctl", "--user", "is-active", "default.target").returncode == 0, "hers")
    assert machine.root("pgrep", "-u", "emma", "-f", "usbbackup").returncode == 1
    assert emma.closed() == closed
    emma.logs_in()
    until(emma.runs_the_agent, "the agent")
    machine.done("loginctl", "disable-linger", "emma")
    emma.logs_out()


def test_uninstall_takes_the_hook_away_and_leaves_the_profile_to_the_byte(emma: Emma) -> None:
    emma.logs_in()
    until(emma.runs_the_agent, "the agent")
    assert emma.profile() != PROFILE
    gone = emma.run("usbbackup", "uninstall", "--purge")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert emma.profile() == PROFILE
    assert not emma.runs_the_agent()
    assert emma.machine.root("ls", f"{HOME}/.config/autostart").stdout == ""
    emma.logs_out()
