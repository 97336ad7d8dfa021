"""The verified place a backup goes to: made by `drives`, used by `backup`, which never meet otherwise."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class DriveFacts:
    """What a job may know of the drive it runs on."""

    name: str
    uuid: str
    label: str
    devnode: str
    mount_point: Path
    fs_type: str


class Target(Protocol):
    """One mounted, enrolled, proven drive, held open for as long as a run needs it."""

    facts: DriveFacts

    @property
    def fd(self) -> int:
        """The open directory `<mount>/usbbackup/<host>-<id>/<user>`; every path of a job starts here."""
        ...

    def still_there(self) -> str | None:
        """None while the held directory is on the same, still mounted drive; else the reason why not."""
        ...
