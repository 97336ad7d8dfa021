"""What is to be seen of a snapshot at one place, as `ls` shows it."""

from usbbackup.backup.entry import Entry, Kind, is_below
from usbbackup.backup.opened import Opened, entries


async def listed(snapshot: Opened, path: bytes, *, recursive: bool) -> list[Entry]:
    """The entry itself where it is no directory, else what is in it; with `recursive` all of that.

    Raises UsageError where the path is not there.
    """
    found = await entries(snapshot, [path] if path else [])
    if recursive:
        return [entry for entry in found if not path or is_below(entry.path, {path})]
    here = [entry for entry in found if entry.path == path and entry.kind is not Kind.DIRECTORY]
    return here or [entry for entry in found if entry.parent == path]
