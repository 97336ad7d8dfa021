"""Who runs the product in a test, and where they find its code."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Code:
    """A Python that can import the package."""

    python: Path = Path(sys.executable)
    path: Path = REPOSITORY  # PYTHONPATH

    def copied_to(self, directory: Path) -> "Code":
        """The same for those who may not enter the checkout: package and libraries under `directory`."""
        for package in ("usbbackup", "demo"):
            shutil.copytree(
                REPOSITORY / package, directory / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in (*_required("usbbackup"), "dbus-fast"):
            for file in importlib.metadata.files(name) or ():
                if file.suffix != ".pyc" and ".." not in file.parts:
                    (directory / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file.locate(), directory / file)
        subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
        return Code(Path(os.path.realpath(sys.executable)), directory)


def _required(name: str) -> Iterator[str]:
    for line in importlib.metadata.requires(name) or ():
        if "extra ==" not in line and (match := re.match(r"[\w.-]+", line)):
            yield match[0]
            yield from _required(match[0])


@dataclass(frozen=True)
class Person:
    """Somebody with a home of their own: whoever runs the tests, or a user without any privilege."""

    home: Path
    uid: int
    gid: int
    code: Code

    @property
    def owner(self) -> tuple[int, int]:
        """What `LoopDrive(owner=...)` takes."""
        return self.uid, self.gid

    def command(self, *command: str | Path) -> tuple[str, ...]:
        """A command line that becomes this person first."""
        drop = ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--")
        return (*(drop if self.uid != os.geteuid() else ()), *map(str, command))

    @property
    def environment(self) -> Mapping[str, str]:
        """As after a login: nothing of the tests' own."""
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.home / ".run"),
            "PYTHONPATH": str(self.code.path),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as this person, in their home."""
        done = subprocess.run(
            self.command(*command),
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def python(self, code: str, *arguments: str | Path) -> str:
        """Run Python code as this person with our package at hand; returns what it printed."""
        return self.run(self.code.python, "-c", code, *arguments).stdout


def settled_in(person: Person) -> Person:
    """The person, whose home is there now."""
    for directory in (person.home, person.home / ".run"):
        directory.mkdir(mode=0o700)
        os.chown(directory, *person.owner)
    return person
