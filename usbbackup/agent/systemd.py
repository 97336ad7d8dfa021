"""What the service manager is told: ready, how it goes, still alive, stopping (sd_notify(3))."""

from collections.abc import Mapping
from typing import Any, Protocol


class Manager(Protocol):
    """Somebody who is told about the state of this service."""

    def tell(self, *assignments: str) -> None:
        """Send assignments such as READY=1 or STATUS=..."""
        ...


class Systemd:
    """The real service manager; silent where NOTIFY_SOCKET is not set."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._notifier = _notifier() if env.get("NOTIFY_SOCKET") else None

    def tell(self, *assignments: str) -> None:
        """One datagram for all assignments."""
        if self._notifier is not None:
            self._notifier.notify("\n".join(assignments))


def _notifier() -> Any:
    from sdnotify import SystemdNotifier

    notifier = SystemdNotifier()
    if notifier.socket is not None:
        # A manager that does not listen loses news; it must not hold up the agent.
        notifier.socket.setblocking(False)
    return notifier


def watchdog_seconds(env: Mapping[str, str], pid: int) -> float | None:
    """How often to say WATCHDOG=1: half of WATCHDOG_USEC, if it is meant for us (sd_watchdog_enabled(3))."""
    microseconds = env.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or env.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(microseconds) / 2_000_000 or None
