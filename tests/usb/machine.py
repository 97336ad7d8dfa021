"""A virtual Debian 12 with a person logged in at its screen, into which emulated USB sticks are plugged.

Everything is emulated in software (no KVM), so it is slow and the same everywhere. No network: what is done
inside is asked for over serial lines, and sticks come and go through QEMU's monitor.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.usb import debian
from tests.usb.stick import Stick

T = TypeVar("T")
Done = subprocess.CompletedProcess[str]
REPOSITORY = Path(__file__).parent.parent.parent
PATIENCE = 600.0  # seconds for anything: two cores may have other work
ROOT, DAVID = "root", "david"

# Runs inside, as root and as david; a line of JSON asks for a program, a line answers how it ended. The agent
# it asks itself: to start Python for that takes seconds where all is emulated.
_SERVANT = """\
import json, os, socket, subprocess, sys, time

def run(*words):
    ended = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True)
    return ended.returncode, *(text.decode("utf-8", "replace") for text in (ended.stdout, ended.stderr))

def ask(method):
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(os.environ["XDG_RUNTIME_DIR"] + "/usbbackup/control.sock")
        agent.sendall(json.dumps({"method": method}).encode() + b"\\0")
        heard = b""
        while not heard.endswith(b"\\0"):
            heard += agent.recv(65536)
    return 0, heard[:-1].decode(), ""

with open("/dev/virtio-ports/" + sys.argv[1], "r+b", buffering=0) as line:
    line.write(b"up\\n")
    waiting = b""
    while True:
        waiting += line.read(65536) or b""  # nothing while nobody is at the other end
        *asked, waiting = waiting.split(b"\\n")
        for words in map(json.loads, asked):
            answer = ask(words[1]) if words[0] == "ask" else run(*words)
            line.write(json.dumps(answer).encode() + b"\\n")
        if not asked:
            time.sleep(0.05)
