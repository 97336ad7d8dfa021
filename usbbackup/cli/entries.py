"""Entries of snapshots, for people and for scripts."""

import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usbbackup.clock import rfc3339
from usbbackup.text import human_bytes, safe

if TYPE_CHECKING:
    from usbbackup.backup.entry import Entry

_LETTERS = {
    "directory": stat.S_IFDIR,
    "file": stat.S_IFREG,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "character-device": stat.S_IFCHR,
    "block-device": stat.S_IFBLK,
    "socket": stat.S_IFSOCK,
}


def record(entry: "Entry") -> dict[str, object]:
    """For scripts; a path that is no UTF-8 has backslash escapes."""
    from usbbackup.backup.entry import shown

    return {
        "path": shown(b"/" + entry.path),
        "type": str(entry.kind),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "size": entry.size,
        "mtime": rfc3339(entry.mtime_ns / 1e9),
        "target": shown(entry.target) if entry.target else None,
    }


def line(entry: "Entry") -> str:
    """For people, much as `ls -l` writes it."""
    mode = stat.filemode(_LETTERS[entry.kind] | entry.mode)
    when = datetime.fromtimestamp(entry.mtime_ns // 10**9, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    size = human_bytes(entry.size) if entry.kind == "file" else ""
    leads = f" -> {safe(entry.target)}" if entry.target else ""
    return f"{mode}  {entry.uid:>5} {entry.gid:>5}  {size:>8}  {when}  /{safe(entry.path)}{leads}"
