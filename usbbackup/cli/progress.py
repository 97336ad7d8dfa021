"""A progress bar, where somebody is there to see it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

Moved = Callable[[int], None]


@contextmanager
def bar(doing: str, terminal: "Terminal", *, quiet: bool = False) -> Iterator[Callable[[int], Moved]]:
    """Gives a function that is told how many bytes there will be, and returns who is told how many are done.

    Nothing is shown where the answer does not go to a terminal.
    """
    if quiet or not terminal.err.isatty():
        yield lambda total: lambda done: None
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
