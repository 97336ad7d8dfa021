"""What a file system can keep, found by trying it in a directory of our own, not guessed by its type."""

import errno
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from usbbackup.backup import subvolume
from usbbackup.config import JobConfig
from usbbackup.folders import closing, open_folder
from usbbackup.text import safe

_FAT = frozenset({"vfat", "msdos", "exfat"})
_PROBE = "probe"
_OTHER = "probe-2"
_ODD_NAME = os.fsdecode(b"probe:?*\xff")
_OWN = ".usbbackup-fitness"
_HUGE = 1 << 32  # bytes
_ODD_TIME = 1_000_000_001_123_456_789  # nanoseconds; an odd second, and no round part of one
_ATTRIBUTE = "user.usbbackup"
_ACL = "system.posix_acl_access"
# user::rw-, user:0:r--, group::---, mask::r--, other::--- (acl(5)), as the kernel takes it
_LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *one) for one in ((1, 6, -1), (2, 4, 0), (4, 0, -1), (0x10, 4, -1), (0x20, 0, -1))
)


@dataclass(frozen=True)
class Fitness:
    """What a backup may ask of the drive."""

    hard_links: bool = True
    symlinks: bool = True
    fifos: bool = True
    modes: bool = True
    owners: bool = True
    xattrs: bool = True
    acls: bool = True
    case: bool = True  # `a` and `A` are two files
    huge: bool = True  # files of 4 GiB and more
    names: bool = True  # of any bytes
    window: int = -1  # as rsync's --modify-window: -1 nanoseconds, 0 whole seconds, 2 FAT's

    @property
    def missing(self) -> tuple[str, ...]:
        """What it cannot keep, in words."""
        kept = {
            "hard links": self.hard_links,
            "symbolic links": self.symlinks,
            "pipes": self.fifos,
            "permissions": self.modes,
            "owners": self.owners,
            "extended attributes": self.xattrs,
            "access control lists": self.acls,
            "names that differ in case only": self.case,
            "files of 4 GiB and more": self.huge,
            "names with : ? * or with bytes that are no UTF-8": self.names,
            "exact times": self.window == -1,
        }
        return tuple(name for name, kept in kept.items() if not kept)


def doubt(job: JobConfig, fs_type: str) -> str | None:
    """Why a job cannot go to a drive with this file system, as far as its type tells; None where it can."""
    if job.engine != "rsync" or job.layout != "snapshots" or fs_type not in _FAT:
        return None
    return (
        f"the drive's file system, {safe(fs_type)}, cannot keep snapshots (it has no hard links): "
        "use the borg engine, or `layout: mirror`"
    )


def probe(folder: int) -> Fitness:
    """Try everything in the open directory `folder`, and leave nothing there. It takes about a millisecond.

    Raises OSError where not even a plain file can be made.
    """
    fd = os.open(
        _PROBE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        return Fitness(
            hard_links=_made(
                folder, lambda name: os.link(_PROBE, name, src_dir_fd=folder, dst_dir_fd=folder)
            ),
            symlinks=_made(folder, lambda name: os.symlink(_PROBE, name, dir_fd=folder)),
            fifos=_made(folder, lambda name: os.mkfifo(name, dir_fd=folder)),
            modes=_works(lambda: os.fchmod(fd, 0o640)) and stat.S_IMODE(os.fstat(fd).st_mode) == 0o640,
            owners=_keeps_owners(fd),
            xattrs=_works(lambda: os.setxattr(fd, _ATTRIBUTE, b"1")),
            acls=_knows_acls(fd),
            case=_tells_case(folder),
            huge=_takes_huge_files(fd),
            names=_takes_names(folder),
            window=_window(fd),
        )
    finally:
        os.close(fd)
        os.unlink(_PROBE, dir_fd=folder)


def _made(folder: int, make: Callable[[str], None]) -> bool:
    """Can it be made? FUSE says EIO where its driver has made a plain file instead, which is taken away."""
    try:
        made = _works(lambda: make(_OTHER))
    except OSError as error:
        if error.errno != errno.EIO or not _gone(folder):
            raise
        return False
    return made and _gone(folder)


def _gone(folder: int) -> bool:
    with suppress(FileNotFoundError):
        os.unlink(_OTHER, dir_fd=folder)
        return True
    return False


def _takes_names(folder: int) -> bool:
    if not _works(lambda: os.mkdir(_ODD_NAME, dir_fd=folder)):
        return False
    os.rmdir(_ODD_NAME, dir_fd=folder)
    return True


def _works(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError as error:
        if error.errno in (errno.EIO, errno.EROFS, errno.ENODEV, errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True


def _keeps_owners(fd: int) -> bool:
    """Only root can give files away; for others it is enough that they own what they make."""
    if os.geteuid() != 0:
        return os.fstat(fd).st_uid == os.geteuid()
    return _works(lambda: os.fchown(fd, 1, 1)) and os.fstat(fd).st_uid == 1


def _knows_acls(fd: int) -> bool:
    """Reading tells nothing: the kernel says of drives under FUSE that they could have lists."""
    if not _works(lambda: os.setxattr(fd, _ACL, _LIST)):
        return False
    return _works(lambda: os.getxattr(fd, _ACL)) and os.getxattr(fd, _ACL) == _LIST


def _tells_case(folder: int) -> bool:
    try:
        os.stat(_PROBE.upper(), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return False


def _takes_huge_files(fd: int) -> bool:
    """Nothing is written: a position behind the largest size is refused as such (lseek(2), EINVAL).

    Where the byte before it is refused too, as on small exfat, only the drive is too small for such a file.
    """
    return _works(lambda: os.lseek(fd, _HUGE, os.SEEK_SET)) or not _works(
        lambda: os.lseek(fd, _HUGE - 1, os.SEEK_SET)
    )


def told(folder: int, fs_type: str) -> list[str]:
    """What people should know of a drive, a sentence each, found by trying it in a directory of our own."""
    os.mkdir(_OWN, 0o700, dir_fd=folder)
    try:
        with closing(open_folder(folder, _OWN)) as own:
            found, copies = probe(own), _makes_snapshots(own)
    finally:
        os.rmdir(_OWN, dir_fd=folder)
    kind, missing = safe(fs_type), ", ".join(found.missing)
    sentences = [f"Its file system, {kind}, cannot keep: {missing}."] if missing else []
    if not (found.hard_links and found.symlinks):
        sentences.append(
            "rsync snapshots need hard links and symbolic links and are refused there: use the borg engine, "
            "or write `layout: mirror` for one plain copy."
        )
    if copies:
        sentences.append(f"Its file system, {kind}, makes snapshots of its own, and rsync jobs use them.")
    return sentences


def _makes_snapshots(folder: int) -> bool:
    if not subvolume.possible(folder) or not _works(lambda: subvolume.create(folder, _OTHER)):
        return False
    os.rmdir(_OTHER, dir_fd=folder)
    return True


def _window(fd: int) -> int:
    with suppress(PermissionError):
        os.utime(fd, ns=(_ODD_TIME, _ODD_TIME))
    kept = os.fstat(fd).st_mtime_ns
    if kept == _ODD_TIME:
        return -1
    return 0 if kept // 10**9 == _ODD_TIME // 10**9 else 2
