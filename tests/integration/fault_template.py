"""Where cells of the fault matrix begin: a home and a drive after one good backup, kept to be copied."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from agent_process import House, until
from fault_matrix import Cell
from people import Code, Person, settled_in
from trees import Entry, noise, plant, portrait

from demo.loop_drive import LoopDrive

MOUNTED = {"ext4": "rw,errors=remount-ro,noinit_itable", "btrfs": "rw"}
MANY = 200  # files that the run to be hit has to copy, one of them large
ROOMY = 800 << 20  # bytes; borg deletes nothing where there is no room for a whole segment, 545 MB
CROWD = (40, 100)  # directories, and files in each, that do not change: so many are linked by processes

Portrait = dict[bytes, Entry]
Attributes = dict[bytes, bytes]


@dataclass(frozen=True)
class Kind:
    """What cells have in common that begin alike."""

    program: str  # rsync or borg
    fs_type: str
    crowded: bool
    size: int | None  # of the drive, in bytes

    @classmethod
    def of(cls, cell: Cell) -> "Kind":
        """The kind of a cell."""
        fs_type = "btrfs" if cell.engine == "rsync on btrfs" else "ext4"
        size = ROOMY if cell.engine == "borg" and cell.step == "prune" else None
        return cls(cell.engine.split()[0], fs_type, cell.phase in ("clone", "compare"), size)


class Template:
    """A home and a drive after one good backup, with new files to copy: every cell begins with them.

    The documents themselves stay where they are, as they would: what a file is known by stays true.
    """

    def __init__(self, ground: Path, kind: Kind) -> None:
        self.ground, self.kind = ground, kind
        self.house = House(
            settled_in(Person(ground / "home", os.geteuid(), os.getegid(), Code())), ground.name[-10:]
        )
        self._first_documents()
        self.house.configure(self.house.job(kind.program))
        drive = LoopDrive(
            ground, name="template", label=self.house.label, fs_type=kind.fs_type, size=kind.size
        )
        try:
            drive.plug()
            drive.mount(options=MOUNTED[kind.fs_type])
            self.house.done("drives", "enrol")
            until(self._is_of_age, "the documents to be of an age at which their times are believed")
            self.house.done("start", "--wait")
            (self.earlier,) = (snapshot["snapshot"] for snapshot in self.house.snapshots())
            drive.unmount()
        finally:
            drive.pull()
            until(lambda: not run("losetup", "-j", drive.image), "the loop device to be free")
        self.first = picture(self.house.documents)
        self._more_documents()
        self.second = picture(self.house.documents)
        self.keep_home(ground / "home.template")

    def _first_documents(self) -> None:
        documents, owner = self.house.documents, self.house.person.owner
        plant(documents, owner)
        os.setxattr(documents / "run.sh", "user.colour", b"green")
        noise(documents / "letters/large", 1_000_000, owner)
        directories, files = CROWD if self.kind.crowded else (0, 0)
        for number in range(directories * files):
            file = documents / f"crowd/{number // files}/{number % files}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def _is_of_age(self) -> bool:
        """What changed within two seconds before a walk is looked at by rsync the next time."""
        newest = max(path.lstat().st_ctime for path in self.house.documents.rglob("*"))
        return time.time() > newest + 3

    def _more_documents(self) -> None:
        documents, owner = self.house.documents, self.house.person.owner
        (documents / "new").mkdir()
        for number in range(MANY):
            noise(self.nth(number), 8_000_000 if number == MANY // 2 - 1 else 6_000, owner)
        (documents / "note 3.txt").write_text("changed\n")
        (documents / "note 4.txt").unlink()
        (documents / "run.sh").chmod(0o700)  # its content is that of before: a link must not take this over
        (documents / "letters/copy.txt").unlink()  # so that there is one link less to its other name

    def nth(self, number: int) -> Path:
        """The new files in the order in which both engines come to them."""
        return self.house.documents / f"new/{number:03}"

    def keep_home(self, at: Path) -> None:
        """Keep all of the home but the documents, as it is now."""
        at.mkdir()
        for path in self._home():
            run("cp", "-a", path, at)

    def restore(self, kept: Path | None = None) -> None:
        """Make all of the home but the documents what it was."""
        for path in self._home():
            run("rm", "-rf", path)
        run("cp", "-a", f"{kept or self.ground / 'home.template'}/.", self.house.person.home)

    def _home(self) -> list[Path]:
        return [path for path in self.house.person.home.iterdir() if path != self.house.documents]


def picture(top: Path) -> tuple[Portrait, Attributes]:
    """All of a tree that a backup has to keep."""
    attributes = {}
    for path in top.rglob("*"):
        names = os.listxattr(path, follow_symlinks=False)
        for name in names:
            key = os.fsencode(path.relative_to(top)) + b"\0" + os.fsencode(name)
            attributes[key] = os.getxattr(path, name, follow_symlinks=False)
    return portrait(top), attributes


def run(*command: str | Path) -> str:
    """Run a command that has to succeed; returns what it printed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()
