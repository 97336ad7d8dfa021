"""What the service manager is told: ready, how it goes, still alive, stopping (sd_notify(3))."""

from collections.abc import Mapping
from typing import Protocol


class Manager(Protocol):
    """Somebody who is told about the state of this service."""

    def tell(self, *assignments: str) -> None:
        """Send assignments such as READY=1 or STATUS=..."""
        ...


class Systemd:
    """The real service manager; silent where NOTIFY_SOCKET is not set."""

    def __init__(self) -> None:
        from sdnotify import SystemdNotifier

        self._notifier = SystemdNotifier()
        if self._notifier.socket is not None:
            # A manager that does not listen loses news; it must not hold up the agent.
            self._notifier.socket.setblocking(False)

    def tell(self, *assignments: str) -> None:
        """One datagram for all assignments."""
        self._notifier.notify("\n".join(assignments))


def watchdog_seconds(env: Mapping[str, str], pid: int) -> float | None:
    """How often to say WATCHDOG=1: half of WATCHDOG_USEC, if it is meant for us (sd_watchdog_enabled(3))."""
    microseconds = env.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or env.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(microseconds) / 2_000_000 or None
