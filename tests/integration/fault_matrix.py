"""Which faults are made at which phase of a run, and what it has to come to: for test_faults.py."""

from collections.abc import Iterator
from dataclasses import dataclass

PHASES = {
    "rsync": (
        "probe",
        "stage",
        "clone",
        "compare",
        "transfer 10 %",
        "transfer 50 %",
        "transfer 90 %",
        "sync",
        "publish",
        "prune",
        "prune empty",
        "verify sums",
        "verify drill",
        "record",
    ),
    "borg": (
        "probe",
        "stage",
        "transfer 10 %",
        "transfer 50 %",
        "transfer 90 %",
        "sync",
        "publish",
        "prune delete",
        "prune compact",
        "verify check",
        "verify drill",
        "record",
    ),
    "rsync on btrfs": ("stage", "refresh", "transfer 50 %", "sync", "publish", "prune"),
}
ENGINES = tuple(PHASES)

MOMENTS = {
    "clone": "our processes link what did not change, told by the manifest, and are half way",
    "compare": "the same, with rsync's dry run beside them",
    "refresh": "the copy of the last subvolume is brought up to date",
    "prune": "before the first snapshot is set apart",
    "prune empty": "set apart and forced out, half emptied",
    "prune delete": "borg has begun to write its new segment",
    "prune compact": "borg is about to give back the room",
    "verify sums": "the new files are read for their checksums",
    "verify check": "borg is about to check",
    "verify drill": "files are about to be restored",
    "record": "all is done but the entry in the history",
}

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

_OUR_OWN = frozenset(  # phases in which no other program runs
    ("probe", "stage", "refresh", "sync", "publish", "prune", "prune empty", "verify sums", "record")
)

# What is done while borg compacts and checks.
AFTERWARDS = ("agent killed", "engine killed", "agent stopped", "drive pulled", "I/O errors", "power cut")

# What is done on btrfs; the rest is the same code, and done on ext4.
ON_BTRFS = ("agent killed", "engine killed", "drive pulled", "drive full", "power cut")

# Cells of `make test`; the others need `make faults`.
TELLING = {
    ("agent killed", "transfer 50 %", "rsync"),
    ("agent killed", "transfer 50 %", "borg"),
    ("engine killed", "clone", "rsync"),
    ("engine killed", "transfer 50 %", "rsync"),
    ("drive pulled", "compare", "rsync"),
    ("drive pulled", "publish", "borg"),
    ("drive full", "transfer 10 %", "rsync"),
    ("I/O errors", "sync", "rsync"),
    ("emergency_ro", "publish", "rsync"),
    ("power cut", "sync", "rsync"),
    ("power cut", "prune empty", "rsync"),
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
    def step(self) -> str:
        """The phase that the agent tells of."""
        match self.phase:
            case "clone" | "compare" | "refresh":
                return "transfer"
            case phase:
                return phase.partition(" ")[0]

    @property
    def impossible(self) -> str | None:
        """Why it cannot occur, or is not done; None where it is."""
        match self.fault, self.phase, self.engine:
            case "engine killed", "publish", "borg":
                return None
            case "engine killed", phase, _ if phase in _OUR_OWN:
                return "no program of the engine runs then"
            case "read-only", "transfer 10 %" | "transfer 50 %" | "transfer 90 %" | "prune delete", _:
                return "the engine has a file open for writing: the kernel refuses (EBUSY)"
            case fault, "prune compact" | "verify check" | "verify drill", "borg" if fault not in AFTERWARDS:
                return "left out, for time: the same as at `prune delete`"
        return None

    @property
    def outcome(self) -> str:
        """What the history has to say of the run that was hit."""
        match self.fault, self.phase:
            case "suspend", _:
                return "success"
            case "agent killed" | "power cut" | "drive of before", _:
                return "interrupted"  # also when all was done but the entry in the history
            case "I/O errors", "verify sums":
                return "warning"  # the snapshot is there, and cannot be read
            case _ if self.step in ("prune", "verify", "record"):
                return "success"  # the snapshot is good, whatever becomes of what comes after it
            case "agent stopped", "publish" if self.engine != "borg":
                return "success"  # one rename, which waits for nothing
            case "drive full" | "no inodes", "publish":
                return "success"  # a rename needs no room, and borg gets the reserve for its lock
            case "drive full" | "no inodes", "sync" if self.engine != "borg":
                return "success"  # all of it has its place already
            case "no inodes", "probe" | "stage" | "transfer 10 %" | "transfer 50 %" | "transfer 90 %" if (
                self.engine == "borg"
            ):
                return "success"  # the reserve has names enough
            case "engine killed", "compare":
                return "success"  # rsync begins anew, alone
            case "agent stopped" | "drive pulled", _:
                return "interrupted"
            case _:
                return "failed"


def cells() -> Iterator[Cell]:
    """All, in the order of the page."""
    for engine, phases in PHASES.items():
        for fault in faults(engine):
            for phase in phases:
                yield Cell(fault, phase, engine)


def faults(engine: str) -> tuple[str, ...]:
    """What is done to it."""
    return ON_BTRFS if engine == "rsync on btrfs" else tuple(FAULTS)


POSSIBLE = [cell for cell in cells() if cell.impossible is None]
