"""The header of an encrypted file: how long the plain text is, and which key opens the file's own key.

After fs/ecryptfs of Linux: ecryptfs_write_headers_virt and ecryptfs_read_metadata in crypto.c for the layout,
parse_tag_3_packet and parse_tag_11_packet in keystore.c for the packets.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from usbbackup.ecryptfs import aes, packet
from usbbackup.ecryptfs.damage import DamagedError, UnsupportedError
from usbbackup.ecryptfs.passphrase import Keys

EXTENT = 4096  # bytes; also as much of a file as a header is read from
SHORTEST = 8192  # bytes of a header within the file
XATTR = "user.ecryptfs"  # where a header lies that is not in the file

_FIXED = struct.Struct(">QIII")  # size of the plain text, two halves of the marker, flags
_LAYOUT = struct.Struct(">IH")  # bytes of a header extent, how many of them
_MARKER = 0x3C81B7F5
_NEWEST = 3  # version of the format
_PUBLIC_KEY, _PASSPHRASE, _SIGNATURE = 0x01, 0x8C, 0xED  # tags
_BEFORE_KEY = struct.Struct(">BBBB8sB")  # version, cipher, how a passphrase is hashed (2), salt, count
_BEFORE_SIGNATURE = 14  # bytes: format, length of a name, the name, a date
_WRAPPED = range(16, 513, 16)  # bytes of a wrapped key


@dataclass(frozen=True)
class WrappedKey:
    """A file's own key, encrypted with one of the home's."""

    signature: str
    cipher: int
    value: bytes = field(repr=False)


@dataclass(frozen=True)
class Header:
    """What a file says about itself."""

    size: int  # bytes of plain text
    begins: int  # where the first extent lies in the file
    wrapped: tuple[WrappedKey, ...]

    @property
    def ends(self) -> int:
        """How long the file must be at least: extents are always written whole."""
        return self.begins + -(-self.size // EXTENT) * EXTENT

    def key(self, keys: Keys) -> bytes:
        """The file's own key. Raises DamagedError where none of the home's keys opens it."""
        wrapped = next(
            (one for one in self.wrapped if one.signature == keys.contents.signature), self.wrapped[0]
        )
        size = aes.key_bytes(wrapped.cipher)
        if len(wrapped.value) < size:
            raise DamagedError("has a header with a key that is cut off")
        return aes.decrypted(keys.named(wrapped.signature).value[:size], wrapped.value)[:size]


def is_marked(data: bytes) -> bool:
    """Does a header begin here?"""
    if len(data) < _FIXED.size:
        return False
    _, one, other, _ = _FIXED.unpack_from(data)
    return bool(one ^ other == _MARKER)


def parsed(data: bytes, *, in_file: bool) -> Header:
    """Read a header that lies in the file itself, or in an extended attribute.

    Raises DamagedError where it makes no sense, UnsupportedError where it does and is not known here.
    """
    if not is_marked(data):
        raise DamagedError("has no eCryptfs header")
    size, _, _, flags = _FIXED.unpack_from(data)
    rest, length = data[_FIXED.size :], SHORTEST
    if (version := flags >> 24) > _NEWEST:
        raise UnsupportedError(f"is in version {version} of the format; versions up to {_NEWEST} are known")
    if version > 0:
        length, rest = _length(rest)
    if in_file and length < SHORTEST:
        raise DamagedError(f"has a header of {length} bytes, which is too short")
    if size >> 63:
        raise DamagedError("has a header that tells an impossible size")
    return Header(size, length if in_file else 0, tuple(_keys(rest)))


def _length(data: bytes) -> tuple[int, bytes]:
    """How long the header is, and what follows. (Extents of contents have 4096 bytes, whatever it says.)"""
    if len(data) < _LAYOUT.size:
        raise DamagedError("has a header that is cut off")
    extent, count = _LAYOUT.unpack_from(data)
    return extent * count, data[_LAYOUT.size :]


def _keys(data: bytes) -> Iterator[WrappedKey]:
    """The wrapped keys; the first packet of another kind ends them."""
    public = False
    found = 0
    while data[:1] in (bytes([_PASSPHRASE]), bytes([_PUBLIC_KEY])):
        if data[0] == _PUBLIC_KEY:
            public, (_, data) = True, packet.body(data, _PUBLIC_KEY)
            continue
        key, data = packet.body(data, _PASSPHRASE)
        signature, data = packet.body(data, _SIGNATURE)
        yield _key(key, signature[_BEFORE_SIGNATURE:])
        found += 1
    if found == 0:
        raise (
            UnsupportedError("is encrypted with a public key")
            if public
            else DamagedError("has a header without a key")
        )


def _key(body: bytes, signature: bytes) -> WrappedKey:
    if len(signature) != 8 or len(body) - _BEFORE_KEY.size not in _WRAPPED:
        raise DamagedError("has a header with a key that is damaged")
    version, cipher, *_ = _BEFORE_KEY.unpack_from(body)
    if version != 4:
        raise UnsupportedError(f"has a key in version {version} of its format; only 4 is known")
    return WrappedKey(signature.hex(), cipher, body[_BEFORE_KEY.size :])
