"""What a run notes of its snapshot: drafted while the drive syncs, written once there is a snapshot."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from usbbackup.backup import layout
from usbbackup.backup.catalogue.database import Catalogue
from usbbackup.backup.catalogue.listing import Listing, of_manifest, of_singles
from usbbackup.backup.catalogue.recording import Draft
from usbbackup.backup.manifest import Manifest

if TYPE_CHECKING:
    from usbbackup.backup.engine import Work


@dataclass(frozen=True)
class Note:
    """What the walk of a run has seen; both calls block, and raise OSError or sqlite3.Error."""

    work: "Work"
    seen: Manifest

    def draft(self) -> Draft:
        """Compare it with what is noted."""
        with closing(self._catalogue()) as catalogue:
            return catalogue.draft(
                self.work.request.target.facts.uuid, self.work.request.job.name, self._listings()
            )

    def write(self, draft: Draft | None, left: Sequence[str] | None) -> None:
        """Note the snapshot; `left` are those of a borg repository, where that is known."""
        work, job, facts = self.work, self.work.request.job, self.work.request.target.facts
        there = layout.published(work.job_fd) if job.engine == "rsync" else left
        with closing(self._catalogue()) as catalogue:
            catalogue.record(
                *(facts.uuid, facts.label or facts.name, job.name, work.time),
                self._listings(),
                there,
                draft,
            )

    def _catalogue(self) -> Catalogue:
        return Catalogue.open(self.work.request.paths.state)

    def _listings(self) -> Iterator[Listing]:
        return chain(of_manifest(self.seen), of_singles(self.work.scan.places))
