"""A drive that nobody here has enrolled, seen as nothing but directories: the newest snapshots of rsync.

For the day on which there is a drive, and a machine that knows nothing of it. Read only, through no symlink.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from usbbackup.backup import layout
from usbbackup.folders import LayoutError, closing, names_in

_TOP = "usbbackup"
_DEPTH = 3  # <host>-<id>/<user>/<job>
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def newest_snapshots(mount: Path) -> list[Path]:
    """The newest published snapshot of each job below `<mount>/usbbackup`, as far as they may be read."""
    return sorted(_newest(mount / _TOP, _DEPTH))


def _newest(folder: Path, depth: int) -> Iterator[Path]:
    with (
        suppress(OSError, LayoutError),
        closing(os.open(folder, _FOLDER)) as fd,
    ):  # not ours to read, or no folder
        if depth == 0:
            if times := layout.published(fd):
                yield folder / layout.SNAPSHOTS / times[-1]
            return
        for name in names_in(fd):
            yield from _newest(folder / name, depth - 1)
