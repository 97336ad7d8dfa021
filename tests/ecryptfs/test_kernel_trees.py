"""Homes that Linux has encrypted (`machine.py`, `trees.py`) come out as Linux has shown them."""

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from usbbackup.ecryptfs.home import EncryptedHome
from usbbackup.ecryptfs.lower import Wanted
from usbbackup.ecryptfs.recovery import Tally, recover
from usbbackup.folders import closing

ARCHIVE = Path(__file__).parent / "trees.tar.xz"
AES = ("aes128", "aes192", "aes256", "xattr")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The trees, unpacked."""
    folder = tmp_path_factory.mktemp("trees")
    try:
        os.setxattr(folder, "user.tried", b"")
    except OSError:
        pytest.skip("the file system for temporary files has no extended attributes")
    unpack = ["tar", "-C", str(folder), "--xattrs", "--xattrs-include=user.*", "--no-same-owner", "-xpJf"]
    subprocess.run([*unpack, str(ARCHIVE)], check=True)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwX", str(folder)], check=True)  # else nobody can remove it


def recovered(home: EncryptedHome, into: Path, secret: str, *, mount: bool = False) -> Tally:
    """All of a home, written to a directory."""
    keys = home.unlocked(secret.encode(), mount=mount)
    into.mkdir(parents=True, exist_ok=True)
    with (
        closing(os.open(home.lower, os.O_RDONLY | os.O_DIRECTORY)) as lower,
        closing(os.open(into, os.O_RDONLY | os.O_DIRECTORY)) as target,
    ):
        return recover(lower, target, keys, Wanted(), lambda tally: None)


def seen(top: Path) -> dict[str, dict[str, Any]]:
    """Every entry, told as `trees.py` tells it."""
    found = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        entry: dict[str, Any] = {
            "mode": stat.filemode(status.st_mode),
            "mtime_ns": status.st_mtime_ns,
            "links": status.st_nlink if not path.is_dir() or path.is_symlink() else None,
        }
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        if path.is_symlink():
            entry["target"] = str(path.readlink())
        found[str(path.relative_to(top))] = entry
    return found


@pytest.mark.parametrize("tree", [*AES, "names-not-encrypted"])
def test_everything_comes_out_as_the_kernel_showed_it(made: Path, tmp_path: Path, tree: str) -> None:
    """Names, contents, sizes, modes, times, targets of links, hard links, pipes."""
    about = json.loads((made / "plain.json").read_text())
    tally = recovered(EncryptedHome(made / tree / ".Private"), tmp_path / "plain", about["login"])
    assert tally.damaged == []
    assert tally.bare == 0
    assert seen(tmp_path / "plain") == about["trees"][tree]


def test_a_home_in_another_cipher_is_named_and_nothing_is_guessed(made: Path, tmp_path: Path) -> None:
    about = json.loads((made / "plain.json").read_text())
    tally = recovered(EncryptedHome(made / "blowfish/.Private"), tmp_path / "plain", about["login"])
    assert {why.partition(";")[0] for _, why in tally.damaged} == {"is encrypted with Blowfish"}
    assert not any(path.is_file() for path in (tmp_path / "plain").rglob("*"))


def test_the_mount_passphrase_opens_it_as_well(made: Path, tmp_path: Path) -> None:
    about = json.loads((made / "plain.json").read_text())
    tally = recovered(EncryptedHome(made / "aes256/.Private"), tmp_path, about["mount"], mount=True)
    assert tally.damaged == []
