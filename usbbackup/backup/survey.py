"""What a run is going to read: its sources, found, doubted before and after the walk, and remembered."""

import os
from contextlib import suppress
from pathlib import Path

from usbbackup.backup.engine import Doubtful, Request, failed
from usbbackup.backup.matcher import Matcher
from usbbackup.backup.scan import Scan
from usbbackup.backup.sources import Place, Tally, doubt_after, doubt_before, doubt_closed, locate, seen
from usbbackup.backup.walk import Rules, inside
from usbbackup.ecryptfs.before import own_homes, twice
from usbbackup.mountinfo import MOUNTINFO, MountRow, parse
from usbbackup.outcome import Outcome, Result, SourceSeen
from usbbackup.text import safe

_TOO_MANY = 0.05  # the share of entries that an engine could not read, as in sources


class Survey:
    """The sources of one run, and the scan that walks them once. Making it asks the file system, briefly."""

    def __init__(self, request: Request, mount_table: Path = Path(MOUNTINFO)) -> None:
        """Raises `Over` where a source is not there, or is not what it was."""
        self._request = request
        mounts = parse(mount_table.read_bytes()).rows
        self._found = {source: locate(source, mounts) for source in request.job.sources}
        for source, found in self._found.items():
            self._doubt(doubt_closed(source, found) or doubt_before(source, found, request.last.get(source)))
        places = {found.path: found for found in self._found.values() if isinstance(found, Place)}
        if not places:
            raise failed(
                "none of the sources is there", "nothing was published; earlier snapshots are untouched"
            )
        self.scan = Scan(list(places.values()), self._rules(mounts), self._judge)

    def _rules(self, mounts: list[MountRow]) -> Rules:
        job = self._request.job
        try:
            matcher = Matcher(job.exclude, job.exclude_presets)
        except ValueError as error:
            raise failed(str(error), "correct `exclude` in the configuration") from error
        by_point = {row.mount_point: row for row in mounts}
        avoid = _drive(self._request) | self._twice(mounts)
        return Rules(matcher, job.one_file_system, by_point, avoid, self._request.stop)

    def _twice(self, mounts: list[MountRow]) -> frozenset[tuple[int, int]]:
        """The form of eCryptfs homes that is left out: never the plain files and the encrypted ones too."""
        sources = [
            Path(os.fsdecode(found.path)) for found in self._found.values() if isinstance(found, Place)
        ]
        left_out = set()
        for home in own_homes(mounts):
            if (path := twice(home, sources)) is None:
                continue
            if path in sources:
                both = f"{safe(str(home.upper))} and {safe(str(home.lower))}"
                raise failed(
                    f"{both} hold the same files, plain and encrypted",
                    "take one of them out of `sources`: a backup should hold them once",
                )
            self._request.log(f"{safe(str(path))} is left out: eCryptfs has the same files in another source")
            with suppress(OSError):  # not there, and so not twice
                found = path.stat()
                left_out.add((found.st_dev, found.st_ino))
        return frozenset(left_out)

    def _judge(self) -> None:
        """At the end of the walk, while the engine still waits for the end of its list."""
        for now in self.seen():
            self._doubt(doubt_after(now, self._request.last.get(now.source)))

    def judge_copy(self, missed: int) -> None:
        """After the copy: what the engine could not read counts like what the walk could not."""
        entries = self.scan.files + missed
        if missed > _TOO_MANY * entries:
            self._doubt(f"{missed} of the {entries} entries could not be read while they were copied")

    def seen(self) -> tuple[SourceSeen, ...]:
        """What is to be remembered of the sources, missing ones included."""
        return tuple(seen(source, found, self._tally(found)) for source, found in self._found.items())

    def _tally(self, found: Place | OSError) -> Tally | None:
        """A source inside another is walked by itself, and counts for both."""
        if isinstance(found, OSError):
            return None
        top, total = inside(found.path), Tally()
        for path, tally in self.scan.tallies.items():
            if inside(path).startswith(top):
                total.files += tally.files
                total.directories += tally.directories
                total.unreadable += tally.unreadable
        return total

    @property
    def unreadable(self) -> int:
        """How many entries the walk could not read."""
        return sum(tally.unreadable for tally in self.scan.tallies.values())

    def _doubt(self, doubt: str | None) -> None:
        if doubt is None:
            return
        if self._request.accept_source:
            self._request.log(f"accepted, because you said so: {doubt}")
            return
        job = self._request.job.name
        raise Doubtful(
            Result(
                Outcome.FAILED,
                f"{doubt}; nothing was published, and earlier snapshots are untouched",
                f"if it is as it should be, say: usbbackup start {job} --accept-source",
            )
        )


def _drive(request: Request) -> frozenset[tuple[int, int]]:
    """The drive that the backup goes to is never part of it."""
    top = request.target.facts.mount_point.stat()
    folder = os.fstat(request.target.fd)
    return frozenset(((top.st_dev, top.st_ino), (folder.st_dev, folder.st_ino)))
