"""How much there is in a home, and how much of it each ready-made list of excludes would leave out."""

import os
from pathlib import Path

from usbbackup.backup.matcher import Matcher
from usbbackup.clock import Clock
from usbbackup.config_keys import PRESETS

TIME_LIMIT = 5.0  # seconds; what is not counted by then is not counted: it is a proposal


def of_presets(home: Path, clock: Clock) -> dict[str, int]:
    """Bytes in the home that each preset would leave out, as far as they are counted in time."""
    return _Count(clock).below(os.fsencode(home))


class _Count:
    """One walk over a home."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._until = clock, clock.monotonic() + TIME_LIMIT
        self._matchers = {name: Matcher((), (name,)) for name in PRESETS}
        self._found = dict.fromkeys(PRESETS, 0)

    def below(self, top: bytes) -> dict[str, int]:
        """Count what is in a directory."""
        todo: list[tuple[bytes, str | None]] = [(b"", None)]
        while todo and self._clock.monotonic() < self._until:
            parent, preset = todo.pop()
            for entry in _entries(top + b"/" + parent):
                directory = entry.is_dir(follow_symlinks=False)
                left_out = preset or self._left_out(parent, entry.name, directory)
                if directory:
                    todo.append((parent + entry.name + b"/", left_out))
                elif left_out:
                    self._found[left_out] += _size(entry)
        return self._found

    def _left_out(self, parent: bytes, name: bytes, directory: bool) -> str | None:
        rules = self._matchers.items()
        return next((preset for preset, rule in rules if rule.excludes(parent, name, directory)), None)


def _entries(directory: bytes) -> "list[os.DirEntry[bytes]]":
    """What is in a directory; nothing where that may not be known."""
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []


def _size(entry: "os.DirEntry[bytes]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:  # it has just gone
        return 0
