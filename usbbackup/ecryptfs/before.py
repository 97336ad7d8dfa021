"""Before the disaster: what of an eCryptfs home that is in use a backup should hold, and what not twice.

For `setup`, `doctor` and the walk through the sources; imports nothing that decrypts.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usbbackup.mountinfo import MOUNTINFO, MountRow, parse
from usbbackup.text import safe


@dataclass(frozen=True)
class OwnHome:
    """A directory of eCryptfs that is mounted: the same files twice."""

    upper: Path  # as the user sees them
    lower: Path  # as they lie on the disk, encrypted

    @property
    def keys(self) -> Path:
        """The directory with the wrapped passphrase and the signatures (ecryptfs-setup-private(1))."""
        return self.lower.with_name(".ecryptfs")

    @property
    def forms(self) -> tuple[Path, Path]:
        """Plain and encrypted."""
        return self.upper, self.lower

    @property
    def explained(self) -> str:
        """The choice, in two sentences."""
        return (
            f"A backup of {safe(str(self.upper))} holds your files as you see them: any computer can read "
            "it, and so can whoever has the drive, unless borg or LUKS encrypts it. "
            f"A backup of {safe(str(self.lower.parent))} holds them encrypted, as they lie on the disk: "
            "`usbbackup recover-home` reads it, with your login passphrase and the file wrapped-passphrase, "
            "or with the mount passphrase."
        )


def own_homes(rows: Iterable[MountRow]) -> list[OwnHome]:
    """Everything of eCryptfs in the mount table."""
    return [
        OwnHome(Path(os.fsdecode(row.mount_point)), Path(os.fsdecode(row.source)))
        for row in rows
        if row.fs_type == "ecryptfs" and row.source.startswith(b"/")
    ]


def own_home(home: Path, rows: Iterable[MountRow] | None = None) -> OwnHome | None:
    """That of this user: mounted at the home itself or in it, the outermost; None where there is none.

    `rows` is the mount table; left out, that of this process.
    """
    table = parse(Path(MOUNTINFO).read_bytes()).rows if rows is None else rows
    inside = [one for one in own_homes(table) if one.upper.is_relative_to(os.path.realpath(home))]
    return min(inside, key=lambda one: len(one.upper.parts), default=None)


def twice(home: OwnHome, sources: Sequence[Path]) -> Path | None:
    """The form of a home that is to be left out of these sources, because they hold the other one too.

    Never both: the same files twice, once in plain. What was named goes before what merely lies in a source.
    The sources are absolute, with symbolic links resolved.

    >>> home = OwnHome(Path("/home/d"), Path("/home/.ecryptfs/d/.Private"))
    >>> twice(home, [Path("/home/d")]), twice(home, [Path("/home/.ecryptfs")])
    (None, None)
    >>> twice(home, [Path("/home/d/letters"), Path("/home/.ecryptfs")])
    PosixPath('/home/.ecryptfs/d/.Private')
    >>> twice(home, [Path("/home")])
    PosixPath('/home/d')
    """
    if not any(_holds(source, home.lower) for source in sources):
        return None
    if any(_holds(home.upper, source) for source in sources):
        return home.lower
    return home.upper if any(_holds(source, home.upper) for source in sources) else None


def forms(home: OwnHome, sources: Sequence[Path]) -> str | None:
    """What is to be said of the form that these sources, those of all jobs, hold; None: nothing."""
    if (out := twice(home, sources)) is not None:
        return f"the sources hold this home in plain and encrypted: {safe(str(out))} is left out"
    if not any(_holds(source, form) or _holds(form, source) for source in sources for form in home.forms):
        return f"no job backs up the encrypted home, in neither of its forms: {home.upper}, {home.lower}"
    return None


def unopenable(home: OwnHome, sources: Sequence[Path]) -> str | None:
    """What is to be said where the encrypted form is backed up, and what opens it is not; None: nothing."""
    if not any(_holds(source, home.lower) for source in sources):
        return None
    if any(_holds(source, home.keys) for source in sources):
        return None
    return f"the encrypted home is backed up without what opens it, {safe(str(home.keys))}"


def _holds(outer: Path, inner: Path) -> bool:
    return inner.is_relative_to(outer)
