"""Writes what eCryptfs writes, straightforwardly and slowly: to compare with, and to damage.

Names, headers and contents after fs/ecryptfs of Linux; the trees that a kernel made are what proves it right.
"""

import base64
import hashlib
import os
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from usbbackup.ecryptfs.passphrase import Key, Keys

PASSPHRASE = b"0123456789abcdef0123456789abcdef"
CODES = {16: 7, 24: 8, 32: 9}
STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
OWN = b"-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def ecb(key: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(data)  # noqa: S305 - the format's


def cbc(key: bytes, vector: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor().update(data)


def length(size: int) -> bytes:
    return bytes([size]) if size < 192 else bytes([(size - 192) // 256 + 192, (size - 192) % 256])


def packet(tag: int, body: bytes) -> bytes:
    return bytes([tag]) + length(len(body)) + body


def name(plain: bytes, key: Key, key_bytes: int = 16) -> bytes:
    """An encrypted name, as it stands in a directory."""
    padding = 16 + -(17 + len(plain)) % 16
    first = md5(key.value)
    stuffed = (first + md5(first))[:padding].replace(b"\0", b"\x42") + b"\0" + plain
    body = bytes.fromhex(key.signature) + bytes([CODES[key_bytes]]) + ecb(key.value[:key_bytes], stuffed)
    spelled = packet(70, body)
    spelled += bytes(-len(spelled) % 3)
    return b"ECRYPTFS_FNEK_ENCRYPTED." + base64.b64encode(spelled).translate(bytes.maketrans(STANDARD, OWN))


def header(size: int, own: bytes, key: Key, *, length: int = 8192) -> bytes:
    """The header of a file whose own key is `own`, filled up to `length` bytes."""
    marker = 0x12345678
    fixed = struct.pack(">QIIIIH", size, marker, marker ^ 0x3C81B7F5, 0x0300000A, 4096, length // 4096)
    wrapped = ecb(key.value[: len(own)], own.ljust(32, b"\0") if len(own) == 24 else own)
    hashed = bytes([4, CODES[len(own)], 3, 1]) + bytes(8) + b"\x60"
    named = b"b\x08_CONSOLE" + bytes(4) + bytes.fromhex(key.signature)
    return (fixed + packet(0x8C, hashed + wrapped) + packet(0xED, named)).ljust(length, b"\0")


def contents(plain: bytes, own: bytes) -> bytes:
    """The extents of a file."""
    extents = []
    for number, begin in enumerate(range(0, len(plain), 4096)):
        vector = md5(md5(own) + str(number).encode().ljust(16, b"\0"))
        extents.append(cbc(own, vector, plain[begin : begin + 4096].ljust(4096, b"\0")))
    return b"".join(extents)


def file(plain: bytes, keys: Keys, key_bytes: int = 16) -> bytes:
    """A whole file."""
    own = hashlib.sha256(plain).digest()[:key_bytes]
    return header(len(plain), own, keys.contents) + contents(plain, own)


class EncryptedTree:
    """An encrypted home that a test fills."""

    def __init__(self, top: Path, keys: Keys) -> None:
        self.lower = top / ".Private"
        self.lower.mkdir(parents=True)
        self.keys = keys

    def path(self, plain: str) -> Path:
        """Where the entry with this plain path lies."""
        below = self.lower
        for part in plain.split("/"):
            below /= os.fsdecode(name(os.fsencode(part), self.keys.names))
        return below

    def write(self, plain: str, content: bytes, *, when: int = 1_325_376_000) -> Path:
        """Put a file there, and the folders it lies in."""
        path = self.path(plain)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file(content, self.keys))
        os.utime(path, (when, when))
        return path

    def link(self, plain: str, target: bytes) -> Path:
        """Put a symbolic link there."""
        path = self.path(plain)
        path.symlink_to(os.fsdecode(name(target, self.keys.names)))
        return path
