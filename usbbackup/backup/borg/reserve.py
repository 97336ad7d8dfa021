"""Some room on the drive that is kept for borg: on one that is full to the last byte or the last name it
could not even lock its repository, much less make room in it.
"""

import os
from contextlib import suppress

from usbbackup.folders import closing, make_folder, names_in, open_folder

RESERVE = "reserve"
LARGEST = 128 << 20  # bytes: a segment, an object, four times the index (commands.small_segments)
SHARE = 100  # of the file system: one per cent of a small one
_FILES = 32  # so many names, too: lock, segments, index and hints of a small backup are about a dozen
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def keep(job_fd: int) -> bool:
    """Have the reserve on the drive; false where it is nearly full and has none. It may take seconds."""
    try:
        with closing(open_folder(job_fd, RESERVE)):
            return True
    except FileNotFoundError:
        pass
    room = os.statvfs(job_fd)
    size = min(LARGEST, room.f_blocks * room.f_frsize // SHARE)
    if room.f_bavail * room.f_frsize < 2 * size:
        return False
    try:
        _make(job_fd, size // _FILES)
    except OSError:
        give_back(job_fd)
        return False
    return True


def _make(job_fd: int, size: int) -> None:
    new = f"{RESERVE}.new"
    with closing(make_folder(job_fd, new, 0o700)) as folder:
        for number in range(_FILES):
            with suppress(FileNotFoundError):
                os.unlink(str(number), dir_fd=folder)  # left by a moment that was the last
            with closing(os.open(str(number), _FLAGS, 0o600, dir_fd=folder)) as fd:
                os.posix_fallocate(fd, 0, size)
    os.rename(new, RESERVE, src_dir_fd=job_fd, dst_dir_fd=job_fd)


def give_back(job_fd: int) -> bool:
    """Give the room back; false where there was none to give."""
    begun = _emptied(job_fd, f"{RESERVE}.new")
    return _emptied(job_fd, RESERVE) or begun


def _emptied(job_fd: int, name: str) -> bool:
    try:
        folder = open_folder(job_fd, name)
    except FileNotFoundError:
        return False
    with closing(folder):
        for file in names_in(folder):
            os.unlink(file, dir_fd=folder)
    os.rmdir(name, dir_fd=job_fd)
    return True
