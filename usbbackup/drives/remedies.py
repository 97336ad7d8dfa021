"""What a user can do about a drive that is not ready: one short sentence each, with the exact command."""

import os
import shlex

from usbbackup.drives.mounts import MountRow
from usbbackup.drives.udev import Device

# File systems that know no owners: who may write is fixed when they are mounted.
OWNERLESS = frozenset({"vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk"})


def quoted(word: str | bytes) -> str:
    r"""A word as a shell takes it, visible in a terminal whatever is in it.

    >>> quoted(b"/media/my drive")
    "'/media/my drive'"
    >>> quoted(b"/media/a\n\xff")
    "$'/media/a\\x0a\\xff'"
    """
    raw = word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word
    text = raw.decode("utf-8", "surrogateescape")
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(_ansi_c(char) for char in text) + "'"


def _ansi_c(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def command_line(command: tuple[str, ...]) -> str:
    """A command as it can be pasted into a shell."""
    return " ".join(map(quoted, command))


def mount(device: Device) -> str:
    """For a drive that is plugged in but not mounted."""
    return f"Open it in the file manager, or run: udisksctl mount -b {quoted(device.devnode)}"


def unlock(device: Device) -> str:
    """For a LUKS container that nobody has opened."""
    return f"Unlock it in the file manager, or run: udisksctl unlock -b {quoted(device.devnode)}"


def lock(device: Device) -> str:
    """For a LUKS container that is to be closed."""
    return f"Run: udisksctl lock -b {quoted(device.devnode)}"


def unmount(device: Device) -> str:
    """For a drive that is to be let go of."""
    return f"Eject it in the file manager, or run: udisksctl unmount -b {quoted(device.devnode)}"


def power_off(device: Device) -> str:
    """For a drive that is to be switched off."""
    return f"Eject it in the file manager, or run: udisksctl power-off -b {quoted(device.devnode)}"


def uncover(row: MountRow) -> str:
    """For a drive whose mount point another mount hides."""
    return f"Unmount what lies on top: sudo umount {quoted(row.mount_point)}"


def remount(row: MountRow) -> str:
    """For a drive that is mounted read-only."""
    return f"Run: sudo mount -o remount,rw {quoted(row.mount_point)}"


def check(row: MountRow, device: Device) -> str:
    """For a file system that has stopped after an error."""
    return (
        f"Unmount and check it: sudo umount {quoted(row.mount_point)} && sudo fsck {quoted(device.devnode)}. "
        "If that happens again, replace the drive or its cable."
    )


def own_folder(path: bytes, user: str, group: str, mode: int) -> tuple[str, ...]:
    """The command that gives a user a folder where only another, mostly root, may make one."""
    return ("sudo", "install", "-d", "-o", user, "-g", group, "-m", f"{mode:04o}", os.fsdecode(path))
