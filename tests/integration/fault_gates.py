"""What holds a run still at one moment: a file that waits, a directory that waits, the agent itself.

Each has `reached`, whether somebody waits there, and `open`, which lets them go on and may be called again.
"""

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest

_PERMISSION, _CLOEXEC = 0x04, 0x01  # linux/fanotify.h: FAN_CLASS_CONTENT, FAN_CLOEXEC
_ADD, _MOUNT, _FLUSH = 0x01, 0x10, 0x80  # FAN_MARK_...
_OPEN_PERM, _ON_DIRECTORIES = 0x0001_0000, 0x4000_0000
_ALLOW = 0x01
_EVENT = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata; its fourth last is the mask
_ANSWER = struct.Struct("=iI")
_AT_FDCWD = -100


class Lease:
    """A file that cannot be opened by others (fcntl(2), F_SETLEASE) until it is let go."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._closed = True
        fcntl.fcntl(self._fd, fcntl.F_SETSIG, signal.SIGURG)  # which nobody minds
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def reached(self) -> bool:
        """Does somebody wait for it?"""
        return fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK

    def open(self) -> bool:
        """Let go."""
        if self._closed:
            self._closed = False
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            os.close(self._fd)
        return True


class Hold:
    """Whoever first opens something on a drive whose path fits has to wait (fanotify(7), FAN_OPEN_PERM)."""

    def __init__(self, mount_point: Path, fits: Callable[[str], bool]) -> None:
        self._fits = fits
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.fanotify_init(_PERMISSION | _CLOEXEC, os.O_RDONLY | os.O_CLOEXEC)
        self._held: int | None = None  # the open file that somebody waits for
        self._reached, self._over = Event(), os.eventfd(0, os.EFD_CLOEXEC)
        try:
            self._mark(_ADD | _MOUNT, _OPEN_PERM | _ON_DIRECTORIES, os.fsencode(mount_point))
        except OSError as error:
            os.close(self._fd)
            if error.errno == errno.EINVAL:
                pytest.skip("this kernel has no permission events of fanotify")
            raise
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _mark(self, flags: int, mask: int, path: bytes | None) -> None:
        marked = self._libc.fanotify_mark(self._fd, flags, ctypes.c_uint64(mask), _AT_FDCWD, path)
        if marked != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)

    def reached(self) -> bool:
        """Does somebody wait?"""
        return self._reached.is_set()

    def open(self) -> bool:
        """Let them go on; nobody is held any more."""
        if self._listener.is_alive():
            os.eventfd_write(self._over, 1)
            self._listener.join()
            os.close(self._over)
        return True

    def _listen(self) -> None:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        waiting.register(self._over, select.POLLIN)
        while self._over not in (ready := dict(waiting.poll())):
            if self._fd in ready:
                self._take(os.read(self._fd, 1 << 16))
        if self._held is not None:
            self._let_go(self._held)
        os.close(self._fd)  # lets go of whoever has not been answered

    def _take(self, events: bytes) -> None:
        while events:
            length, _, _, _, _, opened, pid = _EVENT.unpack_from(events)
            events = events[length:]
            path = str(Path(f"/proc/self/fd/{opened}").readlink())
            if self._held is None and pid != os.getpid() and self._fits(path):
                self._held = opened
                self._mark(_FLUSH | _MOUNT, 0, None)  # all others may go on
                self._reached.set()
            else:
                self._let_go(opened)

    def _let_go(self, opened: int) -> None:
        with suppress(FileNotFoundError):  # who has waited for it was killed
            os.write(self._fd, _ANSWER.pack(opened, _ALLOW))
        os.close(opened)


class Gate:
    """Where the agent itself holds still; see gated_agent.py."""

    def __init__(self, directory: Path, phase: str) -> None:
        directory.mkdir()
        self.directory, self.phase = directory, phase
        self._reached, self._go = directory / "reached", directory / "go"
        os.mkfifo(self._go)

    def reached(self) -> bool:
        """Does the agent wait?"""
        return self._reached.exists()

    def open(self) -> bool:
        """Let it go on; False where it does not listen yet, or any more."""
        with suppress(OSError):
            os.close(os.open(self._go, os.O_WRONLY | os.O_NONBLOCK))
            return True
        return False
