"""Which faults are made at which phase of a run, and what it has to come to: for test_faults.py."""

from collections.abc import Iterator
from dataclasses import dataclass

ENGINES = ("rsync", "borg")

PHASES = (
    "probe",
    "stage",
    "transfer 10 %",
    "transfer 50 %",
    "transfer 90 %",
    "sync",
    "publish",
    "record",
)

FAULTS = {
    "agent killed": "SIGKILL of the agent",
    "engine killed": "SIGKILL of the engine's whole process group",
    "agent stopped": "SIGTERM of the agent",
    "drive pulled": "`umount -l`, and the loop device detached",
    "drive full": "every block of the drive taken by somebody else",
    "no inodes": "every inode of the drive taken by somebody else",
    "I/O errors": "the file system below the loop device's image shut down: every read and write is EIO",
    "read-only": "`mount -o remount,ro`",
    "emergency_ro": "an error that ext4 met (`trigger_fs_error`, mounted with `errors=remount-ro`)",
    "power cut": "image and home as they are at one instant, everything killed, carried on with the copies",
    "drive of before": "the same, but with the image as it was before the run: an older copy of the drive",
    "suspend": "SIGSTOP of agent and engine, then SIGCONT",
}

# Cells of `make test`; the others need `make faults`.
TELLING = {
    ("agent killed", "transfer 50 %", "rsync"),
    ("agent killed", "transfer 50 %", "borg"),
    ("engine killed", "transfer 50 %", "rsync"),
    ("drive pulled", "transfer 50 %", "rsync"),
    ("drive pulled", "publish", "borg"),
    ("drive full", "transfer 10 %", "rsync"),
    ("I/O errors", "sync", "rsync"),
    ("emergency_ro", "publish", "rsync"),
    ("power cut", "sync", "rsync"),
    ("power cut", "transfer 90 %", "borg"),
}


@dataclass(frozen=True)
class Cell:
    """One fault at one phase of a run of one engine."""

    fault: str
    phase: str
    engine: str

    @property
    def id(self) -> str:
        """For pytest, and for `-k`."""
        return f"{self.engine}-{self.fault}-{self.phase}".replace(" %", "").replace(" ", "_")

    @property
    def telling(self) -> bool:
        """Is it among those of every test run?"""
        return (self.fault, self.phase, self.engine) in TELLING

    @property
    def impossible(self) -> str | None:
        """Why it cannot occur; None where it can."""
        match self.fault, self.phase, self.engine:
            case "engine killed", "publish", "borg":
                return None
            case "engine killed", "probe" | "stage" | "sync" | "publish" | "record", _:
                return "no program of the engine runs then"
            case "read-only", "transfer 10 %" | "transfer 50 %" | "transfer 90 %", _:
                return "the engine has a file open for writing: the kernel refuses (EBUSY)"
        return None

    @property
    def outcome(self) -> str:
        """What the history has to say of the run that was hit."""
        match self.fault, self.phase:
            case "suspend", _:
                return "success"
            case "agent killed" | "power cut" | "drive of before", _:
                return "interrupted"  # also when all was done but the entry in the history
            case _, "record":
                return "success"
            case "agent stopped", "publish" if self.engine == "rsync":
                return "success"  # one rename, which waits for nothing
            case "drive full" | "no inodes", "publish":
                return "success"  # a rename needs no room, and borg gets the reserve for its lock
            case "no inodes", "probe" | "stage" | "transfer 10 %" | "transfer 50 %" | "transfer 90 %" if (
                self.engine == "borg"
            ):
                return "success"  # the reserve has names enough
            case "agent stopped" | "drive pulled", _:
                return "interrupted"
            case _:
                return "failed"


def cells() -> Iterator[Cell]:
    """All, in the order of the page."""
    for engine in ENGINES:
        for fault in FAULTS:
            for phase in PHASES:
                yield Cell(fault, phase, engine)


POSSIBLE = [cell for cell in cells() if cell.impossible is None]
