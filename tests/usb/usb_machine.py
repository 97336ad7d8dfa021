"""A virtual Debian 12 with a person logged in at its screen, into which emulated USB sticks are plugged.

Everything is emulated in software (no KVM), so it is slow and the same everywhere. No network: what is done
inside is asked for over a serial line, and sticks come and go through QEMU's monitor.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
REPOSITORY = Path(__file__).parent.parent.parent
PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "dbus-user-session", "libpam-systemd", "udisks2", "polkitd"),
    *(
        "rsync",
        "borgbackup",
        "python3",
        "linux-image-amd64",
        "kmod",
        "login",
        "passwd",
        "util-linux",
        "procps",
    ),
    *("e2fsprogs", "btrfs-progs", "dosfstools", "exfatprogs", "cryptsetup-bin", "libblockdev-crypto2"),
)
PATIENCE = 600.0  # seconds for anything: two cores may have other work
_MIB = 1 << 20

# Runs as root inside; a line of JSON asks for a program, a line answers how it ended.
_SERVANT = """\
import json, subprocess
with open("/dev/virtio-ports/servant", "r+b", buffering=0) as line:
    line.write(b"up\\n")
    waiting = b""
    while True:
        waiting += line.read(65536) or b""
        *asked, waiting = waiting.split(b"\\n")
        for words in asked:
            ended = subprocess.run(json.loads(words), stdin=subprocess.DEVNULL, capture_output=True)
            words = [text.decode("utf-8", "replace") for text in (ended.stdout, ended.stderr)]
            line.write(json.dumps([ended.returncode, *words]).encode() + b"\\n")
