"""The files that are installed: the texts in `files/`, with the true path of the program."""

import os
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

SERVICE = "usbbackup.service"
UNITS = (SERVICE, "usbbackup-start@.service", "usbbackup-ended@.target")
AUTOSTART = "usbbackup.desktop"
ENTRY = "io.usbbackup.usbbackup.desktop"  # notifications name it, and so have the program's name and icon
ICON = "io.usbbackup.usbbackup.svg"
CATALOG = "usbbackup.catalog"
_MARK = "Written by `usbbackup setup`; `usbbackup uninstall` takes it away."
MARK, MARK_XML = f"# {_MARK}\n", f"<!-- {_MARK} -->\n"

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


def entry(program: Program) -> str:
    """The text of the desktop entry that opens `usbbackup watch`."""
    called = "Exec=" + " ".join(map(_exec_word, program))
    return MARK + text(ENTRY).replace("Exec=usbbackup", called)


def icon() -> str:
    """The picture of the program, as SVG."""
    return MARK_XML + text(ICON)


def ours(content: bytes) -> bool:
    """Was a file written by `usbbackup setup`?"""
    return content.startswith((MARK.encode(), MARK_XML.encode()))


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


def _exec_word(argument: str) -> str:
    """One word of `Exec` (Desktop Entry Specification): quoted as an argument, and that as a string."""
    if set(argument) & set(" \t\n\"'\\><~|&;$*?#()`"):
        argument = '"' + "".join(f"\\{char}" if char in '"`$\\' else char for char in argument) + '"'
    return argument.replace("\\", r"\\").replace("%", "%%")
