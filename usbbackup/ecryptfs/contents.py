"""The plain text of an encrypted file, piece by piece.

After fs/ecryptfs of Linux, crypto.c: ecryptfs_compute_root_iv, ecryptfs_derive_iv and crypt_extent.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from usbbackup.ecryptfs import aes
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.header import EXTENT, SHORTEST, XATTR, Header, is_marked, parsed
from usbbackup.ecryptfs.passphrase import Keys

PIECE = 64 * EXTENT  # bytes that are decrypted at once; more would not stay in the cache of the processor

_BLOCK = aes.BLOCK
_DIGITS = 16  # bytes that the number of an extent is written in


class Decryption:
    """Decrypts extents with a file's own key."""

    def __init__(self, key: bytes) -> None:
        self._chained = aes.chained(key)
        self._root = hashlib.md5(key, usedforsecurity=False).digest()

    def plain(self, extents: bytes, first: int) -> bytearray:
        """Decrypt whole extents, of which the first has the number `first`.

        All are decrypted as one chain, which is many times as fast as one by one. What is wrong then is only
        the first block of every extent but the first: it was combined with the block before it, not with its
        own vector. Combining is exclusive-or, so it can be made good afterwards.
        """
        plain = bytearray(self._chained(self._vector(first), extents))
        for begin in range(EXTENT, len(extents), EXTENT):
            first += 1
            wrong = int.from_bytes(extents[begin - _BLOCK : begin]) ^ int.from_bytes(self._vector(first))
            block = int.from_bytes(plain[begin : begin + _BLOCK]) ^ wrong
            plain[begin : begin + _BLOCK] = block.to_bytes(_BLOCK)
        return plain

    def _vector(self, number: int) -> bytes:
        return hashlib.md5(
            self._root + (b"%d" % number).ljust(_DIGITS, b"\0"), usedforsecurity=False
        ).digest()


@dataclass(frozen=True)
class PlainText:
    """What a file holds."""

    size: int  # bytes
    pieces: Iterator[bytearray]  # of `PIECE` bytes but the last; raises DamagedError where it cannot go on


def plain_text(file: int, keys: Keys, *, encrypted: bool) -> PlainText:
    """The plain text of an open file; `encrypted` says that its name is.

    A file without a header was never encrypted, and is given as it is (with `ecryptfs_passthrough` the kernel
    does the same), unless its name or its length says otherwise. Raises DamagedError and UnsupportedError.
    """
    with _read():
        length, header = os.fstat(file).st_size, _header(file)
    if header is not None:
        decryption = Decryption(header.key(keys))
        if length < header.ends:
            raise DamagedError(f"is cut off: {length} of {header.ends} bytes are there")
        return PlainText(header.size, _decrypted(file, header, decryption))
    if length == 0:  # the kernel too takes that for an empty file (ecryptfs_open)
        return PlainText(0, iter(()))
    if encrypted:
        raise DamagedError("has no eCryptfs header")
    if length >= SHORTEST and length % EXTENT == 0:
        raise DamagedError("has no eCryptfs header, but the length of an encrypted file; look at it by hand")
    return PlainText(length, _as_it_is(file, length))


def signatures(file: int) -> tuple[str, ...]:
    """The signatures of the keys that an open file names. Raises DamagedError."""
    with _read():
        header = _header(file)
    return tuple(wrapped.signature for wrapped in header.wrapped) if header else ()


def _header(file: int) -> Header | None:
    """The header in the file, or in an extended attribute; None where there is none."""
    begin = os.pread(file, EXTENT, 0)
    if is_marked(begin):
        return parsed(begin, in_file=True)
    attribute = _attribute(file)
    return parsed(attribute, in_file=False) if is_marked(attribute) else None


def _attribute(file: int) -> bytes:
    try:
        return os.getxattr(file, XATTR)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return b""
        raise


def _decrypted(file: int, header: Header, decryption: Decryption) -> Iterator[bytearray]:
    for begin in range(0, header.size, PIECE):
        extents = _piece(file, header.begins + begin, header.ends)
        piece = decryption.plain(extents, begin // EXTENT)
        del piece[header.size - begin :]
        yield piece


def _as_it_is(file: int, length: int) -> Iterator[bytearray]:
    for begin in range(0, length, PIECE):
        yield bytearray(_piece(file, begin, length))


def _piece(file: int, begin: int, end: int) -> bytes:
    wanted = min(PIECE, end - begin)
    with _read():
        piece = os.pread(file, wanted, begin)
    if len(piece) != wanted:
        raise DamagedError("became shorter while it was read")
    return piece


@contextmanager
def _read() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DamagedError(f"cannot be read: {error.strerror}") from error
