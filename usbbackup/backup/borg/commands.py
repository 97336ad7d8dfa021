"""What borg is asked: argument lists and environments, made by pure functions.

All of them are run in the job's directory on the drive and name the repository relative to it: borg works on
the directory that was proven, wherever it is mounted, and no mount point's name is read as borg's syntax.

borg's cache is ours (`$XDG_CACHE_HOME/usbbackup/borg`): it can be made anew, is all that grows at home, and
goes when usbbackup is uninstalled. Its configuration stays the user's own (`~/.config/borg`), because there
it remembers which repositories are known, encrypted and how new (against a swapped drive), the nonces it has
used, and the keys of keyfile modes: the user's own borg must find them.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = "borg"
UNFINISHED = "borg.new"  # a repository that is being made
PACKAGE = "borgbackup"

_CHECKPOINT_INTERVAL = 300  # seconds of work that a pulled drive may cost
_LOCK_WAIT = 10  # seconds
_SEGMENT = 32 << 20  # bytes
_RELAY = Path(__file__).with_name("relay.py")

# What the user may have set for borg by hand, and what must not reach these runs.
_UNSET = (
    "BORG_REPO",
    "BORG_BASE_DIR",
    "BORG_SECURITY_DIR",
    "BORG_KEYS_DIR",
    "BORG_KEY_FILE",
    "BORG_PASSPHRASE",
    "BORG_PASSCOMMAND",
    "BORG_NEW_PASSPHRASE",
    "BORG_LOGGING_CONF",
    "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING",
    "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING",
)


def environment(cache: Path, config: Path, passphrase_fd: int, relocated_ok: bool) -> dict[str, str | None]:
    """What borg's environment differs in from the user's (borg-environment docs).

    Every question that borg could ask is answered here, because what it would read as an answer from stdin is
    the list of files. `relocated_ok`: the drive is proven to be the right one, wherever it is mounted.
    """
    return dict.fromkeys(_UNSET) | {
        "BORG_CACHE_DIR": str(cache),
        "BORG_CONFIG_DIR": str(config),
        "TMPDIR": str(cache / "tmp"),
        "BORG_PASSPHRASE_FD": str(passphrase_fd),
        "BORG_DISPLAY_PASSPHRASE": "no",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes" if relocated_ok else "no",
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "no",
        "BORG_EXIT_CODES": "modern",
        "BORG_SHOW_SYSINFO": "no",
        "LC_ALL": "C.UTF-8",
    }


def strangers(memory: Path) -> dict[str, str]:
    """What the environment differs in besides, so that borg meets any repository for the first time.

    Only for reading one whose id is known, from a memory that is thrown away.
    """
    return {
        "BORG_CACHE_DIR": str(memory / "cache"),
        "BORG_SECURITY_DIR": str(memory / "security"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }


def version() -> tuple[str, ...]:
    """Which borg is it?"""
    return ("borg", "--version")


def is_supported(version: str) -> bool:
    """Can we work with a borg that calls itself so? 2 has another command line and another repository.

    >>> [is_supported(f"borg {number}") for number in ("1.1.17", "1.2.4", "1.4.0", "2.0.0b25")]
    [False, True, True, False]
    """
    return version.startswith("borg 1.") and not version.startswith(("borg 1.0.", "borg 1.1."))


def init(encryption: str) -> tuple[str, ...]:
    """Make a new repository, not yet under its own name.

    >>> init("repokey-blake2")
    ('borg', 'init', '--log-json', '--encryption=repokey-blake2', 'borg.new')
    """
    return ("borg", "init", "--log-json", f"--encryption={encryption}", UNFINISHED)


def small_segments() -> tuple[str, ...]:
    """Have a new repository kept in smaller files than borg's own 500 MB.

    Before it removes anything, borg wants room for a whole one (Repository.check_free_space, 1.2 and 1.4): on
    a full drive that has to be found within the reserve.

    >>> small_segments()
    ('borg', 'config', '--log-json', 'borg.new', 'max_segment_size', '33554432')
    """
    return ("borg", "config", "--log-json", UNFINISHED, "max_segment_size", str(_SEGMENT))


def export_key() -> tuple[str, ...]:
    """Print the key of a new repository.

    >>> export_key()
    ('borg', 'key', 'export', '--log-json', 'borg.new')
    """
    return ("borg", "key", "export", "--log-json", UNFINISHED)


def create(archive: str, compression: str | None) -> tuple[str, ...]:
    """Back up the paths that its stdin names, as the relay hands them on.

    >>> create("home@2026-11-23T101500Z", "zstd,3")[9:12]
    ('--compression=zstd,3', '--paths-from-command', '--paths-delimiter=\\\\0')
    """
    return (
        "borg",
        "create",
        "--log-json",
        "--json",
        "--progress",
        "--list",
        "--filter=CE",  # of all entries tell only those that changed meanwhile or could not be read
        f"--checkpoint-interval={_CHECKPOINT_INTERVAL}",
        f"--lock-wait={_LOCK_WAIT}",
        *((f"--compression={compression}",) if compression else ()),
        "--paths-from-command",
        r"--paths-delimiter=\0",
        f"{REPOSITORY}::{archive}",
        "--",
        sys.executable,
        "-I",
        "-S",
        str(_RELAY),
    )


def info(archive: str) -> tuple[str, ...]:
    """Tell about an archive, and so prove that it is there.

    >>> info("home@2026-11-23T101500Z")[2:]
    ('--log-json', '--json', '--lock-wait=10', 'borg::home@2026-11-23T101500Z')
    """
    return ("borg", "info", "--log-json", "--json", f"--lock-wait={_LOCK_WAIT}", f"{REPOSITORY}::{archive}")


def delete(archive: str, *more: str) -> tuple[str, ...]:
    """Delete archives by their names.

    >>> delete("home@2026-11-23T101500Z")[-1]
    'borg::home@2026-11-23T101500Z'
    """
    return (
        "borg",
        "delete",
        "--log-json",
        f"--lock-wait={_LOCK_WAIT}",
        f"{REPOSITORY}::{archive}",
        *more,
    )


def compact() -> tuple[str, ...]:
    """Give back the room that deleted archives took.

    >>> compact()[-1]
    'borg'
    """
    return ("borg", "compact", "--log-json", f"--lock-wait={_LOCK_WAIT}", REPOSITORY)


def list_archives(job: str, time: str = "*") -> tuple[str, ...]:
    """Tell the archives of a job, or the one of that time.

    >>> list_archives("home")[-2:]
    ('--glob-archives=home@*', 'borg')
    """
    return (
        "borg",
        "list",
        "--log-json",
        "--json",
        f"--lock-wait={_LOCK_WAIT}",
        f"--glob-archives={job}@{time}",
        REPOSITORY,
    )


def dump(archive: str, repository: str = REPOSITORY) -> tuple[str, ...]:
    """Print all that an archive says of its entries, in JSON, to the byte and the nanosecond.

    `borg list` puts question marks in names that are no UTF-8, and cuts times.

    >>> dump("home@2026-11-23T101500Z")[1:]
    ('debug', 'dump-archive', '--log-json', '--lock-wait=10', 'borg::home@2026-11-23T101500Z', '-')
    """
    return (
        "borg",
        "debug",
        "dump-archive",
        "--log-json",
        f"--lock-wait={_LOCK_WAIT}",
        f"{repository}::{archive}",
        "-",
    )


def extract(
    archive: str, paths: Iterable[bytes], alone: Iterable[bytes], repository: str, *, stdout: bool = False
) -> tuple[str | bytes, ...]:
    """Extract entries and all that is in them, and others without that, into the current directory.

    >>> extract("home@T", [b"a"], [b"b"], "/proc/self/fd/9/borg")[-3:]
    ('/proc/self/fd/9/borg::home@T', b'pp:a', b'pf:b')
    """
    return (
        "borg",
        "extract",
        "--log-json",
        f"--lock-wait={_LOCK_WAIT}",
        *(("--stdout",) if stdout else ("--progress", "--sparse", "--numeric-ids")),
        f"{repository}::{archive}",
        *(b"pp:" + path for path in paths),
        *(b"pf:" + path for path in alone),
    )


def verify(seconds: int | None) -> tuple[str, ...]:
    """Read everything and compare it with its checksums, or go on with that for so many seconds.

    >>> verify(600)[-2:]
    ('--max-duration=600', 'borg')
    """
    how = ("--verify-data",) if seconds is None else ("--repository-only", f"--max-duration={seconds}")
    return ("borg", "check", "--log-json", f"--lock-wait={_LOCK_WAIT}", *how, REPOSITORY)


def check() -> tuple[str, ...]:
    """Look whether the repository itself is whole; it reads all of it, and repairs nothing.

    >>> check()[-2:]
    ('--repository-only', 'borg')
    """
    return ("borg", "check", "--log-json", f"--lock-wait={_LOCK_WAIT}", "--repository-only", REPOSITORY)
