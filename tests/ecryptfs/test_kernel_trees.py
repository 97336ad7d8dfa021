"""Homes that Linux has encrypted (`machine.py`, `trees.py`) come out as Linux has shown them."""

import json
import os
from pathlib import Path

import pytest

from tests.ecryptfs.made import recovered, seen
from usbbackup.ecryptfs.home import EncryptedHome

AES = ("aes128", "aes192", "aes256", "xattr")


@pytest.mark.parametrize("tree", [*AES, "names-not-encrypted"])
def test_everything_comes_out_as_the_kernel_showed_it(made: Path, tmp_path: Path, tree: str) -> None:
    """Names, contents, sizes, modes, times, targets of links, hard links, pipes."""
    about = json.loads((made / "plain.json").read_text())
    tally = recovered(EncryptedHome(made / tree / ".Private"), tmp_path / "plain", about["login"])
    assert tally.damaged == []
    assert tally.bare == 0
    assert seen(tmp_path / "plain") == about["trees"][tree]


def test_attributes_come_back_but_not_that_of_ecryptfs_itself(made: Path, tmp_path: Path) -> None:
    about = json.loads((made / "plain.json").read_text())
    for tree in ("aes128", "xattr"):
        recovered(EncryptedHome(made / tree / ".Private"), tmp_path / tree, about["login"])
    assert os.getxattr(tmp_path / "aes128/folder/deeper/secret", "user.note") == b"kept"
    assert not any(os.listxattr(path) for path in (tmp_path / "xattr").iterdir() if path.is_file())


def test_a_home_in_another_cipher_is_named_and_nothing_is_guessed(made: Path, tmp_path: Path) -> None:
    about = json.loads((made / "plain.json").read_text())
    tally = recovered(EncryptedHome(made / "blowfish/.Private"), tmp_path / "plain", about["login"])
    assert {why.partition(";")[0] for _, why in tally.damaged} == {"is encrypted with Blowfish"}
    assert not any(path.is_file() for path in (tmp_path / "plain").rglob("*"))


def test_the_mount_passphrase_opens_it_as_well(made: Path, tmp_path: Path) -> None:
    about = json.loads((made / "plain.json").read_text())
    tally = recovered(EncryptedHome(made / "aes256/.Private"), tmp_path, about["mount"], mount=True)
    assert tally.damaged == []