"""
_FILES = {
    "etc/fstab": "/dev/vda / ext4 rw,noatime 0 1\n",
    "etc/hostname": "sticks\n",
    "srv/servant.py": _SERVANT,
    "etc/systemd/system/servant.service": (
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/usr/bin/python3 /srv/servant.py\n"
        "Restart=always\nRestartSec=1\n"  # the serial line may appear later than this service starts
        "[Install]\nWantedBy=multi-user.target\n"
    ),
    # david logs in on tty1: a local, active seat, so that UDisks2 lets him mount what he plugs in
    "etc/systemd/system/getty@tty1.service.d/autologin.conf": (
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin david --noclear %I $TERM\n"
    ),
    "usr/local/bin/usbbackup": '#!/bin/sh\nPYTHONPATH=/opt/usbbackup exec python3 -m usbbackup "$@"\n',
}


class UsbMachine:
    """The machine, from `build` to `close`; `folder` keeps the tree that is made once."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place = folder, place
        self._qemu: subprocess.Popen[bytes] | None = None
        self._heard = b""

    def build(self) -> None:
        """A disk with Debian, the program, a user who is logged in, and no backups yet."""
        tree, new = self.folder / "root", self.folder / "root.new"
        if not tree.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["rm", "-rf", "--one-file-system", str(new)], check=True)
            make = [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={','.join(PACKAGES)}",
                "bookworm",
            ]
            subprocess.run([*make, str(new)], check=True, stdin=subprocess.DEVNULL)
            _run("chroot", new, "useradd", "--create-home", "--shell", "/bin/bash", "david")
            _run("chroot", new, "passwd", "--delete", "david")
            new.rename(tree)
        for name, text in _FILES.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        (tree / "usr/local/bin/usbbackup").chmod(0o755)
        _run("systemctl", "--quiet", f"--root={tree}", "enable", "servant.service")
        shutil.rmtree(tree / "opt/usbbackup", ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        _run(*pip, "--target", tree / "opt/usbbackup", f"{REPOSITORY}[desktop]")
        self._disk(tree)

    def _disk(self, tree: Path) -> None:
        with (self.place / "disk.img").open("wb") as disk:
            disk.truncate(3072 * _MIB)
        _run("mkfs.ext4", "-q", "-d", tree, self.place / "disk.img")

    def boot(self) -> None:
        """Switch it on, and wait until somebody inside answers and david is logged in."""
        boot, place = self.folder / "root/boot", self.place
        self._qemu = subprocess.Popen(
            [
                *(
                    "qemu-system-x86_64",
                    "-accel",
                    "tcg,thread=multi",
                    "-cpu",
                    "max",
                    "-smp",
                    "2",
                    "-m",
                    "1024",
                ),
                *("-display", "none", "-nic", "none", "-no-reboot", "-serial", f"file:{place}/console.log"),
                *(
                    "-kernel",
                    str(max(boot.glob("vmlinuz-*"))),
                    "-initrd",
                    str(max(boot.glob("initrd.img-*"))),
                ),
                *("-append", "root=/dev/vda rw console=tty0 console=ttyS0 quiet panic=1"),
                *("-drive", f"file={place}/disk.img,format=raw,if=virtio,cache=unsafe"),
                *("-device", "qemu-xhci,id=xhci,p2=8,p3=8", "-device", "usb-hub,bus=xhci.0,port=5,id=hub"),
                *(
                    "-device",
                    "virtio-serial",
                    "-chardev",
                    f"socket,id=line,path={place}/line,server=on,wait=off",
                ),
                *("-device", "virtserialport,chardev=line,name=servant", "-device", "virtio-rng-pci"),
                *("-qmp", f"unix:{place}/qmp,server=on,wait=off"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(place / "qemu.log").open("wb"),
        )
        self._line = _connected(place / "line")
        self._monitor = _connected(place / "qmp").makefile("rw")
        self._monitor.readline()
        self.ask_qemu("qmp_capabilities")
        assert self._answer() == b"up", (place / "console.log").read_text()[-4000:]
        self.until(
            lambda: (
                self.root("loginctl", "show-user", "david", "--property=State").stdout.strip()
                == "State=active"
            )
        )

    def close(self) -> None:
        """Switch it off."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()

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

    def root(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside as root."""
        self._line.sendall(json.dumps(command).encode() + b"\n")
        code, out, err = json.loads(self._answer())
        return subprocess.CompletedProcess(command, code, out, err)

    def done(self, *command: str) -> str:
        """The same, and it has to succeed."""
        ended = self.root(*command)
        assert ended.returncode == 0, f"{command}: {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def david(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program as david, as a service of his session would: so polkit knows that he sits there."""
        bus = ("XDG_RUNTIME_DIR=/run/user/1000", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus")
        service = ("systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect")
        return self.root(
            "runuser", "-u", "david", "--", "env", "-C", "/home/david", *bus, *service, "--", *command
        )

    def usbbackup(self, *arguments: str) -> Any:
        """What a command of david's answers with --json."""
        ended = self.david("usbbackup", *arguments, "--json")
        assert ended.returncode == 0, f"{arguments}: {ended.stdout}{ended.stderr}"
        return json.loads(ended.stdout)

    def write(self, path: str, text: str) -> None:
        """A file of david's."""
        script = 'mkdir -p "${1%/*}"; printf %s "$2" > "$1"; chown -R david: /home/david'
        self.done("sh", "-ec", script, "sh", path, text)

    def until(self, found: Callable[[], T], what: str = "it") -> T:
        """Ask again and again until the answer is a true one."""
        deadline = time.monotonic() + PATIENCE
        while not (answer := found()):
            assert time.monotonic() < deadline, f"waited for {what}"
            time.sleep(1)
        return answer

    def _answer(self) -> bytes:
        self._line.settimeout(PATIENCE)
        while b"\n" not in self._heard:
            self._heard += self._line.recv(65536)
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def plug(self, stick: "Stick", *, slow: bool = False, hub: bool = False) -> None:
        """Plug a stick in; a slow one writes half a megabyte a second, one on the hub sits behind it."""
        image: dict[str, Any] = {"driver": "raw", "file": {"driver": "file", "filename": str(stick.image)}}
        if slow:
            limits = {"bps-write": 500_000}
            self.ask_qemu(
                "object-add", **{"qom-type": "throttle-group", "id": f"t-{stick.name}", "limits": limits}
            )
            image = {"driver": "throttle", "throttle-group": f"t-{stick.name}", "file": image}
        self.ask_qemu("blockdev-add", **{"node-name": f"b-{stick.name}", **image})
        port = {"port": "5.1"} if hub else {}
        device = {
            "driver": "usb-storage",
            "bus": "xhci.0",
            "drive": f"b-{stick.name}",
            "id": f"d-{stick.name}",
        }
        self.ask_qemu("device_add", **device, **port, removable=True, serial=f"SER{stick.name}")

    def pull(self, stick: "Stick") -> None:
        """Pull it out, whatever goes on."""
        self.ask_qemu("device_del", id=f"d-{stick.name}")
        self.forget(stick)

    def forget(self, stick: "Stick") -> None:
        """Let go of the image of a stick that is gone."""

        def gone() -> bool:
            try:
                self.ask_qemu("blockdev-del", **{"node-name": f"b-{stick.name}"})
            except RuntimeError:
                return False
            return True

        self.until(gone, "QEMU to let go of the stick")


class Stick:
    """The image of a USB stick with one file system on the whole of it."""

    def __init__(
        self,
        place: Path,
        name: str,
        fs_type: str,
        *,
        label: str = "backup",
        mib: int = 160,
        owner: int = 1000,
    ) -> None:
        self.name, self.fs_type = name, fs_type
        self.image = place / f"{name}.usb"
        with self.image.open("wb") as image:
            image.truncate(mib * _MIB)
        make: dict[str, Sequence[str]] = {
            "ext4": ("mkfs.ext4", "-q", "-F", "-L", label, "-E", f"root_owner={owner}:{owner}"),
            "btrfs": ("mkfs.btrfs", "-q", "-L", label),
            "vfat": ("mkfs.vfat", "-n", label.upper()),
        }
        if fs_type in make:
            _run(*make[fs_type], self.image)


def missing() -> str | None:
    """Why there can be no such machine here."""
    if os.geteuid() != 0:
        return "only root can make the machine's file system"
    for program in ("mmdebstrap", "qemu-system-x86_64", "mkfs.ext4", "mkfs.btrfs", "mkfs.vfat"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


def _connected(path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            line.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline, f"QEMU does not listen at {path}"
            time.sleep(0.1)
        else:
            return line


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, stdin=subprocess.DEVNULL)
