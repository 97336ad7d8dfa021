"""AES of the `cryptography` package, the only cipher that is known here; imported when it is first used."""

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from usbbackup.ecryptfs.damage import UnsupportedError
from usbbackup.errors import UsbbackupError

BLOCK = 16  # bytes

# Ciphers by their number in OpenPGP (RFC 4880, 9.2), as eCryptfs has them (ecryptfs_cipher_code_str_map).
_KEY_BYTES = {7: 16, 8: 24, 9: 32}
_OTHERS = {2: "Triple-DES", 3: "CAST5", 4: "Blowfish", 10: "Twofish", 11: "CAST6"}


def key_bytes(code: int) -> int:
    """How many bytes of a key this cipher takes. Raises UnsupportedError where it is not AES."""
    if code in _KEY_BYTES:
        return _KEY_BYTES[code]
    named = _OTHERS.get(code, f"cipher number {code}")
    raise UnsupportedError(f"is encrypted with {named}; only AES can be decrypted here")


def decrypted(key: bytes, blocks: bytes) -> bytes:
    """Electronic code book mode, for keys and names."""
    cipher, algorithms, modes = _library()
    return bytes(cipher(algorithms.AES(key), modes.ECB()).decryptor().update(blocks))


def chained(key: bytes) -> Callable[[bytes, bytes], bytes]:
    """Cipher block chaining mode: a function of the initial vector and the blocks."""
    cipher, algorithms, modes = _library()
    algorithm = algorithms.AES(key)

    def decrypt(vector: bytes, blocks: bytes) -> bytes:
        return bytes(cipher(algorithm, modes.CBC(vector)).decryptor().update(blocks))

    return decrypt


def require() -> None:
    """Raises UsbbackupError, with the command that mends it, where the library is not installed."""
    _library()


@cache
def _library() -> tuple[Any, ModuleType, ModuleType]:
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError as error:
        own = sys.prefix != sys.base_prefix  # a virtual environment, that of pipx included
        mend = f"{sys.executable} -m pip install cryptography" if own else "apt install python3-cryptography"
        raise UsbbackupError(
            "the Python package 'cryptography' is missing, which decrypting needs",
            f"install it: {mend}",
        ) from error
    return Cipher, algorithms, modes
