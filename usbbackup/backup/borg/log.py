"""What borg says while it works: lines of JSON on stderr, read with suspicion, and what they amount to.

Source: borg's "All about JSON" (docs/internals/frontends). Lines that are no JSON occur as well. Paths in
them are for people only: what was no UTF-8 is lost.
"""

import errno
import json
import os
import re
from dataclasses import dataclass, field

from usbbackup.text import safe

_NAMED = 1000  # sentences about single files that are kept
_KEPT = 20  # errors
_OS_ERROR = re.compile(r"\[Errno (\d{1,4})\]")
_ENDED_BY = re.compile(r"(?:^\w*Error: |\()\[Errno (\d{1,4})\]")
_VANISHED = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
_CHANGED_KIND = "race condition"  # of both versions' words for: another file stood there when it was opened


@dataclass(frozen=True)
class Said:
    """A message; `msgid` names its kind, where borg 1.2 gives one (for errors, never for warnings)."""

    level: str
    text: str
    msgid: str | None = None


@dataclass(frozen=True)
class FileStatus:
    """What became of one entry: `C` it changed while it was read, `E` it is not in the archive."""

    status: str
    path: str


@dataclass(frozen=True)
class Moved:
    """How far it is."""

    bytes: int
    files: int


def understand(line: bytes) -> Said | FileStatus | Moved | None:
    """One line of borg's stderr; None where there is nothing in it for us.

    >>> understand(b'{"type": "file_status", "status": "E", "path": "a/b"}')
    FileStatus(status='E', path='a/b')
    >>> understand(b'stale lock removed')
    Said(level='TEXT', text='stale lock removed', msgid=None)
    """
    match _json(line):
        case {"type": "archive_progress", "original_size": int(size), "nfiles": int(files)}:
            return Moved(size, files)
        case {"type": "progress_percent", "msgid": "extract", "current": int(size)}:
            return Moved(size, 0)
        case {"type": "file_status", "status": str(status), "path": str(path)}:
            return FileStatus(status, path)
        case {"type": "log_message", "levelname": "WARNING", "name": "borg.locking", "message": str(text)}:
            return Said("INFO", text)  # locks that a killed borg left were taken away: no entry is missing
        case {"type": "log_message", "levelname": str(level), "message": str(text), "msgid": str(msgid)}:
            return Said(level, text, msgid)
        case {"type": "log_message", "levelname": str(level), "message": str(text)}:
            return Said(level, text)
        case {"type": "question_prompt", "message": str(text)}:
            return Said("QUESTION", text)
        case {"type": str()}:
            return None
        case _:
            return Said("TEXT", line.decode(errors="replace"))


def _json(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


@dataclass
class Account:
    """All that borg said in one run, as far as it matters afterwards."""

    unread: list[str] = field(default_factory=list)  # not in the archive, and should be
    notes: list[str] = field(default_factory=list)  # vanished or changed while it was read
    errors: list[Said] = field(default_factory=list)
    _warning: str | None = None  # the last one, as long as no entry is known that it is about

    def hear(self, event: Said | FileStatus | Moved | None) -> None:
        """Take the next event."""
        match event:
            case FileStatus("C", path):
                self._warning = None
                _name(self.notes, f"{safe(path)}: changed while it was read")
            case FileStatus("E", path):
                self._left_out(path, self._warning or "")
                self._warning = None
            case Said("WARNING", text):
                self.close()
                self._warning = text
            case Said("ERROR" | "CRITICAL"):
                self.errors = [*self.errors[-_KEPT:], event]

    def close(self) -> None:
        """A warning that is about no entry stands for itself: nobody can say that it is harmless."""
        if self._warning is not None:
            _name(self.unread, f"borg: {safe(self._warning)}")
            self._warning = None

    def _left_out(self, path: str, warning: str) -> None:
        # borg says `PATH: stat: [Errno 2] No such file or directory: 'PATH'`, and a path may hold anything.
        why = warning.removeprefix(f"{path}: ") if warning.startswith(f"{path}: ") else ""
        code = int(found[1]) if (found := _OS_ERROR.search(why)) else 0
        if code in _VANISHED:
            _name(self.notes, f"{safe(path)}: vanished before it was read")
        elif not code and _CHANGED_KIND in why:
            _name(self.notes, f"{safe(path)}: was replaced while it was read, and left out")
        else:
            _name(self.unread, f"{safe(path)}: {os.strerror(code) if code else 'could not be read'}")

    @property
    def msgid(self) -> str | None:
        """What kind of error ended the run."""
        return next((error.msgid for error in reversed(self.errors) if error.msgid), None)

    @property
    def os_error(self) -> int | None:
        """The errno that ended the run, from a traceback's last line or the reason of a failed lock."""
        for error in reversed(self.errors):
            for line in reversed(error.text.splitlines()):
                if found := _ENDED_BY.search(line):
                    return int(found[1])
        return None


def _name(lines: list[str], line: str) -> None:
    if len(lines) < _NAMED:
        lines.append(line)
