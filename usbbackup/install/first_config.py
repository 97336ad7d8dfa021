"""The first configuration: from a few answers, a commented `config.yaml` that the loader takes."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usbbackup.config import load
from usbbackup.config_keys import PRESETS
from usbbackup.errors import ConfigError, UsageError

ENGINES = ("rsync", "borg", "command")
DEFAULT_PRESETS = ("caches", "trash")


@dataclass(frozen=True)
class Wish:
    """What the user wants to be backed up, where to, and how. Paths are as they are to stand in the file."""

    engine: str = "rsync"
    job: str = "home"
    label: str | None = "backup"
    uuid: str | None = None
    any_bus: bool = False
    trust: str = "enrolled"
    sources: tuple[str, ...] = ("~/",)
    exclude: tuple[str, ...] = ()
    presets: tuple[str, ...] = DEFAULT_PRESETS
    every: str | None = None
    command: tuple[str, ...] = ()
    passcommand: tuple[str, ...] = ()


def written(wish: Wish) -> str:
    """The whole file."""
    return "\n".join([*_HEAD, *_drive(wish), "", *_job(wish), ""])


def checked(content: str, home: Path) -> bytes:
    """The file as it is to be written. Raises UsageError where the loader would not take it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        try:
            load(Path(file.name), home)
        except ConfigError as error:
            told = re.sub(rf"{re.escape(file.name)}:\d+:\d+: ", "", error.message)
            raise UsageError(told, "nothing was written") from None
    return content.encode()


def from_home(path: Path, home: Path) -> str:
    """A path as a person would write it.

    >>> from_home(Path("/home/anna/Documents"), Path("/home/anna"))
    '~/Documents'
    """
    return f"~/{path.relative_to(home)}".removesuffix(".") if path.is_relative_to(home) else str(path)


_HEAD = (
    "# What usbbackup does when a drive is plugged in. Check it: usbbackup check-config",
    "# Hand it to the running agent: usbbackup reload. Every key: usbbackup check-config --schema",
)


def _drive(wish: Wish) -> list[str]:
    names = [f"uuid: {text(wish.uuid)}"] if wish.uuid else [f"label: {text(wish.label or 'backup')}"]
    named = wish.label or wish.uuid or "backup"
    trust = {
        "enrolled": "nothing is written to a drive before: usbbackup drives enrol",
        "label": "the label is enough: whoever can label a stick can take your files away on it",
    }
    return [
        "",
        "drives:",
        f"  - name: {text(named)}",
        f"    {names[0]}  # of the file system, as `lsblk -f` shows it",
        *(["    bus: any  # also drives that are not on USB"] if wish.any_bus else []),
        f"    trust: {wish.trust}  # {trust[wish.trust]}",
    ]


def _job(wish: Wish) -> list[str]:
    lines = ["jobs:", f"  - name: {text(wish.job)}", f"    engine: {wish.engine}"]
    if wish.engine == "command":
        lines += [
            f"    command: {flow(wish.command)}  # runs in the top directory of the mounted drive",
            "    # It has USBBACKUP_MOUNT, _LABEL, _UUID, _DEVNODE, _JOB and _RUN in its environment, and",
            '    # exits with 0 when all is well, with 75 for "not now", with anything else when it failed.',
        ]
    else:
        lines += [
            f"    sources: {flow(wish.sources)}",
            f"    exclude: {flow(wish.exclude)}  # patterns as in .gitignore",
            f"    exclude_presets: {flow(wish.presets)}  # of {', '.join(PRESETS)}",
        ]
    if wish.every:
        lines.append(f"    every: {wish.every}")
    else:
        lines.append("    # every: 1d  # left out: once each time the drive is plugged in")
    if wish.engine == "borg":
        lines += [
            "    encryption: repokey-blake2",
            *(
                [f"    passcommand: {flow(wish.passcommand)}  # prints the passphrase"]
                if wish.passcommand
                else []
            ),
            "    compression: zstd,3",
        ]
    return lines


def flow(words: Sequence[str]) -> str:
    """A YAML list on one line.

    >>> flow(["~/", "*.iso", "22:30"])
    '[~/, "*.iso", "22:30"]'
    """
    return "[" + ", ".join(map(text, words)) + "]"


def text(word: str) -> str:
    """A YAML scalar that every reader takes for this text, in quotes where needed."""
    plain = re.fullmatch(r"(~/|/|[A-Za-z])[\w./-]*", word, re.ASCII)
    if plain and word.casefold() not in ("y", "n", "yes", "no", "on", "off", "true", "false", "null"):
        return word
    return '"' + "".join(map(_quoted, word)) + '"'


def _quoted(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"
