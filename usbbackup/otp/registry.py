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


class Entry(NamedTuple):
    """What is known under a name."""

    pid: Pid
    value: Any  # whatever was given at registration


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


class Registry(Server):
    """A table of unique names.

    It works as it is, and can be a child of a supervisor as well: then it starts empty with each start of its
    process, and `rest_for_one` makes what comes after it register again.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, Entry] = {}
        self._watches: dict[Hashable, Ref] = {}

    async def init(self) -> None:
        """Forget all names."""
        for name in list(self._entries):
            self.unregister(name)

    def register(self, name: Hashable, pid: Pid | None = None, value: Any = None) -> AlreadyRegistered | None:
        """Give a living process (left out: the calling one) a name, and keep a value with it."""
        if name in self._entries:
            return AlreadyRegistered(self._entries[name].pid)
        pid = pid or self_pid()
        if pid.alive:
            self._entries[name] = Entry(pid, value)
            self._watches[name] = watch(pid, lambda ref, reason: self.unregister(name))
        return None

    def unregister(self, name: Hashable) -> None:
        """Free a name; harmless where it is free."""
        self._entries.pop(name, None)
        if (ref := self._watches.pop(name, None)) is not None:
            unwatch(ref)

    def whereis(self, name: Hashable) -> Pid | None:
        """The process of that name, or None."""
        entry = self._entries.get(name)
        return entry and entry.pid

    def lookup(self, name: Hashable) -> Entry | None:
        """The process of that name with the value it was registered with, or None."""
        return self._entries.get(name)

    def names(self) -> list[Hashable]:
        """All names in use, in order of registration."""
        return list(self._entries)

    def via(self, name: Hashable) -> Via:
        """A handle to call whoever has the name at that time."""
        return Via(self, name)
