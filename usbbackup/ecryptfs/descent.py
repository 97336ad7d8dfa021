"""The open folders from the top of a directory to where work goes on in it; no symlink is followed."""

import errno
import os

from usbbackup.ecryptfs.damage import DamagedError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN = 0o700

IN_THE_WAY = "is not written: there is something else of that name already"


class Descent:
    """Opens folders by their path below `top`, and keeps those open that lead to the last one."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._open: list[tuple[str, int]] = []

    def at(self, path: tuple[str, ...]) -> int:
        """The folder at this path, open until another is asked for.

        Raises DamagedError where something else stands there.
        """
        shared = 0
        while shared < min(len(path), len(self._open)) and path[shared] == self._open[shared][0]:
            shared += 1
        self._rise(shared)
        for name in path[shared:]:
            self._open.append((name, _opened(self._here, name)))
        return self._here

    def make(self, path: tuple[str, ...]) -> int:
        """The same, made where there is none, so that its owner can write to it."""
        parent = self.at(path[:-1])
        try:
            os.mkdir(path[-1], _OWN, dir_fd=parent)
        except FileExistsError:
            folder = self.at(path)
            if (mode := os.fstat(folder).st_mode) & _OWN != _OWN:  # an earlier recovery was done with it
                os.fchmod(folder, mode & 0o7777 | _OWN)
        return self.at(path)

    def close(self) -> None:
        """Let go of all but the top."""
        self._rise(0)

    @property
    def _here(self) -> int:
        return self._open[-1][1] if self._open else self._top

    def _rise(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])


def _opened(parent: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise DamagedError(IN_THE_WAY) from error
        raise
