"""The lock of this user's one agent, and which process took it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from usbbackup.errors import NotNowError, UsbbackupError
from usbbackup.paths import Paths


@contextmanager
def the_only_agent(paths: Paths) -> Iterator[None]:
    """Hold the lock of this user's one agent. Raises NotNowError with the other's process id."""
    lock = _open_lock(paths.lock)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNowError(
                f"another agent runs already, process {_told(lock) or 'unknown'}",
                "stop it with: systemctl --user stop usbbackup (a `usbbackup start` ends by itself)",
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def agent_pid(paths: Paths) -> int | None:
    """The process that took the lock last, as the lock tells; it may have ended since."""
    try:
        lock = os.open(paths.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return _told(lock)
    finally:
        os.close(lock)


def _told(lock: int) -> int | None:
    words = os.pread(lock, 20, 0).strip()
    return int(words) if words.isdigit() else None


def _open_lock(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UsbbackupError(
            f"the runtime directory {path.parent} cannot be used: {error.strerror}",
            "log in so that systemd makes it, or set XDG_RUNTIME_DIR",
        ) from error
