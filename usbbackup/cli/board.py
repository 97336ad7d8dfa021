"""Runs as they go, drawn anew on a terminal: a bar for each, how fast, and how long it will still take."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from usbbackup.cli import shown
from usbbackup.outcome import Phase
from usbbackup.pace import Pace
from usbbackup.text import human_bytes, human_duration, safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal
    from usbbackup.cli.shown import Record

_REFRESH = 4  # times a second: clocks go on where no news comes
_WIDE, _NARROW = 90, 56  # columns from which on there is room for everything, and for a bar


class Board:
    """What runs now; `above` stands over it."""

    def __init__(self, terminal: "Terminal", above: str = "") -> None:
        self._terminal = terminal
        self._names = shown.labels(terminal)
        self._runs: dict[str, dict[str, Any]] = {}
        self._paces: dict[str, Pace] = {}
        self.above = above

    @property
    def running(self) -> bool:
        """Does anything run?"""
        return bool(self._runs)

    def event(self, event: "Record") -> None:
        """Something happened to a run."""
        match event["event"]:
            case "ended":
                self._runs.pop(event["run"], None)
                self._paces.pop(event["run"], None)
            case "queued" | "progress":
                self._put(event)

    def status(self, status: "Record") -> None:
        """Everything is known anew."""
        self._runs = {run: known for run, known in self._runs.items() if _is_among(run, status["runs"])}
        for run in status["runs"]:
            self._put(run)
        self._names |= shown.names_of(status["drives"])

    def _put(self, run: "Record") -> None:
        now, name = self._terminal.clock.now(), run["run"]
        if name not in self._paces:
            since = datetime.fromisoformat(run["since"]).timestamp() if run.get("since") else now
            self._paces[name] = Pace(since, shown.took_last_time(run["job"], run["drive"], self._terminal))
        self._paces[name].note(now, run["bytes"])
        self._runs[name] = dict(run)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.above:
            yield Text(self.above)
        if self._runs:
            yield self._table(options.max_width)

    def _table(self, width: int) -> Table:
        grid = Table.grid(padding=(0, 1), expand=False)
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=max(10, width // 4))
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=max(10, width // 4))
        for _ in range(6):
            grid.add_column(no_wrap=True)
        for run in self._runs.values():
            grid.add_row(*self._row(run, width))
        return grid

    def _row(self, run: Mapping[str, Any], width: int) -> Iterator[Text | ProgressBar]:
        now, percent, pace = self._terminal.clock.now(), run["percent"], self._paces[run["run"]]
        drive = self._names.get(run["drive"], run["drive"])
        copies = run["phase"] == Phase.TRANSFER
        yield Text(f"{safe(run['job'])} to {safe(drive)}", "bold")
        yield Text(shown.DOES.get(run["phase"], run["phase"]))
        if width >= _NARROW:
            yield ProgressBar(100, percent or 0, width=20) if copies and percent is not None else Text("")
        yield Text(f"{percent:.0f} %" if copies and percent is not None else "")
        if width >= _WIDE:
            rate = pace.rate(now) if copies else None
            yield Text(human_bytes(run["bytes"]) if run["bytes"] is not None else "")
            yield Text(f"{human_bytes(rate)}/s" if rate else "")
        left = pace.left(now, percent if copies else None)
        yield Text(
            f"{human_duration(left)} left" if left is not None else human_duration(now - pace.since), "dim"
        )


def _is_among(run: str, runs: "list[Record]") -> bool:
    return any(other["run"] == run for other in runs)


@contextmanager
def live(board: Board, terminal: "Terminal", *, leave: bool) -> Iterator[Console]:
    """Draw the board until the block ends, and `leave` the last picture; the console prints above it."""
    colour = not terminal.env.get("NO_COLOR")
    console = Console(file=terminal.out, highlight=False, no_color=not colour, force_terminal=True)
    with Live(
        board,
        console=console,
        refresh_per_second=_REFRESH,
        transient=not leave,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield console


class LiveTeller(shown.Teller):
    """Tells on a terminal how runs go: a line for what begins and ends, a bar for what is under way."""

    def __init__(self, terminal: "Terminal", board: Board, console: Console) -> None:
        super().__init__(terminal, as_json=False)
        self._board, self._console = board, console

    def tell(self, event: "Record") -> None:
        """One event of one run."""
        self._board.event(event)
        if event["event"] == "progress":
            self.began = True
        else:
            super().tell(event)

    def _say(self, what: "Record | str") -> None:
        self._console.print(Text(str(what)), soft_wrap=True)
