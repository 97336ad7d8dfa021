"""Which machine and user this is, as far as the folders on a drive show it."""

import grp
import hashlib
import hmac
import os
import pwd
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

_APPLICATION = bytes.fromhex(
    "b4a4194227636265d7e270dbd8054e39"
)  # ours alone; changing it orphans all folders
_DIGITS = 8


@dataclass(frozen=True)
class Host:
    """One user of one machine. The id finds the folder, the names are for people."""

    id: str
    name: str
    user: str

    @property
    def folder(self) -> str:
        """What the machine's folder is called when it is made."""
        return f"{self.name}-{self.id}"


def this_host(data: Path, machine_id_file: Path = Path("/etc/machine-id")) -> Host:
    """The machine and user that this process runs as; `data` keeps the id where the machine has none."""
    try:
        found = host_id(machine_id_file.read_text())
    except (OSError, ValueError):
        found = _made_up(data / "host-id")
    return Host(found, plain(socket.gethostname(), "host"), plain(login_name(), str(os.getuid())))


def host_id(machine_id: str) -> str:
    """Eight digits that stand for a machine, and hide its id (sd_id128_get_machine_app_specific(3)).

    Raises ValueError for what is no machine id, as `uninitialized` in a machine that never booted.
    """
    raw = bytes.fromhex(machine_id.strip())
    if len(raw) != 16 or raw == bytes(16):
        raise ValueError("not a machine id")
    return hmac.new(raw, _APPLICATION, hashlib.sha256).hexdigest()[:_DIGITS]


def plain(name: str, otherwise: str) -> str:
    """A name as any file system and shell takes it.

    >>> plain("Anna's Laptop", "host"), plain("..", "host")
    ('Anna-s-Laptop', 'host')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name[:64]).lstrip(".-") or otherwise


def login_name() -> str:
    """The name of the user this process runs as; the number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def group_name() -> str:
    """The name of that user's group; the number where it has none."""
    try:
        return grp.getgrgid(os.getgid()).gr_name
    except KeyError:
        return str(os.getgid())


def _made_up(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with file.open("x") as new:
            new.write(secrets.token_hex(_DIGITS // 2) + "\n")
    except FileExistsError:
        pass
    found = file.read_text().strip()
    if not re.fullmatch(rf"[0-9a-f]{{{_DIGITS}}}", found):
        raise ValueError(f"{file} holds no host id")
    return found
