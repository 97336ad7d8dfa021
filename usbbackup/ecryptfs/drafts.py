"""Files that are being written: under names that mean nothing, until they are whole and on the disk.

They wait for the disk together, because waiting for each alone takes a hundred times as long.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count

from usbbackup import kernel
from usbbackup.errors import NotNowError
from usbbackup.folders import closing, make_folder

FOLDER = ".usbbackup-recover-home"

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FILES = 256  # that wait together at most,
_BYTES = 256 * 1024 * 1024  # or when they have grown to that much


class Drafts:
    """The folder of drafts in a directory, held by one recovery at a time."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._numbers = count()
        self._waiting: list[Callable[[], object]] = []
        self._bytes = 0

    @contextmanager
    def new(self) -> Iterator[tuple[str, int]]:
        """A draft's name and its open file; gone again where writing it fails."""
        name = str(next(self._numbers))
        file = os.open(name, _NEW, 0o600, dir_fd=self._folder)
        try:
            yield name, file
        except BaseException:
            os.unlink(name, dir_fd=self._folder)
            raise
        finally:
            os.close(file)

    def later(self, action: Callable[[], object], size: int = 0) -> None:
        """Do this when all that was written before is on the disk; `size` is in bytes."""
        self._waiting.append(action)
        self._bytes += size
        if len(self._waiting) >= _FILES or self._bytes >= _BYTES:
            self.publish()

    def publish(self) -> None:
        """Wait for the disk, then do what waits, in its order. Raises OSError where the disk failed."""
        if not self._waiting:
            return
        kernel.syncfs(self._folder)
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for action in waiting:
            action()

    def name(self, draft: str, folder: int, name: str) -> None:
        """Give a draft its own name, in an open folder."""
        os.rename(draft, name, src_dir_fd=self._folder, dst_dir_fd=folder)


@contextmanager
def drafts(target: int) -> Iterator[Drafts]:
    """The drafts in an open directory; those that an interrupted recovery left there are removed.

    Raises NotNowError where another recovery writes to the directory, LayoutError where their folder is none.
    """
    with closing(make_folder(target, FOLDER, 0o700)) as folder:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotNowError("another recovery writes to this directory", "wait for its end") from None
        _empty(folder)
        try:
            yield Drafts(folder)
        finally:
            _empty(folder)
            with suppress(OSError):  # not ours any more, or the drive is gone: it does no harm
                os.rmdir(FOLDER, dir_fd=target)


def _empty(folder: int) -> None:
    for name in os.listdir(folder):
        os.unlink(name, dir_fd=folder)
