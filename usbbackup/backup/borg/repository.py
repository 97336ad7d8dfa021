"""A borg repository as files on the drive, and its key at home; nothing here asks borg."""

import contextlib
import os
import re
import shutil
from pathlib import Path

import msgspec

from usbbackup.backup.borg.commands import REPOSITORY, UNFINISHED
from usbbackup.files import write_atomically
from usbbackup.folders import closing, names_in, open_folder
from usbbackup.kernel import syncfs
from usbbackup.text import safe

_NO_MORE_OF_A_ROSTER = 1 << 16  # bytes
_NO_MORE_OF_A_CONFIG = 1 << 16  # bytes; it may hold a key
_ID = re.compile(rb"^id = ([0-9a-f]{64})$", re.MULTILINE)
_KEY = re.compile(rb"^key = .", re.MULTILINE)
_PART = re.compile(r"config|data|README|(index|hints|integrity)\.\d+", re.ASCII)
_Roster = dict[str, list[tuple[str, int, int]]]  # host, process and thread of each, by the kind of lock
_HOLDER = re.compile(r"(?P<host>.+)@\d+\.(?P<pid>\d+)-[0-9a-f]+")


def exists(job_fd: int) -> bool:
    """Is there a repository? Raises LayoutError where something else is in its place."""
    try:
        with closing(open_folder(job_fd, REPOSITORY)):
            return True
    except FileNotFoundError:
        return False


def identity(job_fd: int) -> str | None:
    """The id that a repository says it has (its `config` file); None where it says none that can be read."""
    found = _ID.search(_config(job_fd))
    return found[1].decode() if found else None


def holds_key(job_fd: int) -> bool:
    """Is there a key in its `config` file, as in every repository that was made with `repokey`?"""
    return _KEY.search(_config(job_fd)) is not None


def _config(job_fd: int) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with (
            closing(open_folder(job_fd, REPOSITORY)) as repository,
            closing(os.open("config", flags, dir_fd=repository)) as config,
        ):
            return os.read(config, _NO_MORE_OF_A_CONFIG)
    except OSError:
        return b""


def stand_in(job_fd: int, place: Path) -> Path:
    """Make a repository in the empty directory `place` that has its lock there, and all else from the drive.

    For reading where nothing may be written: borg makes a lock for everything, and most of its commands
    refuse to do without. Whoever runs it has to be given `job_fd`.
    """
    made = place / REPOSITORY
    made.mkdir()
    with closing(open_folder(job_fd, REPOSITORY)) as repository:
        for name in filter(_PART.fullmatch, names_in(repository)):
            (made / name).symlink_to(f"/proc/self/fd/{job_fd}/{REPOSITORY}/{name}")
    return place


def remove_unfinished(job_fd: int) -> None:
    """Take away a repository that was never finished: nothing was ever saved in it."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(UNFINISHED, dir_fd=job_fd)


def put_in_place(job_fd: int) -> None:
    """Give a new, finished repository its name, for good."""
    syncfs(job_fd)
    os.rename(UNFINISHED, REPOSITORY, src_dir_fd=job_fd, dst_dir_fd=job_fd)
    os.fsync(job_fd)


def keep_key(path: Path, key: bytes) -> None:
    """Store an exported key at home."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, key)


def lock_holders(job_fd: int) -> list[str]:
    """Who holds the repository's lock, for a sentence; borg names host and process in its lock files."""
    try:
        with closing(open_folder(job_fd, REPOSITORY)) as repository:
            names = _exclusive(repository) or _shared(repository)
    except (OSError, ValueError, msgspec.DecodeError, RecursionError):
        return []
    return [f"process {pid} on {safe(host)}" for host, pid in names]


def _exclusive(repository: int) -> list[tuple[str, str]]:
    with contextlib.suppress(FileNotFoundError), closing(open_folder(repository, "lock.exclusive")) as lock:
        return [
            (found["host"], found["pid"]) for name in names_in(lock) if (found := _HOLDER.fullmatch(name))
        ]
    return []


def _shared(repository: int) -> list[tuple[str, str]]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with closing(os.open("lock.roster", flags, dir_fd=repository)) as roster:
        holders = msgspec.json.decode(os.read(roster, _NO_MORE_OF_A_ROSTER), type=_Roster)
    return [(host.rpartition("@")[0], str(pid)) for kind in holders.values() for host, pid, _ in kind]
