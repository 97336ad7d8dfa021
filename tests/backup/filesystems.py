"""File systems of other kinds, each in an image of its own, mounted without udev; for root."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SYSTEM = "/usr/sbin:/sbin:/usr/bin:/bin"
_MAKE = {"exfat": (), "ntfs": ("-q", "-F")}
_FUSE = {"ntfs": "ntfs-3g", "exfat": "mount.exfat-fuse"}  # where the kernel may have no driver


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """One of this kind; the test is skipped where it cannot be made."""
    make, mount = _program(f"mkfs.{kind}"), _program(_FUSE.get(kind, "mount"))
    image, where = folder / "image", folder / "mounted"
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    _run(make, *_MAKE.get(kind, ("-q",)), image)
    device = _run("losetup", "--find", "--show", image).strip()
    try:
        _run(mount, device, where)
        try:
            yield where
        finally:
            _run("umount", where)
    finally:
        _run("losetup", "--detach", device)
        image.unlink()


def _program(name: str) -> str:
    if (found := shutil.which(name, path=_SYSTEM)) is None:
        pytest.skip(f"{name} is not installed")
    return found


def _run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
