"""The trees that a kernel has made: unpacked, recovered, and told as the kernel has told them."""

import hashlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from usbbackup.ecryptfs.home import EncryptedHome
from usbbackup.ecryptfs.lower import Wanted
from usbbackup.ecryptfs.recovery import Tally, recover
from usbbackup.folders import closing

ARCHIVE = Path(__file__).parent / "trees.tar.xz"


def unpack(into: Path) -> None:
    """Unpack them, as the ordinary user too."""
    command = ["tar", "-C", str(into), "--xattrs", "--xattrs-include=user.*", "--no-same-owner", "-xpJf"]
    subprocess.run([*command, str(ARCHIVE)], check=True)


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