"""
# The serial line may appear later than the service starts.
_SERVICE = (
    "[Service]\nExecStart=/usr/bin/python3 /usr/local/lib/servant.py {user}\nRestart=always\nRestartSec=1\n"
)
_FILES = {
    "etc/fstab": "/dev/vda / ext4 rw,noatime 0 1\n",
    "etc/hostname": "sticks\n",
    "usr/local/lib/servant.py": _SERVANT,
    "etc/systemd/system/servant.service": (
        f"[Unit]\nStartLimitIntervalSec=0\n{_SERVICE.format(user=ROOT)}[Install]\nWantedBy=multi-user.target\n"
    ),
    # david's runs in his session, as his agent does: so polkit knows that he sits there
    "etc/systemd/user/servant.service": (
        f"[Unit]\nConditionUser={DAVID}\nStartLimitIntervalSec=0\n{_SERVICE.format(user=DAVID)}"
        "[Install]\nWantedBy=default.target\n"
    ),
    "etc/udev/rules.d/90-servant.rules": (
        f'SUBSYSTEM=="virtio-ports", ATTR{{name}}=="{DAVID}", OWNER="{DAVID}"\n'
    ),
    # david logs in on tty1: a local, active seat, so that UDisks2 lets him mount what he plugs in
    "etc/systemd/system/getty@tty1.service.d/autologin.conf": (
        f"[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin {DAVID} --noclear %I $TERM\n"
    ),
    # little is written before it reaches the stick, so that a slow stick makes for slow programs
    "etc/sysctl.d/90-sticks.conf": "vm.dirty_bytes = 4194304\nvm.dirty_background_bytes = 1048576\n",
    "etc/systemd/journald.conf.d/sticks.conf": "[Journal]\nStorage=persistent\n",
    "usr/lib/python3/dist-packages/usbbackup.pth": "/opt/usbbackup\n",
    "usr/local/bin/usbbackup": "#!/usr/bin/python3\nfrom usbbackup.cli.main import entry\n\nentry()\n",
}


class UsbMachine:
    """The machine, from `build` to `close`; `folder` keeps the tree that is made once."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place = folder, place
        self._qemu: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, str] = {}  # of sticks that are plugged in

    def build(self) -> None:
        """A disk with Debian, the program, a user who is logged in, and no backups yet."""
        with debian.tree(self.folder) as root:
            _furnish(root)
            debian.disk(root, self.place / "disk.img")

    def boot(self) -> None:
        """Switch it on, and wait until somebody inside answers and david is logged in."""
        with (self.place / "qemu.log").open("wb") as said:
            self._qemu = subprocess.Popen(
                _qemu(self.folder / "root/boot", self.place),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        self._lines = {user: Line(self.place / user) for user in (ROOT, DAVID)}
        self.terminal = Terminal(self.place / "terminal")
        with _connected(self.place / "qmp") as monitor:
            self._monitor = monitor.makefile("rw")
        self._monitor.readline()
        self.ask_qemu("qmp_capabilities")
        self._wait_until_up()

    def reboot(self) -> None:
        """As the user does it; what is plugged in stays so."""
        self.done("systemctl", "reboot")
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        for line in self._lines.values():
            line.wait_until_up(self.place / "console.log")

    def close(self) -> None:
        """Switch it off."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            for end in (*self._lines.values(), self.terminal, self._monitor):
                end.close()
            (self.place / "disk.img").unlink()

    def ask_qemu(self, command: str, **arguments: Any) -> Any:
        """One command of the QEMU Machine Protocol."""
        self._monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._monitor.flush()
        while True:
            answer = json.loads(self._monitor.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def root(self, *command: str) -> Done:
        """Run a program inside as root."""
        return self._lines[ROOT].run(*command)

    def done(self, *command: str) -> str:
        """The same, and it has to succeed."""
        return _succeeded(self.root(*command))

    def david(self, *command: str) -> Done:
        """Run a program as david, as a service of his session would."""
        return self._lines[DAVID].run(*command)

    def usbbackup(self, *arguments: str) -> Any:
        """What a command of david's answers with --json."""
        return json.loads(_succeeded(self.david("usbbackup", *arguments, "--json")))

    def status(self) -> dict[str, Any]:
        """What david's agent answers, asked directly."""
        answer = json.loads(_succeeded(self.david("ask", "io.usbbackup.Agent.Status")))
        status: dict[str, Any] = answer["parameters"]["status"]
        return status

    def write(self, path: str, text: str) -> None:
        """A file of david's."""
        script = 'mkdir -p "${1%/*}"; printf %s "$2" > "$1"'
        _succeeded(self.david("sh", "-ec", script, "sh", path, text))

    def plug(self, stick: Stick, *, slow: bool = False, hub: bool = False) -> None:
        """Plug a stick in; a slow one writes half a megabyte a second, one on the hub sits behind it."""
        image: dict[str, Any] = {"driver": "raw", "file": {"driver": "file", "filename": str(stick.image)}}
        if slow:
            group = {"qom-type": "throttle-group", "id": f"t-{stick.name}", "limits": {"bps-write": 500_000}}
            self.ask_qemu("object-add", **group)
            image = {"driver": "throttle", "throttle-group": f"t-{stick.name}", "file": image}
        self.ask_qemu("blockdev-add", **{"node-name": f"b-{stick.name}", **image})
        taken = self._ports.values()
        port = next(port for port in ("5.1" if hub else "1", "2", "3", "4") if port not in taken)
        self._ports[stick.name] = port  # left to itself QEMU takes the one on the hub
        device = {"driver": "usb-storage", "bus": "xhci.0", "port": port}
        about = {"drive": f"b-{stick.name}", "id": f"d-{stick.name}", "serial": f"SER{stick.name}"}
        self.ask_qemu("device_add", **device, **about, removable=True)

    def pull(self, stick: Stick) -> None:
        """Pull it out, whatever goes on; also one that was switched off has to be."""
        self.ask_qemu("device_del", id=f"d-{stick.name}")

        def gone() -> bool:
            try:
                self.ask_qemu("blockdev-del", **{"node-name": f"b-{stick.name}"})
            except RuntimeError:
                return False
            return True

        until(gone, "QEMU to let go of the stick")
        del self._ports[stick.name]


class Line:
    """A serial line with somebody at its other end who runs programs."""

    def __init__(self, path: Path) -> None:
        self._socket = _connected(path)
        self._heard = b""

    def wait_until_up(self, console: Path) -> None:
        """Somebody new has come to its other end."""
        try:
            while self._read() != b"up":
                pass
        except TimeoutError:
            raise AssertionError(console.read_text(errors="replace")[-4000:]) from None

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def run(self, *command: str) -> Done:
        """Have a program run to its end."""
        self._socket.sendall(json.dumps(command).encode() + b"\n")
        while (answer := self._read()) == b"up":  # of one who has just come
            pass
        code, out, err = json.loads(answer)
        return subprocess.CompletedProcess(command, code, out, err)

    def _read(self) -> bytes:
        while b"\n" not in self._heard:
            self._heard += self._socket.recv(65536)
        line, _, self._heard = self._heard.partition(b"\n")
        return line


class Terminal:
    """A serial terminal where a person may log in."""

    def __init__(self, path: Path) -> None:
        self._socket = _connected(path)
        self._seen = b""

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def log_in(self, user: str, password: str) -> None:
        """Until the shell waits for a command."""
        self._type("")
        for prompt, answer in (("login: ", user), ("Password: ", password)):
            self._read_to(prompt)
            self._type(answer)
        self._read_to("$ ")

    def log_out(self) -> None:
        """Until somebody else may log in."""
        self._type("exit")
        self._read_to("login: ")

    def _type(self, text: str) -> None:
        self._seen = b""
        self._socket.sendall(text.encode() + b"\r")

    def _read_to(self, prompt: str) -> None:
        while prompt.encode() not in self._seen:
            self._seen += self._socket.recv(65536)


def until(found: Callable[[], T], what: str) -> T:
    """Ask again and again until the answer is a true one."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.2)
    return answer


def missing() -> str | None:
    """Why there can be no such machine here."""
    if os.geteuid() != 0:
        return "only root can make the machine's file system"
    for program in ("mmdebstrap", "qemu-system-x86_64", "mkfs.ext4", "mkfs.btrfs", "mkfs.vfat", "mkfs.exfat"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


def _furnish(root: Path) -> None:
    """With the servants, and with the program from its wheel."""
    for name, text in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "usr/local/bin/usbbackup").chmod(0o755)
    # whoever has not logged in within a minute is turned out, also where all is slow
    defaults = root / "etc/login.defs"
    defaults.write_text(re.sub(r"(?m)^LOGIN_TIMEOUT\s.*$", "LOGIN_TIMEOUT 0", defaults.read_text()))
    systemctl = ["systemctl", "--quiet", f"--root={root}"]
    _run(*systemctl, "enable", "servant.service", "serial-getty@ttyS1.service")
    _run(*systemctl, "--global", "enable", "servant.service")
    shutil.rmtree(root / "opt/usbbackup", ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--quiet", "--disable-pip-version-check", "install"]
    _run(*pip, "--target", root / "opt/usbbackup", f"{REPOSITORY}[desktop]")


def _qemu(boot: Path, place: Path) -> list[str]:
    switches = f"{debian.SWITCHES} rw console=tty0 console=ttyS0"
    return [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2"),
        *("-m", "1024", "-display", "none", "-nic", "none"),
        *("-kernel", str(max(boot.glob("vmlinuz-*"))), "-initrd", str(max(boot.glob("initrd.img-*")))),
        *("-append", switches, "-serial", f"file:{place}/console.log"),
        *("-serial", f"unix:{place}/terminal,server=on,wait=off"),
        *("-drive", f"file={place}/disk.img,format=raw,if=virtio,cache=unsafe"),
        *("-device", "qemu-xhci,id=xhci,p2=8,p3=8", "-device", "usb-hub,bus=xhci.0,port=5,id=hub"),
        *("-device", "virtio-rng-pci", "-device", "virtio-serial"),
        *(word for user in (ROOT, DAVID) for word in _port(user, place)),
        *("-qmp", f"unix:{place}/qmp,server=on,wait=off"),
    ]


def _port(user: str, place: Path) -> tuple[str, ...]:
    chardev = f"socket,id={user},path={place}/{user},server=on,wait=off"
    return ("-chardev", chardev, "-device", f"virtserialport,chardev={user},name={user}")


def _connected(path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(PATIENCE)

    def connected() -> bool:
        try:
            line.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    until(connected, f"QEMU to listen at {path}")
    return line


def _succeeded(ended: Done) -> str:
    assert ended.returncode == 0, f"{ended.args}: {ended.returncode}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL)
