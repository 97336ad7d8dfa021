"""Names: one living process each, looked up at once, gone with the process."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

from usbbackup.otp.process import Pid, Ref, self_pid, unwatch, watch
from usbbackup.otp.server import Server


@dataclass(frozen=True)
class AlreadyRegistered:
    """The name is taken, by this process."""

    pid: Pid


@dataclass(frozen=True)
class Via:
    """A name to call instead of a Pid: it survives restarts of what it names."""

    registry: "Registry"
    name: Hashable

    def whereis(self) -> Pid | None:
        """The process that has the name now."""
        return self.registry.whereis(self.name)

    def __str__(self) -> str:
        return str(self.name)


class Entry(NamedTuple):
    """What is known under a name."""

    pid: Pid
    value: Any  # whatever was given at registration
    ref: Ref


class Registry(Server):
    """A table of unique names.

    It works as it is, and can be a supervisor's child as well: then it is empty after each start of its
    process, and `rest_for_one` makes what comes after it register again.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, Entry] = {}

    async def init(self) -> None:
        """Forget all names."""
        for name in list(self._entries):
            self.unregister(name)

    def register(self, name: Hashable, pid: Pid | None = None, value: Any = None) -> AlreadyRegistered | None:
        """Give a living process (left out: the calling one) a name, and keep a value with it."""
        if (taken := self.whereis(name)) is not None:
            return AlreadyRegistered(taken)
        pid = pid or self_pid()
        if pid.alive:
            self._entries[name] = Entry(pid, value, watch(pid, lambda ref, reason: self.unregister(name)))
        return None

    def unregister(self, name: Hashable) -> None:
        """Free a name; harmless where it is free."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            unwatch(entry.ref)

    def whereis(self, name: Hashable) -> Pid | None:
        """The process of that name, or None."""
        entry = self._entries.get(name)
        return entry and entry.pid

    def lookup(self, name: Hashable) -> Entry | None:
        """The process of that name and the value it was registered with, or None."""
        return self._entries.get(name)

    def names(self) -> list[Hashable]:
        """All names in use, in order of registration."""
        return list(self._entries)

    def via(self, name: Hashable) -> Via:
        """A handle to call whoever has the name at that time."""
        return Via(self, name)
