"""Keys and encrypted homes for the tests."""

from pathlib import Path

import pytest

from tests.ecryptfs.encrypted import PASSPHRASE, EncryptedTree
from usbbackup.ecryptfs.passphrase import Keys


@pytest.fixture(scope="session")
def keys() -> Keys:
    """Derived once: it takes a tenth of a second."""
    return Keys.of(PASSPHRASE)


@pytest.fixture
def tree(tmp_path: Path, keys: Keys) -> EncryptedTree:
    """An empty encrypted home."""
    return EncryptedTree(tmp_path / "david", keys)
