"""Who answers a command: the agent, or where none runs the same code in this process."""

from typing import TYPE_CHECKING, Any

from usbbackup.errors import NoAgentError, SilentAgentError
from usbbackup.varlink import PATIENCE, Client

if TYPE_CHECKING:
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
