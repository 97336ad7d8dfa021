"""The files that are installed: the texts in `files/`, with the true path of the program."""

import os
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

SERVICE = "usbbackup.service"
UNITS = (SERVICE, "usbbackup-start@.service", "usbbackup-ended@.target")
AUTOSTART = "usbbackup.desktop"
CATALOG = "usbbackup.catalog"
MARK = "# Written by `usbbackup setup`; `usbbackup uninstall` takes it away.\n"

# Where a distribution's package puts the units, for every user of the machine.
PACKAGED = (Path("/usr/lib/systemd/user"), Path("/usr/bin/usbbackup"))

_SPECIAL = {"\\": "\\\\", '"': '\\"', "%": "%%"}

Program = tuple[str, ...]


def program(argv0: str, executable: str, env: Mapping[str, str]) -> Program:
    """The command line that runs this very installation again, from wherever it is called.

    A link in `~/.local/bin` stays a link: pipx keeps it across upgrades.

    >>> program("/home/anna/.local/bin/usbbackup", "/usr/bin/python3", {})
    ('/home/anna/.local/bin/usbbackup',)
    >>> program("/srv/venv/lib/python3/site-packages/usbbackup/__main__.py", "/srv/venv/bin/python", {})
    ('/srv/venv/bin/python', '-m', 'usbbackup')
    """
    if Path(argv0).suffix == ".py":
        return (executable, "-m", "usbbackup")
    found = argv0 if os.sep in argv0 else shutil.which(argv0, path=env.get("PATH")) or argv0
    return (os.path.abspath(found),)  # noqa: PTH100 - Path.absolute() keeps `..`


def packaged(program: Program, place: tuple[Path, Path] = PACKAGED) -> bool:
    """Does this program belong to a package that has brought the units itself?"""
    units, binary = place
    return program == (str(binary),) and all((units / name).exists() for name in UNITS)


def unit(name: str, program: Program) -> str:
    """The text of a unit file."""
    # The program itself is taken as it is; in its arguments `$` begins a variable (systemd.service(5)).
    command = " ".join(map(word, program))
    arguments = command.replace("$", "$$")
    return MARK + text(name).replace("@ARGUMENTS@", arguments).replace("@PROGRAM@", command)


def autostart(script: str) -> str:
    """The text of the XDG autostart entry that runs a shell script without `"`, `$`, `%` and backslashes."""
    return MARK + text(AUTOSTART).replace("@SCRIPT@", f'"{script}"')


def path(name: str) -> Path:
    """Where a file of `files/` is installed."""
    return Path(str(resources.files("usbbackup.install").joinpath("files", name)))


def text(name: str) -> str:
    """A text as it stands in `files/`."""
    return resources.files("usbbackup.install").joinpath("files", name).read_text(encoding="utf-8")


def word(argument: str) -> str:
    r"""One word of a command line in a unit file (systemd.service(5), COMMAND LINES).

    >>> word("/opt/my tools/usbbackup"), word("/srv/50%/usbbackup")
    ('"/opt/my tools/usbbackup"', '/srv/50%%/usbbackup')
    """
    escaped = "".join(_SPECIAL.get(char, char) for char in argument)
    return f'"{escaped}"' if set(argument) & set(" \t'\"\\;") else escaped
