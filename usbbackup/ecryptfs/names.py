"""Encrypted names: what stands behind ECRYPTFS_FNEK_ENCRYPTED in a directory, or in a symbolic link.

After fs/ecryptfs of Linux: ecryptfs_decode_and_decrypt_filename in crypto.c for the letters,
ecryptfs_write_tag_70_packet in keystore.c for the packet that they spell.
"""

import base64
import binascii
import hashlib

from usbbackup.ecryptfs import aes, packet
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.passphrase import Key, Keys

PREFIX = b"ECRYPTFS_FNEK_ENCRYPTED."
LONGEST_NAME = 255  # bytes (NAME_MAX)
LONGEST_TARGET = 4095  # bytes (PATH_MAX)

_TAG = 70
_SIGNATURE = 8  # bytes
_LEAST_PADDING = 16  # bytes before the zero byte that the name follows
_NOT_ZERO = b"\x42"  # stands in the padding where a zero byte would
_LETTERS = bytes.maketrans(
    b"-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
)


class Names:
    """Decrypts the names of one encrypted home."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def name(self, found: bytes) -> bytes:
        """The plain name of a directory's entry; one that is not encrypted stays as it is.

        Raises DamagedError where the result is no name of a file.
        """
        name = self._plain(found)
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > LONGEST_NAME:
            raise DamagedError("has a name that decrypts to no name")
        return name

    def target(self, found: bytes) -> bytes:
        """The plain target of a symbolic link, treated like a name. Raises DamagedError."""
        target = self._plain(found)
        if not target or b"\0" in target or len(target) > LONGEST_TARGET:
            raise DamagedError("points to what decrypts to no path")
        return target

    def _plain(self, found: bytes) -> bytes:
        if not found.startswith(PREFIX):
            return found
        body = _body(found)
        signature, code, blocks = body[:_SIGNATURE], body[_SIGNATURE : _SIGNATURE + 1], body[_SIGNATURE + 1 :]
        if not blocks:
            raise DamagedError("has an encrypted name that is cut off")
        size, key = aes.key_bytes(code[0]), self._keys.named(signature.hex())
        if len(blocks) % aes.BLOCK:
            raise DamagedError("has an encrypted name that is cut off")
        padding, _, name = aes.decrypted(key.value[:size], blocks).partition(b"\0")
        if len(padding) < _LEAST_PADDING or not _padding(key).startswith(padding):
            raise DamagedError("has an encrypted name that is damaged")
        return name


def signature(found: bytes) -> str | None:
    """The signature of the key that a name is encrypted with; None where it is not. Raises DamagedError."""
    return _body(found)[:_SIGNATURE].hex() if found.startswith(PREFIX) else None


def _body(found: bytes) -> bytes:
    body, _ = packet.body(_spelled(found.removeprefix(PREFIX)), _TAG)
    return body


def _spelled(letters: bytes) -> bytes:
    """The bytes that a name's letters stand for: base64 with an alphabet of its own."""
    try:
        return base64.b64decode(letters.translate(_LETTERS, b"+/"), validate=True)
    except binascii.Error as error:
        raise DamagedError("has an encrypted name that is damaged") from error


def _padding(key: Key) -> bytes:
    """What stands before a name; always the same, so that the kernel finds a file again by its plain name."""
    first = hashlib.md5(key.value, usedforsecurity=False).digest()
    second = hashlib.md5(first, usedforsecurity=False).digest()
    return (first + second).replace(b"\0", _NOT_ZERO)
