"""Who answers a command: the agent, or where none runs the same code in this process."""

from typing import TYPE_CHECKING, Any

from usbbackup.errors import NoAgentError, SilentAgentError
from usbbackup.varlink import PATIENCE, Client

if TYPE_CHECKING:
    from usbbackup.agent.reading import Reading
    from usbbackup.backup.snapshots import Ask
    from usbbackup.cli.main import Terminal

SHORT = 15.0  # seconds for what is only to be shown

Answer = dict[str, Any]


def asked(terminal: "Terminal", method: str, patience: float = PATIENCE, /, **parameters: Any) -> Answer:
    """The answer to a question about drives. Raises SilentAgentError where the agent takes too long."""
    agent = reached(terminal, patience)
    if agent is None:
        from usbbackup.agent import once

        return once.answer(terminal.env, method, parameters)
    with agent:
        return agent.call(method, patience, **parameters)


def reached(terminal: "Terminal", patience: float = PATIENCE) -> Client | None:
    """The agent; None where none runs. Raises SilentAgentError where one runs and takes no calls."""
    try:
        return Client.connect(terminal.paths.socket, patience)
    except SilentAgentError:
        raise
    except NoAgentError:
        return None


def reading(terminal: "Terminal") -> "Reading":
    """The drives that are plugged in, read by this process. Raises ConfigError for a wrong configuration."""
    from usbbackup.agent import once
    from usbbackup.agent.reading import Reading

    return Reading(once.here(terminal.env), passphrases(terminal))


def passphrases(terminal: "Terminal") -> "Ask | None":
    """Somebody who may know passphrases; None where nobody sits at the terminal."""
    return _passphrase if _somebody(terminal) else None


def confirmed(question: str, terminal: "Terminal") -> bool:
    """Ask whoever sits at the terminal; where nobody does, the command line has said enough."""
    if terminal.stdin is None or not _somebody(terminal):
        return True
    print(f"{question} [y/N] ", end="", file=terminal.out, flush=True)
    return terminal.stdin.readline().strip().lower() in ("y", "yes")


def _somebody(terminal: "Terminal") -> bool:
    return terminal.stdin is not None and terminal.stdin.isatty() and terminal.out.isatty()


def _passphrase(job: str) -> bytes | None:
    import getpass

    try:
        return getpass.getpass(f"Passphrase of the borg repository of job '{job}': ").encode() or None
    except EOFError:
        return None
