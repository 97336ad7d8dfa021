"""`make test-vm`: a kernel encrypts trees now, 10,000 files among them; they come out as it showed them."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ecryptfs import machine
from tests.ecryptfs.made import recovered, seen
from usbbackup.ecryptfs.home import EncryptedHome

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="making a root file system needs root"),
]

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("USBBACKUP_TEST_CACHE", "~/.cache/usbbackup-tests")).expanduser()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the machine has made."""
    folder, into = CACHE / "vm", tmp_path_factory.mktemp("machine")
    files = {"usbbackup": HERE.parent.parent / "usbbackup"}
    print(machine.run(folder, HERE / "trees.py", files, into))
    yield into
    subprocess.run(["chmod", "-R", "u+rwX", str(into)], check=True)


@pytest.mark.parametrize("tree", ["aes128", "aes192", "aes256", "xattr", "names-not-encrypted", "large"])
def test_everything_comes_out_as_the_kernel_showed_it(fresh: Path, tmp_path: Path, tree: str) -> None:
    about: dict[str, Any] = json.loads((fresh / "plain.json").read_text())
    tally = recovered(EncryptedHome(fresh / tree / ".Private"), tmp_path / "plain", about["login"])
    assert tally.damaged == []
    assert seen(tmp_path / "plain") == about["trees"][tree]
    print(tree, len(about["trees"][tree]), "entries;", about["race"])
