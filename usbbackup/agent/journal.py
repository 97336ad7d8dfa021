"""The agent's story: structured entries for the journal, plain lines for a terminal."""

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SOCKET = "/run/systemd/journal/socket"
PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
FIELDS = {"job": "USBBACKUP_JOB", "drive": "USBBACKUP_DRIVE", "run": "USBBACKUP_RUN"}

story = logging.getLogger("usbbackup")
output = story.getChild("output")  # of engines: part of the journal, but not of the story in a terminal


class JournalHandler(logging.Handler):
    """Sends each record as one datagram in the journal's native protocol (systemd.journal-fields(7))."""

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; where the journal is gone it goes to standard error, never nowhere."""
        try:
            self._socket.sendto(entry(self.format(record), record), self._path)
        except OSError:
            print(self.format(record), file=sys.stderr)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def entry(message: str, record: logging.LogRecord) -> bytes:
    """The datagram of a record; a field with a newline is sent with its length instead of `=`."""
    fields = {
        "MESSAGE": message,
        **({"MESSAGE_ID": kind} if (kind := vars(record).get("kind")) else {}),
        "PRIORITY": str(PRIORITY.get(record.levelno, 6)),
        "SYSLOG_IDENTIFIER": "usbbackup",
        **{field: str(vars(record)[name]) for name, field in FIELDS.items() if vars(record).get(name)},
    }
    return b"".join(_field(name, value.encode("utf-8", "backslashreplace")) for name, value in fields.items())


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


def handler(env: Mapping[str, str]) -> logging.Handler:
    """The journal, where JOURNAL_STREAM says that standard error is it (systemd.exec(5)); else a stream."""
    about = os.fstat(sys.stderr.fileno())
    if env.get("JOURNAL_STREAM") == f"{about.st_dev}:{about.st_ino}":
        return JournalHandler()
    stream = logging.StreamHandler()
    stream.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    return stream


@contextmanager
def only_errors() -> Iterator[None]:
    """Leave everything else out of the story for a while."""
    before = story.level
    story.setLevel(logging.ERROR)
    try:
        yield
    finally:
        story.setLevel(before)
