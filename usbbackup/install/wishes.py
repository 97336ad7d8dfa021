"""What is to be backed up, where to and how: from options, from answers, else from what most people want."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from usbbackup.config import DriveConfig
from usbbackup.config_keys import PRESETS
from usbbackup.drives.mounts import MountTable
from usbbackup.drives.ready import Lookups, decide, file_systems
from usbbackup.drives.records import Enrolled
from usbbackup.drives.survey import DriveView, view
from usbbackup.drives.udev import Udev
from usbbackup.errors import UsageError
from usbbackup.install.first_config import DEFAULT_PRESETS, Wish, from_home
from usbbackup.text import human_bytes, safe


class Person(Protocol):
    """Somebody to ask; one who is not there takes every default."""

    def ask(self, question: str, default: str) -> str:
        """An answer in words."""
        ...

    def choose(self, question: str, words: Sequence[str], default: str) -> str:
        """One of a few words."""
        ...

    def secret(self, question: str) -> str:
        """An answer that is not shown; empty where there is none."""
        ...

    def agrees(self, question: str, *, default: bool) -> bool:
        """Yes or no."""
        ...

    def say(self, line: str) -> None:
        """Tell something."""
        ...


@dataclass(frozen=True)
class Options:
    """What the command line says; None and empty: not said."""

    engine: str | None = None
    job: str | None = None
    sources: Sequence[Path] = ()
    exclude: Sequence[str] = ()
    command: Path | None = None
    label: str | None = None
    any_bus: bool = False
    trust: str | None = None
    every: str | None = None

    @property
    def said(self) -> bool:
        """Does any of them shape the configuration?"""
        return self != Options()


def wish(
    options: Options,
    drive: DriveView | None,
    here: Sequence[DriveView],
    person: Person,
    home: Path,
    sizes: Mapping[str, int],
) -> Wish:
    """Ask for what the options leave open. `sizes`: bytes that each preset would leave out.

    Raises UsageError for a program that cannot be run.
    """
    if drive is None and options.label is None:
        drive, label = _which_drive(here, person)
    else:
        label = options.label or "backup"
    place = Wish(
        label=label if drive is None else drive.label,
        uuid=None if drive is None else drive.uuid,
        any_bus=options.any_bus,
        trust=options.trust or "enrolled",
    )
    if options.command is not None or options.engine == "command":
        return _script(place, options, person)
    return _files(place, options, person, home, sizes)


def _script(place: Wish, options: Options, person: Person) -> Wish:
    path = options.command or Path(person.ask("Which program of yours is run?", ""))
    if path == Path():
        raise UsageError("no program was named", "say which: --command PATH")
    return Wish(
        engine="command",
        job=options.job or "script",
        label=place.label,
        uuid=place.uuid,
        any_bus=place.any_bus,
        trust=place.trust,
        every=options.every,
        command=(str(runnable(path)),),
    )


def _files(place: Wish, options: Options, person: Person, home: Path, sizes: Mapping[str, int]) -> Wish:
    engine = options.engine or person.choose(
        "What makes the backup: rsync (plain files) or borg (encrypted, deduplicated)?",
        ("rsync", "borg"),
        "rsync",
    )
    sources = tuple(from_home(path.absolute(), home) for path in options.sources)
    asked = sources or tuple(shlex.split(person.ask("What is backed up?", "~/")))
    return Wish(
        engine=engine,
        job=options.job or "home",
        label=place.label,
        uuid=place.uuid,
        any_bus=place.any_bus,
        trust=place.trust,
        sources=asked,
        exclude=tuple(options.exclude),
        presets=DEFAULT_PRESETS if options.said else _presets(person, sizes),
        every=options.every or (None if options.said else _how_often(person)),
    )


def _presets(person: Person, sizes: Mapping[str, int]) -> tuple[str, ...]:
    for name in PRESETS:
        if sizes.get(name):
            person.say(f"  {name}: {human_bytes(sizes[name])}")
    answer = person.ask(f"What of it is left out ({', '.join(PRESETS)})?", " ".join(DEFAULT_PRESETS))
    return tuple(word for word in re.split(r"[\s,]+", answer) if word)


def _how_often(person: Person) -> str | None:
    answer = person.ask("How often, such as 1d or 12h? Or: at every plug", "at every plug")
    return None if answer == "at every plug" else answer


def _which_drive(here: Sequence[DriveView], person: Person) -> tuple[DriveView | None, str]:
    """One that is plugged in, or a label for those that come."""
    for number, drive in enumerate(here, 1):
        person.say(f"  {number}  {described(drive)}")
    fitting = [str(number) for number, drive in enumerate(here, 1) if drive.label == "backup"]
    if not here:
        person.say("No USB drive with a file system is plugged in; that can come later.")
    question = "Which drive holds the backups: its number, or the label of one that comes?"
    answer = person.ask(question, fitting[0] if len(fitting) == 1 and len(here) > 1 else "backup")
    if answer.isdigit() and 1 <= int(answer) <= len(here):
        return here[int(answer) - 1], ""
    return None, answer


def described(drive: DriveView) -> str:
    """A drive that is plugged in, in one line, with what is still in its way."""
    size = f", {human_bytes(drive.bytes_total)}" if drive.bytes_total else ""
    where = f" at {safe(drive.mount_point)}" if drive.mount_point else ", not mounted"
    label = f"'{safe(drive.label)}'" if drive.label else "without a label"
    return f"{label} ({safe(str(drive.devnode))}{size}){where}"


def plugged_in(
    udev: Udev, mounts: MountTable, enrolled: Mapping[str, Enrolled], lookups: Lookups, *, any_bus: bool
) -> list[DriveView]:
    """Every file system on USB, or on any bus, that could hold backups."""
    devices = udev.devices()
    entries = [
        DriveConfig(
            name=group[0].fs_label or str(group[0].fs_uuid),
            uuid=group[0].fs_uuid,
            bus="any" if any_bus else "usb",
        )
        for group in file_systems(devices)
        if any_bus or group[0].usb
    ]
    return [view(verdict) for verdict in decide(devices, mounts.read(), enrolled, entries, lookups)]


def runnable(path: Path) -> Path:
    """The whole path of a program. Raises UsageError where it is none."""
    whole = path.expanduser().absolute()
    if not whole.is_file():
        raise UsageError(f"there is no file {safe(str(whole))}", "give the path of your program")
    if not whole.stat().st_mode & 0o111:
        raise UsageError(
            f"{safe(str(whole))} is not executable", f"run: chmod +x {safe(shlex.quote(str(whole)))}"
        )
    return whole
