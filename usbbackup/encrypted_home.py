"""Whether a home directory is encrypted until its owner logs in, and whether it is open now."""

import errno
import fcntl
import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usbbackup.mountinfo import MOUNTINFO, MountRow, parse

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

PAM_MOUNT = Path("/etc/security/pam_mount.conf.xml")

_BY_TYPE = {
    "ecryptfs": "eCryptfs",
    "fuse.gocryptfs": "gocryptfs",
    "fuse.encfs": "EncFS",
    "fuse.cryfs": "CryFS",
}
_GET_ENCRYPTION_POLICY_EX = 0xC0096616  # linux/fscrypt.h: FS_IOC_GET_ENCRYPTION_POLICY_EX
_POLICY = 8 + 24  # bytes: the size, then room for the largest policy


def opened_by(home: Path, rows: Sequence[MountRow] | None = None, pam_mount: Path = PAM_MOUNT) -> str | None:
    """What opens this home at login, by the name that people know; None for one that is always open.

    >>> opened_by(Path("/"), []) is None
    True
    """
    row = _mounted(home, rows)
    if row is not None and row.fs_type in _BY_TYPE:
        return _BY_TYPE[row.fs_type]
    if _ecryptfs(home):
        return "eCryptfs"
    if _fscrypt(home):
        return "fscrypt"
    return "pam_mount" if _at_login(home, pam_mount) else None


def still_encrypted(
    home: Path, rows: Sequence[MountRow] | None = None, pam_mount: Path = PAM_MOUNT
) -> str | None:
    """What has yet to open this home, where that is known: what is in there are not the user's files."""
    row = _mounted(home, rows)
    if row is not None and row.fs_type in _BY_TYPE:
        return None
    if _ecryptfs(home):
        return "eCryptfs"
    if (home / "gocryptfs.conf").is_file() and (home / "gocryptfs.diriv").is_file():
        return "gocryptfs"
    if _fscrypt(home) and _has_no_key(home):
        return "fscrypt"
    return "pam_mount" if row is None and _at_login(home, pam_mount) else None


def of_homed(home: Path) -> bool:
    """Does systemd-homed open it? Such a home carries its owner's record (systemd.io/HOME_DIRECTORY)."""
    return (home / ".identity").is_file()


def _mounted(home: Path, rows: Sequence[MountRow] | None) -> MountRow | None:
    """What is mounted at the home itself, the last where there are several."""
    found = parse(Path(MOUNTINFO).read_bytes()).rows if rows is None else rows
    here = os.fsencode(os.path.realpath(home))
    return next((row for row in reversed(found) if row.mount_point == here), None)


def _ecryptfs(home: Path) -> bool:
    """Is the whole home one of eCryptfs? It leaves where it is to be mounted (ecryptfs-mount-private(1))."""
    try:
        return os.path.realpath((home / ".ecryptfs/Private.mnt").read_text().strip()) == os.path.realpath(
            home
        )
    except (OSError, ValueError):
        return False


def _fscrypt(home: Path) -> bool:
    """Has the directory a policy of native encryption (fscrypt.rst of the kernel)?"""
    try:
        fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(fd, _GET_ENCRYPTION_POLICY_EX, (_POLICY - 8).to_bytes(8, "little") + bytes(_POLICY - 8))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _has_no_key(home: Path) -> bool:
    """A file without a name can be made where the key is there, and leaves nothing behind."""
    try:
        os.close(os.open(home, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return error.errno == errno.ENOKEY
    return False


def _at_login(home: Path, pam_mount: Path) -> bool:
    """Does pam_mount(8) mount something at this home?"""
    if not pam_mount.exists():
        return False
    from xml.etree import ElementTree  # few have it, and the agent should stay small

    try:
        user = pwd.getpwuid(home.stat().st_uid).pw_name
        volumes = ElementTree.parse(pam_mount).iter("volume")  # noqa: S314 - root's own configuration file
        return any(home == Path(point) for point in _mount_points(volumes, user))
    except (OSError, KeyError, ElementTree.ParseError):
        return False


def _mount_points(volumes: Iterator["Element"], user: str) -> Iterator[str]:
    for volume in volumes:
        if volume.get("user", user) in (user, "*"):
            point = volume.get("mountpoint", "")
            yield point.replace("%(USER)", user).replace("~", f"/home/{user}", 1)
