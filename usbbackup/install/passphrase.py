"""Where the passphrase of a borg repository is kept: the keyring, a systemd credential, or a plain file."""

import re
import secrets
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from usbbackup.errors import UsbbackupError
from usbbackup.install.steps import Write, do
from usbbackup.install.tools import Tools
from usbbackup.paths import Paths
from usbbackup.text import safe

PLACES = ("keyring", "systemd-creds", "file")
SENTENCE = (
    "Without this passphrase nobody gets the files back, you neither. It has to survive this computer: "
    "write it down, and keep it elsewhere."
)

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another
_CREDS_SINCE = 256  # the version of systemd that knows `systemd-creds --user`


@dataclass(frozen=True)
class Keeper:
    """One way to keep a passphrase."""

    name: str
    passcommand: tuple[str, ...]  # prints it
    store: tuple[str, ...]  # reads it from stdin and keeps it; empty: it is written into `file`
    file: Path | None
    means: str  # what that means for the secret


def generated() -> str:
    """A new passphrase of 148 bits, easily copied by hand."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(6))


def keepers(job: str, paths: Paths) -> Mapping[str, Keeper]:
    """All ways, the best first."""
    directory = paths.data / "passphrases"
    credential, plain = directory / f"{job}.cred", directory / job
    name = f"--name=usbbackup-{job}"
    found = (
        Keeper(
            "keyring",
            ("secret-tool", "lookup", "usbbackup", job),
            ("secret-tool", "store", f"--label=usbbackup: {job}", "usbbackup", job),
            None,
            "your keyring, which is open while you are logged in",
        ),
        Keeper(
            "systemd-creds",
            ("systemd-creds", "--user", name, "decrypt", str(credential), "-"),
            ("systemd-creds", "--user", name, "encrypt", "-", str(credential)),
            credential,
            f"{credential}, encrypted so that only you on this machine can read it",
        ),
        Keeper(
            "file",
            ("cat", str(plain)),
            (),
            plain,
            f"{plain}, as plain text that you and root can read, and whoever gets this disk unencrypted",
        ),
    )
    return {keeper.name: keeper for keeper in found}


def keep(
    passphrase: str, job: str, paths: Paths, tools: Tools, env: Mapping[str, str], place: str | None = None
) -> Keeper:
    """Keep it at `place`, else at the first that works here, and prove that it can be had from there.

    Raises UsbbackupError where none works.
    """
    ways = keepers(job, paths)
    wanted = [ways[place]] if place else [ways[name] for name in _likely(tools, env)]
    for keeper in wanted:
        _store(keeper, passphrase, tools)
        if tools.ask(*keeper.passcommand).out.removesuffix("\n") == passphrase:
            return keeper
    raise UsbbackupError(
        f"the passphrase could not be kept in: {', '.join(keeper.name for keeper in wanted)}",
        "say another place: --passphrase-in file",
    )


def known(job: str, paths: Paths, tools: Tools, env: Mapping[str, str], place: str | None) -> Keeper | None:
    """Where a passphrase for this job is kept already."""
    ways = keepers(job, paths)
    for name in [place] if place else [*_likely(tools, env)]:
        keeper = ways[name]
        if (keeper.file is None or keeper.file.exists()) and tools.ask(*keeper.passcommand).out.strip():
            return keeper
    return None


def told(keeper: Keeper) -> Iterator[str]:
    """What the user has to know of it."""
    yield f"the passphrase is kept in {safe(keeper.means)}"
    yield f"read it with: {safe(shlex.join(keeper.passcommand))}"
    yield SENTENCE


def _likely(tools: Tools, env: Mapping[str, str]) -> Iterator[str]:
    desktop = env.get("WAYLAND_DISPLAY") or env.get("DISPLAY")
    if desktop and tools.ask("secret-tool", "search", "usbbackup", "").code != 127:
        yield "keyring"
    version = re.match(r"systemd (\d+)", tools.ask("systemd-creds", "--version").out)
    if version and int(version[1]) >= _CREDS_SINCE:
        yield "systemd-creds"
    yield "file"


def _store(keeper: Keeper, passphrase: str, tools: Tools) -> None:
    if keeper.file is not None:
        keeper.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if keeper.store:
        tools.ask(*keeper.store, stdin=passphrase)
    elif keeper.file is not None:
        do(Write(keeper.file, passphrase.encode() + b"\n", mode=0o600), tools)
