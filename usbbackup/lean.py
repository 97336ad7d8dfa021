"""Keeps OpenSSL out of a process that stays for months: asyncio and hashlib bring it along, 4.6 MiB of it.

The agent talks over a Unix socket and hashes one short text. Both libraries provide for a Python that was
built without OpenSSL: asyncio then has no TLS, and hashlib hashes by Python's own code.
"""

import sys
from importlib.util import find_spec

_OPENSSL = ("ssl", "_hashlib")
_OWN_SHA256 = ("_sha256", "_sha2")  # some distributions build Python with OpenSSL's hashes only


def without_openssl() -> None:
    """Import asyncio and hashlib without it, where that is possible still; `ssl` can be had afterwards."""
    if any(name in sys.modules for name in _OPENSSL) or not any(map(find_spec, _OWN_SHA256)):
        return
    sys.modules.update(dict.fromkeys(_OPENSSL))  # type: ignore[arg-type] # None: the import fails
    try:
        import asyncio  # noqa: F401 - for its presence
        import hmac  # noqa: F401 - with hashlib
    finally:
        for name in _OPENSSL:
            del sys.modules[name]
