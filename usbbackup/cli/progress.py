"""How far something is: a bar where somebody is there to see it, a line now and then where not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usbbackup.text import human_bytes

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

Moved = Callable[[int], None]
_EVERY = 30.0  # seconds between two lines


@contextmanager
def bar(doing: str, terminal: "Terminal", *, quiet: bool = False) -> Iterator[Callable[[int], Moved]]:
    """Gives a function that is told how many bytes there will be, and returns who is told how many are done.

    Where standard error is no terminal it gets plain lines, and none where all is done soon.
    """
    if quiet:
        yield lambda total: lambda done: None
        return
    if not terminal.err.isatty():
        yield lambda total: _lines(doing, terminal, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=Console(file=terminal.err), transient=True)

    def begin(total: int) -> Moved:
        shown.start()
        task = shown.add_task(doing, total=total or None)
        return lambda done: shown.update(task, completed=done)

    try:
        yield begin
    finally:
        shown.stop()


def _lines(doing: str, terminal: "Terminal", total: int) -> Moved:
    of = f" of {human_bytes(total)}" if total else ""
    last = terminal.clock.monotonic()

    def moved(done: int) -> None:
        nonlocal last
        if (now := terminal.clock.monotonic()) - last >= _EVERY:
            last = now
            print(f"{doing}: {human_bytes(done)}{of}", file=terminal.err, flush=True)

    return moved
