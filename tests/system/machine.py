"""A booted Debian in a container, with systemd as its first process and users with live service managers.

Its files are an overlay of a kept tree: whatever happens in there is gone afterwards. It shares the network
namespace, and so udev's messages, with the machine it runs on; drives are mounted into it from outside.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 60.0  # seconds for anything; a machine that is busy with other work is slow
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
Done = subprocess.CompletedProcess[str]


def missing(cache: Path) -> str | None:
    """Why no container can be booted here; None where it can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    for program in ("systemd-nspawn", "nsenter", "losetup"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None if (cache / "debian12").is_dir() else f"there are no trees in {cache}: run make test-system"


def until(found: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """Ask again and again until the answer is a true one, and return it: for what no event tells."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return answer


class Machine:
    """One container, until `close`."""

    def __init__(self, tree: Path, ground: Path) -> None:
        self.name, self.ground = tree.name, ground
        self.root = ground / "root"
        _host("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", ground)
        for name in ("upper", "work", "root"):
            (ground / name).mkdir()
        layers = f"lowerdir={tree},upperdir={ground / 'upper'},workdir={ground / 'work'}"
        _host("mount", "-t", "overlay", "overlay", "-o", layers, self.root)
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def boot(self) -> None:
        """Start it and wait until systemd has done so, too."""
        with (self.ground / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
                    *("--link-journal=no", "--console=pipe", "--bind-ro=/run/udev"),
                    *("--bind=/dev/fuse", "--bind=/dev/autofs"),
                    *(f"--directory={self.root}", f"--machine=usbbackup-{self.name}"),
                    "systemd.mask=ssh.service",  # it would listen on the network of the machine around
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._leader = until(self._first_child, "the container's first process")
        until(
            lambda: (
                self.run("systemctl", "is-system-running", check=False).stdout.strip()
                in ("running", "degraded")
            ),
            "systemd",
        )

    def _first_child(self) -> int | None:
        assert self._process is not None
        assert self._process.poll() is None, (self.ground / "console").read_text()
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return next((int(pid) for pid in children if _comm(pid) == "systemd"), None)

    def close(self) -> None:
        """Take everything away: as a power cut, since nothing of it is kept."""
        if self._process is not None:
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)
            else:
                self._process.kill()
            self._process.wait(PATIENCE)
        for place in (self.root, self.ground):
            subprocess.run(["umount", "-l", place], check=True)

    def run(
        self, *command: str | Path, check: bool = True, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Done:
        """Run something as root in there."""
        inside = ("nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--pid", "--cgroup")
        return _ran(
            (*inside, "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "HOME=/root", *_assigned(env), *command),
            check,
            stdin,
        )

    def user(self, name: str, *, linger: bool = True, shell: str = "/bin/bash") -> "User":
        """Make a user whose service manager runs from now on."""
        self.run("useradd", "--create-home", "--shell", shell, name)
        uid = int(self.run("id", "--user", name).stdout)
        user = User(self, name, uid)
        if linger:
            self.run("loginctl", "enable-linger", name)
            user.wait_for_manager()
        return user

    def mount(self, devnode: Path, at: str) -> None:
        """Mount a drive of the machine outside, as a desktop would in there."""
        self.run("mkdir", "-p", at)
        self.run("mount", self.node(devnode), at)

    def node(self, devnode: Path) -> Path:
        """The node of a block device of the machine outside, made in there as well."""
        number = devnode.stat().st_rdev
        self.run("sh", "-c", f"[ -b {devnode} ] || mknod {devnode} b {os.major(number)} {os.minor(number)}")
        return devnode

    def unmount(self, at: str) -> None:
        """Unmount it, whoever holds it."""
        self.run("umount", "-l", at)


@dataclass(frozen=True)
class User:
    """Somebody in the machine."""

    machine: Machine
    name: str
    uid: int

    @property
    def home(self) -> Path:
        """Their home, as seen from outside."""
        return self.machine.root / ("root" if self.uid == 0 else f"home/{self.name}")

    def run(
        self, *command: str | Path, check: bool = True, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> Done:
        """Run something as they would after a login."""
        ids = ("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--init-groups")
        around = {
            "HOME": f"/{self.home.relative_to(self.machine.root)}",
            "USER": self.name,
            "PATH": f"/home/{self.name}/.local/bin:{PATH}",
            "XDG_RUNTIME_DIR": f"/run/user/{self.uid}",
        }
        return self.machine.run(
            *ids,
            "env",
            *_assigned({**around, **(env or {})}),
            "sh",
            "-c",
            'cd; exec "$@"',
            "sh",
            *command,
            check=check,
            stdin=stdin,
        )

    def done(self, *command: str | Path, **options: Any) -> str:
        """Run something that has to succeed; what it printed."""
        return self.run(*command, **options).stdout

    def log_in(self, script: str = "true") -> Done:
        """A whole login through PAM, with a login shell that runs a script."""
        shell = self.machine.run("getent", "passwd", self.name).stdout.strip().rpartition(":")[2]
        as_login = (
            f"--property=User={self.name}",
            "--property=PAMName=login",
            "--property=WorkingDirectory=~",
        )
        return self.machine.run(
            "systemd-run", "--quiet", "--wait", "--pipe", *as_login, shell, "-l", "-c", script
        )

    def write(self, name: str, content: str, *, mode: int = 0o644) -> None:
        """Write a file in their home, as they would."""
        self.done(
            "sh",
            "-c",
            'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"',
            "sh",
            name,
            f"{mode:o}",
            stdin=content,
        )

    def tree(self) -> list[str]:
        """All that is in their home, but for what Python caches: kind, mode, path, and a digest of files."""
        found = "find . -name __pycache__ -prune -o -printf '%y %m %p %l\n'"
        digests = "find . -name __pycache__ -prune -o -type f -exec sha256sum {} +"
        return sorted(self.done("sh", "-c", f"{found}; {digests}").splitlines())

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit of theirs."""
        shown = self.done("systemctl", "--user", "show", "--property", ",".join(names), unit)
        return dict(line.split("=", 1) for line in shown.splitlines())  # type: ignore[misc]

    def systemctl(self, *words: str, check: bool = True) -> Done:
        """Tell their service manager."""
        return self.run("systemctl", "--user", *words, check=check)

    def journal(self, *words: str) -> str:
        """Their journal: lines without time and host."""
        self.machine.run("journalctl", "--sync")
        return self.done("journalctl", "--user", "--quiet", "--output=cat", *words)

    def wait_for_manager(self) -> None:
        """Wait until their service manager answers."""
        until(
            lambda: self.systemctl("is-system-running", check=False).stdout.strip() == "running",
            "the user's manager",
        )

    def wait_active(self, state: str = "active") -> None:
        """Wait until the agent's unit is in that state."""
        until(
            lambda: self.show("usbbackup", "ActiveState")["ActiveState"] == state, f"usbbackup to be {state}"
        )


def _assigned(env: Mapping[str, str] | None) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in (env or {}).items())


def _comm(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _host(*command: str | Path) -> None:
    _ran(command, True, "")


def _ran(command: tuple[str | Path, ...], check: bool, stdin: str) -> Done:
    words = [str(word) for word in command]
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, check=False, timeout=5 * PATIENCE
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{shlex.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done
