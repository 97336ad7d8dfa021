"""The list of what is backed up, out of one walk over the sources: the same for every engine.

Entries are paths without their leading slash, as bytes; a directory comes before what is in it. Left out are,
besides what the matcher says: sockets, which no engine can bring back; device nodes, unless we are root, who
alone could make them again; and what we may not read, which is counted and told instead. Kept as empty
directories are mount points and subvolumes where the job stays on one file system, and caches marked as such.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from usbbackup.backup.sources import Place, Tally
from usbbackup.backup.walk import Group, Rules, Unread, Walk, inside


class Sink(Protocol):
    """What a list is written to."""

    def write(self, data: bytes, /) -> object:
        """Take the next piece."""
        ...


class Scan:
    """The entries of all sources. They are walked, and counted anew, each time it is asked for them.

    `finished` is called at the end of the walk, and may raise `Over`: then the list was not fit to be used.
    """

    def __init__(
        self, places: Sequence[Place], rules: Rules, finished: Callable[[], None] = lambda: None
    ) -> None:
        self.places = tuple(places)
        self._count_anew()
        self._rules = rules
        self._finished = finished
        self._tops = frozenset(place.path for place in places)

    def _count_anew(self) -> None:
        self.tallies = {place.path: Tally() for place in self.places}
        self.unread = Unread()

    @property
    def files(self) -> int:
        """How many entries that are no directories were met so far."""
        return sum(tally.files for tally in self.tallies.values())

    def kinds(self) -> set[str]:
        """The kinds of file systems that the walk may lead through."""
        kinds = {place.mount.fs_type if place.mount else "unknown" for place in self.places}
        if not self._rules.one_file_system:
            kinds |= {row.fs_type for point, row in self._rules.mounts.items() if self._covered(point)}
        return kinds

    def write(self, out: Sink, prefix: bytes, seen: Callable[[Group], None] | None = None) -> None:
        """Write each entry as `prefix + path + NUL`; for a thread of its own.

        `seen` is told of each directory what its entries look like.
        """
        between = b"\0" + prefix
        for batch in self.batches(seen):
            out.write(prefix + between.join(batch) + b"\0")

    def batches(self, seen: Callable[[Group], None] | None = None) -> Iterator[list[bytes]]:
        """Every entry once, in lists that are not empty."""
        for group in self.groups(closely=seen is not None):
            if seen is not None:
                seen(group)
            own = [] if group.directory is None else [group.directory]
            if entries := [path[1:] for path in (*own, *group.names) if path != b"/"]:
                yield entries

    def groups(self, *, closely: bool = False) -> Iterator[Group]:
        """The same by directory, with absolute paths; `closely` with what each entry looks like."""
        self._count_anew()
        yield from (Group(path, []) for path in self.parents())
        for place in self.places:
            yield from self._walk(place, closely) if place.directory else self._single(place)
        self._finished()

    def _walk(self, place: Place, closely: bool) -> Walk:
        others = self._tops - {place.path}
        return Walk(place, self._rules, others, self.tallies[place.path], self.unread, closely=closely)

    def _single(self, place: Place) -> Iterator[Group]:
        tally = self.tallies[place.path]
        if self._rules.may_read(place.path):
            tally.files += 1
            yield Group(None, [place.path])
        else:
            tally.unreadable += 1
            self.unread.add(place.path, "Permission denied")

    def parents(self) -> list[bytes]:
        """The directories above the sources: rsync makes them anyway, so every engine shall have them."""
        above: dict[bytes, None] = {}
        for top in sorted(self._tops):
            parts = top.split(b"/")
            above.update(dict.fromkeys(b"/".join(parts[:depth]) for depth in range(2, len(parts))))
        return [path for path in above if not self._covered(path) and self._rules.may_enter(path)]

    def _covered(self, path: bytes) -> bool:
        return any(inside(path).startswith(inside(top)) for top in self._tops)
