"""What a machine without a desktop needs beside the service: a page to read and to paste from."""

import re

from usbbackup.drives.host import login_name
from usbbackup.install.units import text


def page(label: str, user: str | None = None) -> str:
    """The whole page, for a drive with this label."""
    mount_point = f"/mnt/{re.sub(r'[^A-Za-z0-9_]+', '_', label) or 'backup'}"
    device = udev_name(label)
    words = {
        "USER": user or login_name(),
        "LABEL": label,
        "MOUNT_POINT": mount_point,
        "UNIT": unit_name(mount_point) + ".mount",
        "DEVICE": f"/dev/disk/by-label/{device}".replace("%", "%%"),
        "DEVICE_UNIT": unit_name(f"/dev/disk/by-label/{device}") + ".device",
    }
    return re.sub(r"@([A-Z_]+)@", lambda found: words[found[1]], text("server.txt"))


def udev_name(label: str) -> str:
    r"""A label as udev names its link in /dev/disk/by-label (udev_util_encode_string).

    >>> udev_name("my backup")
    'my\\x20backup'
    """
    return "".join(
        char if char.isalnum() or char in "#+-.:=@_" else "".join(f"\\x{byte:02x}" for byte in char.encode())
        for char in label
    )


def unit_name(path: str) -> str:
    r"""A path as systemd names the unit that belongs to it (systemd.unit(5), STRING ESCAPING).

    >>> unit_name("/dev/disk/by-label/my\\x20backup")
    'dev-disk-by\\x2dlabel-my\\x5cx20backup'
    """
    inner = path.strip("/").encode()
    return "".join(_escaped(byte, first=at == 0) for at, byte in enumerate(inner))


def _escaped(byte: int, *, first: bool) -> str:
    char = chr(byte)
    if char == "/":
        return "-"
    plain = char.isascii() and (char.isalnum() or char in ":_" or (char == "." and not first))
    return char if plain else f"\\x{byte:02x}"
