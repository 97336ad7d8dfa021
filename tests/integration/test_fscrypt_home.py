"""A home that the kernel itself encrypts (fscrypt): known as such, and known to be closed."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import loop_drive
from usbbackup.encrypted_home import opened_by, still_encrypted

# linux/fscrypt.h
ADD_KEY, REMOVE_KEY, SET_POLICY = 0xC0506617, 0xC0406618, 0x800C6613
BY_IDENTIFIER, XTS, CTS, PADDING_32 = 2, 1, 4, 3
NO_PAM_MOUNT = Path("/nonexistent")


@pytest.fixture
def encrypting(ground: Path) -> Iterator[Path]:
    """A mounted file system that can encrypt directories."""
    if reason := loop_drive.missing():
        pytest.skip(reason)
    if not Path("/sys/fs/ext4/features/encryption").exists():
        pytest.skip("this kernel has no encryption for ext4")
    image, at = ground / "encrypting.img", ground / "encrypting"
    at.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "encrypt", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, at], check=True)
    yield at
    subprocess.run(["umount", at], check=True)


def told(path: Path, request: int, argument: bytearray) -> bytearray:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, request, argument)
    finally:
        os.close(fd)
    return argument


def test_a_home_is_open_while_its_key_is_there_and_closed_after(encrypting: Path) -> None:
    home = encrypting / "anna"
    home.mkdir()
    assert opened_by(home, [], NO_PAM_MOUNT) is None
    key = told(
        encrypting,
        ADD_KEY,
        bytearray(struct.pack("=II32sII32x", BY_IDENTIFIER, 0, b"", 64, 0) + bytes(range(64))),
    )
    identifier = bytes(key[8:24])
    told(home, SET_POLICY, bytearray(struct.pack("=BBBB4x16s", 2, XTS, CTS, PADDING_32, identifier)))
    (home / "letter").write_text("Dear David")
    assert opened_by(home, [], NO_PAM_MOUNT) == "fscrypt"
    assert still_encrypted(home, [], NO_PAM_MOUNT) is None
    told(encrypting, REMOVE_KEY, bytearray(struct.pack("=II32sI20x", BY_IDENTIFIER, 0, identifier, 0)))
    before = sorted(path.name for path in home.iterdir())
    assert before != ["letter"]
    assert opened_by(home, [], NO_PAM_MOUNT) == "fscrypt"
    assert still_encrypted(home, [], NO_PAM_MOUNT) == "fscrypt"
    assert sorted(path.name for path in home.iterdir()) == before
