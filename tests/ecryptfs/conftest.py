"""Keys and encrypted homes for the tests."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ecryptfs.encrypted import PASSPHRASE, EncryptedTree
from tests.ecryptfs.made import unpack
from usbbackup.ecryptfs.passphrase import Keys


@pytest.fixture(scope="session")
def keys() -> Keys:
    """Derived once: it takes a tenth of a second."""
    return Keys.of(PASSPHRASE)


@pytest.fixture
def tree(tmp_path: Path, keys: Keys) -> EncryptedTree:
    """An empty encrypted home."""
    return EncryptedTree(tmp_path / "david", keys)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The trees that a kernel has made."""
    folder = tmp_path_factory.mktemp("trees")
    try:
        os.setxattr(folder, "user.tried", b"")
    except OSError:
        pytest.skip("the file system for temporary files has no extended attributes")
    unpack(folder)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)  # else nobody can remove it
