"""A virtual machine whose Linux knows eCryptfs: boots, runs a Python program as root, hands back its files.

Its kernel, the eCryptfs tools and everything else are Debian 12's. No network, no systemd: the program is all
that runs. Needs root, mmdebstrap, mkfs.ext4 and qemu-system-x86_64.
"""

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.usb import debian

_MIB = 1024 * 1024
_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1
mount -t tmpfs tmpfs /tmp; mount -o remount,rw /; ln -sf /proc/self/mounts /etc/mtab
modprobe ecryptfs && cd /srv && python3 /srv/program.py /srv/made && touch /srv/made/done
sync; tar -C /srv/made --xattrs --sparse -cf /dev/vdb . ; sync
echo o > /proc/sysrq-trigger; sleep 60
"""


def run(folder: Path, program: Path, files: Mapping[str, Path], into: Path, seconds: float = 900) -> str:
    """Boot, run `program` with a directory as its argument, unpack what it left there `into`.

    `files` are placed beside the program, directories included. Returns what the console said; raises
    AssertionError where the program did not end well.
    """
    disk, answer = folder / "disk.img", folder / "answer.img"
    with debian.tree(folder) as root:
        _place(root, program, files)
        debian.disk(root, disk, 4096)
    with answer.open("wb") as file:
        file.truncate(2048 * _MIB)
    console = _boot(folder, disk, answer, seconds)
    into.mkdir(parents=True, exist_ok=True)
    unpack = [
        "tar",
        "-C",
        str(into),
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "-xpf",
        str(answer),
    ]
    subprocess.run(unpack, check=True)
    (into / "done").unlink()
    for image in (disk, answer):
        image.unlink()
    return console


def _place(root: Path, program: Path, files: Mapping[str, Path]) -> None:
    shutil.rmtree(root / "srv")
    (root / "srv/made").mkdir(parents=True)
    shutil.copy(program, root / "srv/program.py")
    for name, path in files.items():
        if path.is_dir():
            shutil.copytree(path, root / "srv" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, root / "srv" / name)
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)


def _boot(folder: Path, disk: Path, answer: Path, seconds: float) -> str:
    boot = folder / "root/boot"
    log = folder / "console.log"
    machine = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-m", "1024"]
    devices = ["-display", "none", "-serial", f"file:{log}", "-no-reboot", "-nic", "none"]
    kernel = ["-kernel", str(max(boot.glob("vmlinuz-*"))), "-initrd", str(max(boot.glob("initrd.img-*")))]
    line = ["-append", f"{debian.SWITCHES} ro console=ttyS0 panic=-1 init=/init"]
    drives = [f"file={image},format=raw,if=virtio,cache=unsafe" for image in (disk, answer)]
    disks = [word for drive in drives for word in ("-drive", drive)]
    subprocess.run([*machine, *devices, *kernel, *line, *disks], check=True, timeout=seconds)
    with tarfile.open(answer) as tar:
        assert "./done" in tar.getnames(), f"the program in the machine failed:\n{log.read_text()[-4000:]}"
    return log.read_text()


def make_archive(folder: Path) -> None:
    """Make anew what the tests unpack: `python -m tests.ecryptfs.machine FOLDER`, in which to work."""
    here = Path(__file__).parent
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    print(run(folder, here / "trees.py", {}, made))
    pack = [
        "tar",
        "-C",
        str(made),
        "--xattrs",
        "--xattrs-include=user.*",
        "--sort=name",
        "--use-compress-program=xz -9e",
    ]
    subprocess.run([*pack, "-cf", str(here / "trees.tar.xz"), "."], check=True)


if __name__ == "__main__":
    make_archive(Path(sys.argv[1]))
