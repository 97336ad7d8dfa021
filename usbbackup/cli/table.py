"""Plain tables: as wide as they need, whatever is in them made harmless, colour only on a terminal."""

import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

Row = tuple[Sequence[object], str | None]  # cells, and a sentence that belongs below them

GAP = "  "
INDENT = "    "
STYLES = {
    "success": "green",
    "warning": "yellow",
    "failed": "red",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "ready": "green",
    "busy": "green",
    "waiting": "yellow",
    "refused": "red",
}


def table(header: Sequence[str], rows: Sequence[Row], terminal: "Terminal") -> None:
    """Columns as wide as they need; sentences below their row, wrapped on a terminal. All made harmless."""
    from rich.cells import cell_len

    lines = [[("" if cell is None else safe(str(cell))) for cell in cells] for cells, _ in rows]
    widths = [max(map(cell_len, column)) for column in zip(header, *lines, strict=True)]
    line = _painter(widths, terminal)
    line(header, "bold")
    for cells, (_, sentence) in zip(lines, rows, strict=True):
        line(cells, None)
        if sentence:
            terminal.say(_below(sentence, terminal))


def _painter(widths: Sequence[int], terminal: "Terminal") -> Callable[[Sequence[str], str | None], None]:
    """What prints one line: in colour only where that is wanted, and only then with rich's help."""
    from rich.cells import cell_len

    def padded(cells: Sequence[str]) -> list[str]:
        return [cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]

    def plain(cells: Sequence[str], style: str | None) -> None:
        terminal.say(GAP.join(padded(cells)).rstrip())

    def coloured(cells: Sequence[str], style: str | None) -> None:
        parts = [
            (text, style or STYLES.get(cell, "")) for cell, text in zip(cells, padded(cells), strict=True)
        ]
        line = Text(GAP).join(Text(text, style) for text, style in parts)
        line.rstrip()
        console.print(line, soft_wrap=True)

    if not _colour(terminal):
        return plain
    from rich.console import Console
    from rich.text import Text

    console = Console(file=terminal.out, highlight=False)
    return coloured


def _colour(terminal: "Terminal") -> bool:
    """Colour is for terminals that know it, and for people who want it (no-color.org)."""
    return terminal.out.isatty() and not terminal.env.get("NO_COLOR") and terminal.env.get("TERM") != "dumb"


def _below(sentence: str, terminal: "Terminal") -> str:
    text = safe(sentence)
    if not terminal.out.isatty():
        return INDENT + text
    return textwrap.fill(
        text,
        max(40, shutil.get_terminal_size().columns),
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,  # commands, paths and UUIDs stay whole
        break_on_hyphens=False,
    )
