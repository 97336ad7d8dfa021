"""Drives that are image files on loop devices: real file systems, real udev events, real mounts. Root only.

Whatever is attached or mounted here is taken away again by `close`, in whatever state it is.
"""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UDEVD = Path("/lib/systemd/systemd-udevd")
_PARTITION_START = 1 << 20  # bytes
_SMALLEST = {"btrfs": 128 << 20, "xfs": 320 << 20}
_USUAL = 64 << 20  # bytes
_FUSE = {"ntfs": "ntfs-3g", "exfat": "exfat-fuse"}  # mounted by these, since few kernels can do it
_MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-L"),
    "btrfs": ("mkfs.btrfs", "-q", "-f", "-L"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-L"),
    "vfat": ("mkfs.vfat", "-n"),
    "ntfs": ("mkfs.ntfs", "-q", "-F", "-L"),
    "exfat": ("mkfs.exfat", "-L"),
}


def missing(fs_type: str = "ext4") -> str | None:
    """Why no such drive can be had here; None where one can."""
    if os.geteuid() != 0:
        return "only root can attach loop devices"
    for program in ("losetup", "udevadm", UDEVD, _MKFS[fs_type][0]):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"{program} is not installed"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices here"
    if fs_type in _FUSE:
        mount = f"mount.{_FUSE[fs_type]}"
        return None if shutil.which(mount, path="/usr/sbin:/sbin") else f"{mount} is not installed"
    known = [line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()]
    return None if fs_type in known else f"this kernel has no {fs_type}"


@contextmanager
def udevd() -> Iterator[None]:
    """See to it that udev runs; one that ran before is left as it is."""
    if _answers():
        yield
        return
    process = subprocess.Popen([UDEVD], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if _answers():
                break
            time.sleep(0.05)  # it has no other way to say that it listens
        _run("udevadm", "trigger", "--subsystem-match=block", "--settle")
        yield
    finally:
        process.terminate()
        process.wait()


def _answers() -> bool:
    return Path("/run/udev/control").exists() and _succeeds("udevadm", "control", "--ping", "--timeout=10")


class LoopDrive:
    """An image with one labelled file system, plugged in by attaching it to a loop device.

    `owner` gets the top directory, as a desktop's formatting tool would do it; without one it is root's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "drive",
        label: str = "backup",
        fs_type: str = "ext4",
        owner: tuple[int, int] | None = None,
        size: int | None = None,
        partitioned: bool = False,
    ) -> None:
        self.directory, self.name, self.fs_type = directory, name, fs_type
        self.image = directory / f"{name}.img"
        self.mount_point = directory / f"{name}.mounted"
        self.devnode: Path | None = None  # of the file system
        self._disk: Path | None = None
        self._owner = owner
        self._partitioned = partitioned
        self._mounted: list[Path] = []
        if not self.image.exists():
            self._format(label, size or _SMALLEST.get(fs_type, _USUAL))

    def _format(self, label: str, size: int) -> None:
        with self.image.open("wb") as image:
            image.truncate(size)
        owned = ["-E", f"root_owner={self._owner[0]}:{self._owner[1]}"] if self._owner else []
        _run(*_MKFS[self.fs_type], label, *(owned if self.fs_type == "ext4" else ()), self.image)
        if self._partitioned:
            self._wrap(size)

    def _wrap(self, size: int) -> None:
        """Put the file system into the first partition of a disk (the old table of PCs)."""
        plain = self.image.rename(self.image.with_suffix(".partition"))
        entry = struct.pack("<B3xB3xII", 0, 0x83, _PARTITION_START // 512, size // 512)
        with self.image.open("wb") as image, plain.open("rb") as partition:
            image.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")
            image.seek(_PARTITION_START)
            shutil.copyfileobj(partition, image, 1 << 20)
        plain.unlink()

    def copy(self, name: str) -> "LoopDrive":
        """A second drive with the same bytes, and so the same label and UUID."""
        _run("cp", "--sparse=always", self.image, self.directory / f"{name}.img")
        return LoopDrive(
            self.directory,
            name=name,
            fs_type=self.fs_type,
            owner=self._owner,
            partitioned=self._partitioned,
        )

    def plug(self) -> Path:
        """Attach it and wait until udev knows it; returns the device node of the file system."""
        flags = ("--partscan",) if self._partitioned else ()
        self._disk = Path(_run("losetup", "--find", "--show", *flags, self.image))
        self.devnode = Path(f"{self._disk}p1") if self._partitioned else self._disk
        settle()
        if not self.devnode.exists():  # some kernels read no partition tables, but can be told
            first, count = _PARTITION_START // 512, self.image.stat().st_size // 512
            _run("addpart", self._disk, "1", str(first), str(count - first))
            settle()
        return self.devnode

    def mount(self, at: Path | None = None, *, options: str = "rw") -> Path:
        """Mount it, at its own directory or elsewhere; returns where."""
        where = at or self.mount_point
        where.mkdir(exist_ok=True)
        kind = _FUSE.get(self.fs_type, self.fs_type)
        _run("mount", "-t", kind, "-o", options, self.devnode or self.image, where)
        self._mounted.append(where)
        if self._owner and self.fs_type in ("btrfs", "xfs") and "ro" not in options.split(","):
            os.chown(where, *self._owner)
        return where

    def unmount(self, *, lazily: bool = False) -> None:
        """Unmount it from where it was mounted last; fails while it is busy, unless `lazily`."""
        _run("umount", *(("-l",) if lazily else ()), self._mounted[-1])
        self._mounted.pop()

    def unplug(self) -> None:
        """Detach it from its loop device, which then is an empty slot."""
        assert self._disk is not None, "it is not plugged in"
        _run("losetup", "--detach", self._disk)
        self._disk = self.devnode = None
        settle()

    def pull(self) -> None:
        """Take it away, mounted or not, whoever holds files open there."""
        while self._mounted:
            self.unmount(lazily=True)
        if self._disk is not None:
            self.unplug()

    def fill(self, *, with_names: bool = True) -> None:
        """Take every block that is not root's own, and every name."""
        names = self.mount_point / "names"
        names.mkdir()
        with suppress(OSError):
            for number in range(1 << 20 if with_names else 1):
                (names / f"{number}").touch()
        room = os.statvfs(names)
        with (names / "0").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize)

    def close(self) -> None:
        """Take it away and delete its image."""
        for where in reversed(self._mounted):
            _succeeds("umount", "-l", where)
        if self._disk is not None:
            _succeeds("losetup", "--detach", self._disk)
        self._mounted, self._disk, self.devnode = [], None, None
        self.image.unlink(missing_ok=True)
        with suppress(OSError):
            self.mount_point.rmdir()


@contextmanager
def shared(ground: Path) -> Iterator[Path]:
    """A directory below which whatever is unmounted is unmounted everywhere.

    A container that begins meanwhile has a copy of all mounts, and would keep a drive alive while it runs.
    """
    _run("mount", "--bind", ground, ground)
    try:
        _run("mount", "--make-shared", ground)
        yield ground
    finally:
        _run("umount", "-l", ground)


def settle() -> None:
    """Wait until udev has handled everything that happened so far."""
    _run("udevadm", "settle", "--timeout=60")


def _run(*command: str | Path) -> str:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def _succeeds(*command: str | Path) -> bool:
    try:
        _run(*command)
    except RuntimeError:
        return False
    return True
