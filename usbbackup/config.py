"""The configuration: what a user may write into `config.yaml`, typed, with its defaults."""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct, convert

from usbbackup.errors import ConfigError
from usbbackup.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usbbackup.strict_yaml import Problem

JobName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Command = Annotated[tuple[str, ...], Meta(min_length=1)]
Count = Annotated[int, Meta(ge=0)]


class Unlock(Struct, frozen=True, forbid_unknown_fields=True):
    """How an enrolled LUKS container is opened."""

    passcommand: Command


class DriveConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `drives`: which file systems are meant, and how they are treated."""

    name: str
    label: str | None = None
    uuid: str | None = None
    trust: Literal["enrolled", "label"] = "enrolled"
    bus: Literal["usb", "any"] = "usb"
    mount: Literal["auto", "wait"] = "auto"
    after: Literal["keep", "unmount", "power-off"] = "keep"
    unlock: Unlock | None = None
    jobs_at_once: Annotated[int, Meta(ge=1)] = 1
    stale_after: float | None = None  # seconds


class Keep(Struct, frozen=True, forbid_unknown_fields=True):
    """Retention; each rule on its own, 0 is off."""

    last: Count = 0
    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0


class Verify(Struct, frozen=True, forbid_unknown_fields=True):
    """How often a snapshot is proven by restoring from it."""

    every: float  # seconds
    sample: Annotated[int, Meta(ge=1)] = 20


class JobConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `jobs`: what to back up, and how."""

    name: JobName
    engine: Literal["borg", "rsync", "command"]
    drives: tuple[str, ...] | None = None  # None: every drive entry
    sources: tuple[str, ...] = ()  # absolute, `~` expanded
    exclude: tuple[str, ...] = ()
    exclude_presets: tuple[str, ...] = ("caches", "trash")
    one_file_system: bool = True
    layout: Literal["snapshots", "mirror"] = "snapshots"
    every: float | None = None  # seconds; None: once per attachment
    keep: Keep | None = None
    verify: Verify | None = None
    encryption: str | None = None
    passcommand: Command | None = None
    compression: str | None = None
    command: Command | None = None
    before: tuple[Command, ...] = ()
    after: tuple[Command, ...] = ()


class Power(Struct, frozen=True, forbid_unknown_fields=True):
    """When not to run."""

    min_battery: Annotated[int, Meta(ge=0, le=100)] | None = None  # per cent


class Notify(Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told."""

    desktop: bool = True
    stale_after: float | None = None  # seconds
    command: Command | None = None
    healthchecks: str | None = None
    prometheus: str | None = None


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole, valid configuration."""

    jobs: tuple[JobConfig, ...]
    drives: tuple[DriveConfig, ...] = (DriveConfig(name="backup", label="backup"),)
    power: Power = Power()
    notify: Notify = Notify()

    def drives_of(self, job: JobConfig) -> tuple[DriveConfig, ...]:
        """The drive entries that a job goes to, in configuration order."""
        return tuple(drive for drive in self.drives if job.drives is None or drive.name in job.drives)


def load(path: Path, home: Path) -> Config:
    """Read a configuration; `home` is what `~/` stands for.

    Raises ConfigError with one line for each thing that is wrong: `config.yaml:12:5: unknown key 'sorces'`.
    """
    # Most commands know a Config without ever reading one; they need no YAML.
    from usbbackup import config_rules, strict_yaml

    shown = safe(str(path))
    try:
        root = strict_yaml.parse(_contents(path, strict_yaml.MAX_BYTES + 1))
    except strict_yaml.BadYaml as error:
        raise _wrong(shown, error.problems) from None
    except FileNotFoundError:
        raise ConfigError(f"{shown}: there is no configuration yet", _how_to_begin(shown)) from None
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {error.strerror}") from error
    values, problems = config_rules.read(root, home)
    if problems:
        raise _wrong(shown, problems)
    return convert(values, Config)


def schema() -> dict[str, Any]:
    """The JSON Schema of the file as users write it."""
    from usbbackup import config_keys

    return config_keys.schema()


def _contents(path: Path, most: int) -> bytes:
    # A FIFO or a terminal in the file's place must not hold the agent up.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(None, "it is not a regular file")
        return file.read(most)


_SHOWN = 20


def _wrong(shown: str, problems: "Sequence[Problem]") -> ConfigError:
    lines = [f"{shown}:{problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"{shown}: and {len(problems) - _SHOWN} more")
    return ConfigError("\n".join(lines))


def _how_to_begin(shown: str) -> str:
    from usbbackup.config_keys import EXAMPLE

    return f"To begin, write this into {shown}:\n{EXAMPLE}"
