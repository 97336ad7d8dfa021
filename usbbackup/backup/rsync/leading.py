"""The directories of a snapshot that lead to the sources: made before them, given their attributes last."""

import os
from contextlib import ExitStack

from usbbackup.backup.engine import Work
from usbbackup.backup.fitness import Fitness
from usbbackup.backup.rsync import attributes, commands
from usbbackup.backup.scan import Scan
from usbbackup.folders import LayoutError, closing, make_folder, open_folder


def base_of(scan: Scan) -> bytes:
    """The directory that all sources have in common."""
    return commands.common([(place.path, place.directory) for place in scan.places])


def has(job: int, folder: str, base: bytes) -> bool:
    """Is the directory `base` in that folder, with nothing but directories on the way?"""
    with ExitStack() as opened:
        fd = job
        for name in (*folder.split("/"), *filter(None, os.fsdecode(base).split("/"))):
            try:
                fd = opened.enter_context(closing(open_folder(fd, name)))
            except (FileNotFoundError, LayoutError):
                return False
    return True


def make_way(job: int, stage: str, base: bytes) -> None:
    """Make the directories that lead to `base` in a stage."""
    with ExitStack() as opened:
        fd = opened.enter_context(closing(open_folder(job, stage)))
        for name in filter(None, os.fsdecode(base).split("/")):
            fd = opened.enter_context(closing(make_folder(fd, name, 0o700)))


def dress(work: Work, stage: str, fitness: Fitness) -> list[str]:
    """Make the directories that lead to the sources like their own; what could not be kept, as sentences."""
    base = base_of(work.scan)
    above = {path for path in commands.above(base).split(b"\0") if path}
    complaints = []
    for path in sorted({base, *above, *work.scan.parents()}):
        with ExitStack() as opened:
            fd = opened.enter_context(closing(open_folder(work.job_fd, stage)))
            for name in filter(None, os.fsdecode(path).split("/")):
                fd = opened.enter_context(closing(open_folder(fd, name)))
            complaints.append(attributes.copy(path, fd, fitness))
    return [complaint for complaint in complaints if complaint is not None]
