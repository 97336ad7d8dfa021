"""The manifest of a job's last snapshot on a drive: kept at home, and believed only where all of it fits.

It may be lost at any time, which costs one slower run. It lies at home and not on the drive because it tells
of this machine's inode numbers, and because nothing that a drive holds is believed.
"""

import os
from pathlib import Path

from usbbackup.backup import layout
from usbbackup.backup.engine import Work
from usbbackup.backup.manifest import Binding, Manifest
from usbbackup.files import Held
from usbbackup.folders import closing, open_folder
from usbbackup.text import safe

_CHECK_EVERY = 10  # snapshots: then rsync compares everything, whatever the manifest says

# File systems that keep inode numbers and change times of their own. Others make them up, or hear of changes
# only some time later.
_TRUE = frozenset(
    (
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "zfs", "jfs", "nilfs2"),
        *("tmpfs", "overlay", "ecryptfs"),
    )
)


def recall(work: Work) -> Manifest | str:
    """The manifest of the last snapshot; or why there is none to be believed, for a sentence."""
    if not (times := layout.published(work.job_fd)):
        return "there is no snapshot yet"
    if strange := sorted(work.scan.kinds() - _TRUE):
        return f"{safe(strange[0])} does not say reliably what changed"
    return _believed(_read(_path(work)), binding(work, times[-1], 0))


def _believed(found: Manifest | str, wanted: Binding) -> Manifest | str:
    if isinstance(found, str):
        return found
    match found.binding:
        case {"snapshot": time} if time != wanted["snapshot"]:
            return "the last snapshot has no manifest"
        case {"top": top} if top != wanted["top"]:
            return "the last snapshot is not as it was left"
        case {"sources": sources} if sources != wanted["sources"]:
            return "the sources are others, or elsewhere, than last time"
        case {"unchecked": int(count)} if count < _CHECK_EVERY:
            return found
        case {"unchecked": _}:
            return f"as after every {_CHECK_EVERY} snapshots"
        case _:
            return "the manifest cannot be read"


def _read(path: Path) -> Manifest | str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return "the last snapshot has no manifest"
    except OSError as error:
        return f"the manifest cannot be read: {error.strerror}"
    try:
        return Manifest.sealed(Held(fd))
    except (OSError, ValueError) as error:
        return f"the manifest cannot be read: {safe(str(error))}"


def binding(work: Work, time: str, unchecked: int) -> Binding:
    """What a manifest belongs to: one snapshot, as it was left, and the sources that it was made of."""
    with closing(open_folder(work.job_fd, layout.SNAPSHOTS)) as folder:
        top = os.stat(time, dir_fd=folder, follow_symlinks=False)
    return {
        "snapshot": time,
        "top": [top.st_ino, top.st_ctime_ns],
        "sources": sorted(
            [os.fsdecode(place.path), place.filesystem, _inode(place.path)] for place in work.scan.places
        ),
        "unchecked": unchecked,  # snapshots since rsync compared everything
    }


def _inode(path: bytes) -> int:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


def keep(work: Work, manifest: Held) -> None:
    """Keep a sealed manifest for the next run. Raises OSError where home has no room for it."""
    path = _path(work)
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with closing(fd):
        at, size = 0, os.fstat(manifest.fd).st_size
        while at < size:
            at += os.sendfile(fd, manifest.fd, at, size - at)
    new.rename(path)


def _path(work: Work) -> Path:
    name = f"{work.request.target.facts.uuid}+{work.request.job.name}"
    return work.request.paths.cache / "manifests" / name.replace("/", "_")
