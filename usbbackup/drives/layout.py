"""Our folders on a drive, walked by directory descriptors: through no symlink, into no other mount.

    <mount>/usbbackup/<host>-<id>/<user>/

Whatever else stands at one of these names is refused with its reason, never followed and never replaced.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from usbbackup import kernel
from usbbackup.drives import remedies
from usbbackup.drives.host import Host, group_name, login_name
from usbbackup.drives.mounts import MountRow
from usbbackup.errors import NotNowError
from usbbackup.folders import LayoutError, closing, make_folder, names_in, open_folder
from usbbackup.text import safe

TOP = "usbbackup"
_SHARED = 0o1777


class RootOwnedError(NotNowError):
    """Our folder cannot be made, because the top directory is another's; `command` mends it."""

    def __init__(self, message: str, hint: str, command: tuple[str, ...] | None) -> None:
        super().__init__(message, hint)
        self.command = command


@contextmanager
def mounted(row: MountRow) -> Iterator[int]:
    """The top directory of a mount, open for as long as the block runs, and proven to be that mount's.

    Raises NotNowError where the path leads elsewhere by now.
    """
    where = safe(row.mount_point)
    try:
        fd = os.open(row.mount_point, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise NotNowError(f"{where} cannot be opened: {error.strerror}.") from error
    with closing(fd):
        if kernel.mount_id(fd) != row.mount_id:
            raise NotNowError(f"{where} leads to another file system than the drive.", remedies.uncover(row))
        yield fd


def open_top(mount: int) -> int:
    """Open `usbbackup` on a drive. Raises FileNotFoundError where there is none."""
    return open_folder(mount, TOP)


def open_user_folder(top: int, host: Host) -> int:
    """Open this user's folder. Raises FileNotFoundError where there is none."""
    name = _host_folder(top, host)
    if name is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), host.folder)
    with closing(open_folder(top, name)) as machine:
        return _owned(open_folder(machine, host.user), host)


def user_folders(top: int) -> list[tuple[str, str]]:
    """Machine and user of every folder on the drive that this process may read, whoever's it is."""
    found = []
    for machine in sorted(names_in(top)):
        with (
            suppress(FileNotFoundError, PermissionError, LayoutError),
            closing(open_folder(top, machine)) as fd,
        ):
            for user in sorted(names_in(fd)):
                if _may_read(fd, user):
                    found.append((machine, user))
    return found


def _may_read(machine: int, user: str) -> bool:
    try:
        with closing(open_folder(machine, user)):
            return True
    except (FileNotFoundError, PermissionError, LayoutError):
        return False


def open_named(top: int, machine: str, user: str) -> int:
    """Open one of `user_folders`, to read it."""
    with closing(open_folder(top, machine)) as fd:
        return open_folder(fd, user)


def make_top(mount: int, row: MountRow, host: Host) -> int:
    """Open `usbbackup` on a drive, and make it where there is none."""
    try:
        return make_folder(mount, TOP, 0o755)
    except PermissionError as error:
        raise _no_place(row, TOP, 0o755) from error


def make_user_folder(top: int, host: Host, row: MountRow) -> int:
    """Open this user's folder, and make it where there is none: for its owner alone."""
    shared = stat.S_IMODE(os.fstat(top).st_mode) == _SHARED  # then a second user needs a place beside
    name = _host_folder(top, host) or host.folder
    try:
        with closing(make_folder(top, name, _SHARED if shared else 0o755)) as machine:
            return _owned(make_folder(machine, host.user, 0o700), host)
    except PermissionError as error:
        raise _no_place(row, f"{TOP}/{name}/{host.user}", 0o700) from error


def _host_folder(top: int, host: Host) -> str | None:
    """The machine's folder by its id: the host name may have changed since."""
    found = [name for name in names_in(top) if name.endswith(f"-{host.id}")]
    if host.folder in found or len(found) < 2:
        return host.folder if host.folder in found else next(iter(found), None)
    names = ", ".join(f"'{safe(name)}'" for name in sorted(found)[:5])
    raise LayoutError(
        f"The drive has several folders for this machine: {names}.", "Move away all but the right one."
    )


def _owned(fd: int, host: Host) -> int:
    owner = os.fstat(fd).st_uid
    if owner in (os.geteuid(), 0):
        return fd
    os.close(fd)
    raise LayoutError(
        f"The folder of '{safe(host.user)}' on the drive belongs to another user (uid {owner})."
    )


def _no_place(row: MountRow, folder: str, mode: int) -> RootOwnedError:
    path = row.mount_point.rstrip(b"/") + b"/" + os.fsencode(folder)
    if row.fs_type in remedies.OWNERLESS:
        hint = f"Mount it through the file manager, or with the option uid={os.getuid()}."
        return RootOwnedError(f"You may not write to {safe(row.mount_point)}.", hint, None)
    command = remedies.own_folder(path, login_name(), group_name(), mode)
    hint = f"Make a folder of your own, once: {remedies.command_line(command)}"
    return RootOwnedError(
        f"You may not make {safe(path)}: the folder above belongs to another user.", hint, command
    )
