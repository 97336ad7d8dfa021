"""Questions to the person at the terminal; where nobody is to be asked, every default is taken."""

import getpass
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from usbbackup.errors import UsbbackupError
from usbbackup.text import safe

if TYPE_CHECKING:
    from rich.text import Text

    from usbbackup.cli.main import Terminal

T = TypeVar("T")


def talks(terminal: "Terminal") -> bool:
    """Is there somebody who sees questions and can answer?"""
    return terminal.stdin is not None and terminal.stdin.isatty() and terminal.out.isatty()


class Asker:
    """Asks, and asks again where an answer is none."""

    def __init__(self, terminal: "Terminal") -> None:
        from rich.console import Console  # only where somebody is asked

        self._terminal = terminal
        self._console = Console(file=terminal.out, highlight=False)

    def ask(self, question: str, default: str) -> str:
        """An answer in words."""
        from rich.prompt import Prompt

        return self._answered(
            lambda text: Prompt.ask(text, console=self._console, default=default, show_default=bool(default)),
            question,
        ).strip()

    def choose(self, question: str, words: Sequence[str], default: str) -> str:
        """One of a few words."""
        from rich.prompt import Prompt

        return self._answered(
            lambda text: Prompt.ask(text, console=self._console, choices=list(words), default=default),
            question,
        )

    def agrees(self, question: str, *, default: bool) -> bool:
        """Yes or no."""
        from rich.prompt import Confirm

        return self._answered(
            lambda text: Confirm.ask(text, console=self._console, default=default), question
        )

    def secret(self, question: str) -> str:
        """An answer that is not shown, typed twice."""
        while (first := self._hidden(question)) and self._hidden("The same again") != first:
            self.say("These two differ.")
        return first

    def _hidden(self, question: str) -> str:
        return getpass.getpass(safe(f"{question}: "), stream=self._terminal.out)

    def _answered(self, ask: "Callable[[Text], T]", question: str) -> T:
        """What is answered to a question; names in it are text, never markup."""
        from rich.text import Text

        try:
            return ask(Text(safe(question)))
        except EOFError:
            raise UsbbackupError("there was no answer", "nothing more was done") from None

    def say(self, line: str) -> None:
        """Tell something."""
        self._terminal.say(safe(line))


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
