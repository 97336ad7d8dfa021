"""Questions to the person at the terminal; where nobody is to be asked, every default is taken."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from usbbackup.text import safe

if TYPE_CHECKING:
    from rich.console import Console

    from usbbackup.cli.main import Terminal


def talks(terminal: "Terminal") -> bool:
    """Is there somebody who sees questions and can answer?"""
    return terminal.stdin is not None and terminal.stdin.isatty() and terminal.out.isatty()


class Asker:
    """Asks, with rich's prompts."""

    def __init__(self, terminal: "Terminal") -> None:
        self._terminal = terminal

    def ask(self, question: str, default: str) -> str:
        """An answer in words."""
        from rich.prompt import Prompt

        return Prompt.ask(
            _plain(question), console=self._console, default=default, stream=self._terminal.stdin
        ).strip()

    def choose(self, question: str, words: Sequence[str], default: str) -> str:
        """One of a few words."""
        from rich.prompt import Prompt

        return Prompt.ask(
            _plain(question),
            console=self._console,
            choices=list(words),
            default=default,
            stream=self._terminal.stdin,
        )

    def secret(self, question: str) -> str:
        """An answer that is not shown, typed twice."""
        from rich.prompt import Prompt

        def typed(text: str) -> str:
            return Prompt.ask(
                _plain(text), console=self._console, default="", show_default=False, password=True
            )

        while (first := typed(question)) and typed("The same again") != first:
            self.say("These two differ.")
        return first

    def agrees(self, question: str, *, default: bool) -> bool:
        """Yes or no."""
        from rich.prompt import Confirm

        return Confirm.ask(
            _plain(question), console=self._console, default=default, stream=self._terminal.stdin
        )

    def say(self, line: str) -> None:
        """Tell something."""
        self._terminal.say(safe(line))

    @property
    def _console(self) -> "Console":
        from rich.console import Console

        return Console(file=self._terminal.out, highlight=False)


class Nobody:
    """Takes every default, and agrees."""

    def ask(self, question: str, default: str) -> str:
        """The default."""
        return default

    def choose(self, question: str, words: Sequence[str], default: str) -> str:
        """The default."""
        return default

    def secret(self, question: str) -> str:
        """None of one's own."""
        return ""

    def agrees(self, question: str, *, default: bool) -> bool:
        """Yes: that is what `--yes` says."""
        return True

    def say(self, line: str) -> None:
        """Nobody listens."""


def _plain(question: str) -> str:
    from rich.markup import escape

    return escape(safe(question))
