"""What happens, told live to whoever listens: the command line, the desktop, systemd's status line."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from usbbackup.outcome import Progress, Result

BACKLOG = 1000  # events a slow listener may lag behind before it misses how far runs are


@dataclass(frozen=True)
class Event:
    """One thing that happened to one run, or `changed`: something else is as it was not before."""

    event: str  # queued | progress | ended | changed
    run: str = ""
    job: str = ""
    drive: str = ""  # uuid
    progress: Progress | None = None
    result: Result | None = None
    dry_run: bool = False

    def record(self) -> dict[str, object]:
        """As it goes over the control socket; every field always there."""
        progress = asdict(self.progress) if self.progress else {}
        result = self.result
        return {
            "event": self.event,
            "run": self.run or None,
            "job": self.job or None,
            "drive": self.drive or None,
            "phase": progress.get("phase"),
            "percent": progress.get("percent"),
            "bytes": result.bytes if result else progress.get("bytes"),
            "files": result.files if result else progress.get("files"),
            "outcome": result.outcome if result else None,
            "message": result.message if result else None,
            "hint": result.hint if result else None,
            "snapshot": result.snapshot if result else None,
        }


class Hub:
    """Hands every event to every listener; nobody who is slow holds a run up."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Event], None]] = []

    def tell(self, event: Event) -> None:
        """Pass one event on."""
        for listener in list(self._listeners):
            listener(event)

    @contextmanager
    def listening(self, listener: Callable[[Event], None]) -> Iterator[None]:
        """Call `listener` for each event while inside."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @contextmanager
    def stream(self) -> Iterator[AsyncIterator[Event]]:
        """The events from now on; a reader that lags misses how far runs are, never their ends."""
        queue: asyncio.Queue[Event] = asyncio.Queue()

        def put(event: Event) -> None:
            if event.event != "progress" or queue.qsize() < BACKLOG:
                queue.put_nowait(event)

        async def read() -> AsyncIterator[Event]:
            while True:
                yield await queue.get()

        with self.listening(put):
            yield read()
