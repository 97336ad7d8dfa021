"""Mount points where a drive is mounted as soon as somebody opens them: autofs(5), systemd.automount(5)."""

import os
from collections.abc import Sequence

from usbbackup.drives.mounts import MountRow
from usbbackup.drives.records import Enrolled


def awaiting(record: Enrolled | None, rows: Sequence[MountRow]) -> bytes | None:
    """Where an enrolled drive, plugged in and not mounted, would be mounted by opening it; None if nowhere.

    The stub that waits there does not name its device. So it has to be where the drive was mounted last, or
    just above that: a directory of an indirect map comes into being when it is opened.
    """
    if record is None or record.mount_point is None:
        return None
    place = os.fsencode(record.mount_point)
    top = {row.mount_point: row for row in rows}  # of a stack the last
    stubs = (top.get(path) for path in (place, os.path.dirname(place)))  # noqa: PTH120 - pathlib takes no bytes
    nearest = next((row for row in stubs if row is not None), None)
    return place if nearest is not None and nearest.fs_type == "autofs" else None
