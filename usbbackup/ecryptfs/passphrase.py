"""From the login passphrase to the keys: the wrapped mount passphrase, and what is derived from it.

After src/libecryptfs of eCryptfs-utils: generate_passphrase_sig in main.c, the two kinds of wrapped
passphrases in key_management.c (version 2 since release 106), the salts in ecryptfs.h.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from usbbackup.ecryptfs import aes
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.errors import UsbbackupError

SALT = bytes.fromhex("0011223344556677")  # of contents, and of wrapping before version 2
NAMES_SALT = (
    b"99887766"  # the first of the digits ECRYPTFS_DEFAULT_SALT_FNEK_HEX, which were never made bytes
)
LONGEST = 64  # bytes of a passphrase
SIGNATURE = 16  # hexadecimal digits

_ROUNDS = 65536
_WRAPPING_KEY = 16  # bytes
_VERSION_2 = b":\x02"
_SALT_BYTES = 8


@dataclass(frozen=True)
class Key:
    """What is derived from one passphrase and salt; a cipher takes as many bytes of it as it needs."""

    value: bytes = field(repr=False)
    signature: str  # the name of the key, no secret

    @classmethod
    def derived(cls, passphrase: bytes, salt: bytes) -> "Key":
        """Raises UsbbackupError for a passphrase that eCryptfs would not take. Takes about 50 ms."""
        if not 0 < len(passphrase) <= LONGEST:
            raise UsbbackupError(
                f"the passphrase has {len(passphrase)} bytes", f"eCryptfs takes from 1 to {LONGEST}"
            )
        value = salt + passphrase
        for _ in range(_ROUNDS):
            value = hashlib.sha512(value).digest()
        return cls(value, hashlib.sha512(value).digest().hex()[:SIGNATURE])


@dataclass(frozen=True)
class Keys:
    """The two keys of an encrypted home."""

    contents: Key
    names: Key

    @classmethod
    def of(cls, mount_passphrase: bytes) -> "Keys":
        """Raises UsbbackupError for a passphrase that eCryptfs would not take."""
        return cls(Key.derived(mount_passphrase, SALT), Key.derived(mount_passphrase, NAMES_SALT))

    def named(self, signature: str) -> Key:
        """The key of this signature. Raises DamagedError where it is neither of the two."""
        for key in (self.contents, self.names):
            if key.signature == signature:
                return key
        raise DamagedError(f"is encrypted with another passphrase, whose signature is {signature}")


class WrongPassphraseError(UsbbackupError):
    """It opens nothing here; another one may."""


def unwrapped(wrapped: bytes, login: bytes) -> bytes:
    """The mount passphrase that a `wrapped-passphrase` file holds.

    Raises WrongPassphraseError, and DamagedError where it is no such file.
    """
    salt, signature, blocks = _parts(wrapped)
    key = Key.derived(login, salt)
    if not hmac.compare_digest(key.signature.encode(), signature.lower()):
        raise WrongPassphraseError(
            "the login passphrase is wrong: it does not open the wrapped mount passphrase",
            "it is the one that was in use when the backup was made, perhaps an older one; with the mount\n"
            "passphrase (32 characters, noted down when the home was encrypted) use --mount-passphrase",
        )
    passphrase = aes.decrypted(key.value[:_WRAPPING_KEY], blocks).rstrip(b"\0")
    if not passphrase:
        raise DamagedError("holds an empty passphrase")
    return passphrase


def _parts(wrapped: bytes) -> tuple[bytes, bytes, bytes]:
    """Salt, signature of the wrapping key, and the encrypted passphrase."""
    salt, rest = SALT, wrapped
    if wrapped.startswith(b":"):
        if not wrapped.startswith(_VERSION_2):
            raise DamagedError(
                f"is a wrapped passphrase of version {wrapped[1:2].hex() or '?'}; 1 and 2 are known"
            )
        salt, rest = wrapped[2 : 2 + _SALT_BYTES], wrapped[2 + _SALT_BYTES :]
    signature, blocks = rest[:SIGNATURE], rest[SIGNATURE:]
    if not _is_hexadecimal(signature) or not 0 < len(blocks) <= LONGEST or len(blocks) % aes.BLOCK:
        raise DamagedError("is no wrapped passphrase, or not all of one")
    return salt, signature, blocks


def _is_hexadecimal(signature: bytes) -> bool:
    return len(signature) == SIGNATURE and not signature.strip(b"0123456789abcdefABCDEF")
