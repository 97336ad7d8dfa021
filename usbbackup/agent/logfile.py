"""The log of one run: a file of its own, line by line, readable while the run goes on and after."""

import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from usbbackup.agent.journal import output, story
from usbbackup.agent.messages import Message
from usbbackup.clock import Clock, rfc3339
from usbbackup.text import safe

MOST_LINES = 200  # of one engine's output in the journal, which has more to keep than one run
MOST_BYTES = 20_000_000  # beyond that only a remark: a log must not fill the home


class RunLog:
    """Appends lines from any thread; a log that cannot be written never fails a backup."""

    def __init__(
        self, directory: Path, run: str, clock: Clock, fields: Mapping[str, str] | None = None
    ) -> None:
        self.path = directory / f"{run}.log"
        self._run, self._clock = run, clock
        self._fields = {**(fields or {}), "kind": Message.RUN_OUTPUT}
        self._told = 0
        self._lock = Lock()
        self._fd = -1
        self._written = 0

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def line(self, text: str) -> None:
        """Add one line, with the time, whatever the text holds."""
        data = f"{rfc3339(self._clock.now())} {safe(text)}\n".encode()
        with self._lock:
            if self._fd < 0 or self._written > MOST_BYTES:
                return
            self._written += len(data)
            if self._written > MOST_BYTES:
                data = b"the log ends here, it has become too long\n"
            try:
                os.write(self._fd, data)
            except OSError as error:
                self._give_up(error)

    def output(self, text: str) -> None:
        """Add one line that the engine has said; its first lines go to the journal as well."""
        self.line(text)
        with self._lock:
            self._told += 1
            told = self._told
        if told <= MOST_LINES:
            output.debug("%s", safe(text), extra=self._fields)
        elif told == MOST_LINES + 1:
            output.debug("there is more, see: usbbackup history %s", self._run, extra=self._fields)

    def _give_up(self, error: OSError) -> None:
        about = self._fields | {"kind": Message.LOG_TROUBLE}
        story.warning("the run's log %s cannot be written: %s", self.path, error.strerror, extra=about)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
