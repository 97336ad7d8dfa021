"""`drive.json`, the marker on a drive that says it was enrolled, and `README.txt` for whoever finds it.

Nothing read from a drive is trusted: whatever the marker is, at most 64 KiB of a regular file are looked at.
"""

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from usbbackup import kernel
from usbbackup.drives.host import Host
from usbbackup.folders import LayoutError, closing, in_the_way
from usbbackup.text import safe

NAME = "drive.json"
README = "README.txt"
FORMAT = 1
LARGEST = 64 << 10  # bytes


class Owner(Struct, frozen=True):
    """Who enrolled the drive first; the id counts, the names are for people."""

    id: str
    name: str
    user: str


class Marker(Struct, frozen=True):
    """What stands in the marker. There is no secret in it."""

    format: int
    token: str
    host: Owner
    enrolled: str


def new_marker(host: Host, now: float) -> Marker:
    """A marker with a token of its own."""
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    return Marker(FORMAT, secrets.token_hex(16), Owner(host.id, host.name, host.user), moment)


def read_marker(top: int) -> Marker | None:
    """The marker in the folder `usbbackup`; None where there is none. Raises LayoutError for anything odd."""
    data = _small_file(top, NAME)
    if data is None:
        return None
    hint = "Look at it, and move it away if it is not yours."
    try:
        marker = msgspec.json.decode(data, type=Marker)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LayoutError(
            f"The marker '{NAME}' on the drive is damaged: {safe(str(error))}.", hint
        ) from error
    if marker.format != FORMAT:
        raise LayoutError(f"The marker '{NAME}' on the drive has the unknown format {marker.format}.", hint)
    if not re.fullmatch("[0-9a-f]{32}", marker.token):
        raise LayoutError(f"The marker '{NAME}' on the drive has no valid token.", hint)
    return marker


def _small_file(top: int, name: str) -> bytes | None:
    try:
        kind = os.stat(name, dir_fd=top, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(kind):  # before it is opened: opening a device may do something
        raise in_the_way(top, name, "file")
    with closing(_opened(top, name)) as fd:
        if kernel.mount_id(fd) != kernel.mount_id(top):
            raise LayoutError(f"Another file is mounted on '{name}' of the drive.")
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise in_the_way(top, name, "file")
        data = os.read(fd, LARGEST + 1)
    if len(data) > LARGEST:
        raise LayoutError(f"The file '{name}' on the drive is too large to be usbbackup's.")
    return data


def _opened(top: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=top)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise in_the_way(top, name, "file") from error
        raise


def write_marker(top: int, marker: Marker) -> None:
    """Write the marker where there is none, so that it is there whole or not at all."""
    _create(top, NAME, msgspec.json.format(msgspec.json.encode(marker)) + b"\n")


def write_readme(top: int) -> None:
    """Write `README.txt`, unless something of that name is there."""
    try:
        os.stat(README, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        _create(top, README, README_TEXT.encode())


def _create(top: int, name: str, content: bytes) -> None:
    new = f".{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=top)  # left by a moment that was the last
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o644, dir_fd=top), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, name, src_dir_fd=top, dst_dir_fd=top)


README_TEXT = """\
Backups made by usbbackup
=========================

Here is how to get files back without usbbackup. Open a terminal in the folder of this file.

    ls                     one folder for each machine, HOST-ID
    ls HOST-ID/USER        one folder for each backup job, JOB
    ls HOST-ID/USER/JOB    `snapshots` or `mirror`: plain files;  `borg`: a borg repository

The folders belong to the user who made the backups. On another machine put `sudo` before each command.
Folders named `incomplete-...` are unfinished backups: do not rely on them.


Plain files (rsync)
-------------------
Each folder in `snapshots` is the whole backup as it was at that time (UTC), with the full path of each file.
Look at them with any file manager, or copy with all times and permissions:

    ls HOST-ID/USER/JOB/snapshots
    mkdir -p ~/restored
    cp -a HOST-ID/USER/JOB/snapshots/TIME/home/USER/Documents ~/restored/

Do not change the files here: snapshots share what did not change between them. A `mirror` is one plain copy,
as it was at the last backup; copy from it in the same way.


A borg repository
-----------------
Needs the program `borg` (1.2 or newer, not 2) and, where the job is encrypted, its passphrase.

    borg list HOST-ID/USER/JOB/borg
    mkdir -p ~/restored
    here="$PWD" && cd ~/restored && borg extract "$here/HOST-ID/USER/JOB/borg::JOB@TIME" home/USER/Documents

Where borg asks whether the repository was moved here, or whether an unencrypted one may be used, answer y.
Where the drive can only be read, put --bypass-lock behind `list` and `extract`.
"""
