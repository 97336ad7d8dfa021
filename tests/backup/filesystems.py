"""File systems of other kinds, each in an image of its own, mounted without udev; for root."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SYSTEM = "/usr/sbin:/sbin:/usr/bin:/bin"


@contextmanager
def mounted(kind: str, folder: Path) -> Iterator[Path]:
    """One of this kind; the test is skipped where it cannot be made."""
    if (make := shutil.which(f"mkfs.{kind}", path=_SYSTEM)) is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    image, where = folder / "image", folder / "mounted"
    where.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run([make, "-q", str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)
        image.unlink()
