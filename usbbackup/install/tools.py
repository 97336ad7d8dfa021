"""The programs that setting up asks and tells: systemctl, loginctl and their like, each run to its end."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

PATIENCE = 100.0  # seconds; stopping an agent in the middle of a backup takes up to 90


@dataclass(frozen=True)
class Answered:
    """What a program said; code 127 where it is not installed, 124 where it took too long."""

    code: int
    out: str = ""
    complaint: str = ""


class Tools(Protocol):
    """Something that runs programs for `setup`, `uninstall` and `doctor`."""

    def ask(self, *argv: str, stdin: str = "") -> Answered:
        """Run it; whatever becomes of it is an answer."""
        ...


class SystemTools:
    """The machine's own programs."""

    def __init__(self, env: Mapping[str, str], patience: float = PATIENCE) -> None:
        self._env, self._patience = dict(env), patience

    def ask(self, *argv: str, stdin: str = "") -> Answered:
        """Run it, its output in plain English."""
        try:
            done = subprocess.run(
                argv,
                env=self._env | {"LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": ""},
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=self._patience,
            )
        except FileNotFoundError:
            return Answered(127, "", f"{argv[0]} is not installed")
        except OSError as error:
            return Answered(126, "", f"{argv[0]} cannot be run: {error.strerror}")
        except subprocess.TimeoutExpired:
            return Answered(124, "", f"{argv[0]} did not end within {self._patience:.0f} seconds")
        return Answered(done.returncode, done.stdout, done.stderr.strip())


def properties(answered: Answered) -> dict[str, str]:
    """What `systemctl show` and `loginctl show-user` print.

    >>> properties(Answered(0, "Linger=yes\\nSessions=1=2\\n"))
    {'Linger': 'yes', 'Sessions': '1=2'}
    """
    lines = (line.partition("=") for line in answered.out.splitlines())
    return {name: value for name, mark, value in lines if mark}
