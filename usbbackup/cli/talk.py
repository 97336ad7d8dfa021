"""Questions to the person at the terminal; where nobody is to be asked, every default is taken."""

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING

from usbbackup.errors import UsbbackupError
from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal


def talks(terminal: "Terminal") -> bool:
    """Is there somebody who sees questions and can answer?"""
    return terminal.stdin is not None and terminal.stdin.isatty() and terminal.out.isatty()


class Asker:
    """Asks, and asks again where an answer is none."""

    def __init__(self, terminal: "Terminal") -> None:
        self._terminal = terminal

    def ask(self, question: str, default: str) -> str:
        """An answer in words."""
        shown = f" [{default}]" if default else ""
        print(safe(f"{question}{shown}: "), end="", file=self._terminal.out, flush=True)
        line = self._terminal.stdin.readline() if self._terminal.stdin else ""
        if not line:
            raise UsbbackupError("there was no answer", "nothing more was done")
        return line.strip() or default

    def choose(self, question: str, words: Sequence[str], default: str) -> str:
        """One of a few words."""
        while (answer := self.ask(question, default)) not in words:
            self.say(f"Please answer {' or '.join(words)}.")
        return answer

    def secret(self, question: str) -> str:
        """An answer that is not shown, typed twice."""
        while (first := self._hidden(question)) and self._hidden("The same again") != first:
            self.say("These two differ.")
        return first

    def _hidden(self, question: str) -> str:
        return getpass.getpass(safe(f"{question}: "), stream=self._terminal.out)

    def agrees(self, question: str, *, default: bool) -> bool:
        """Yes or no."""
        answer = self.choose(f"{question} y or n", ("y", "n", "yes", "no"), "y" if default else "n")
        return answer.startswith("y")

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
