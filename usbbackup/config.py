"""The configuration: what a user may write into `config.yaml`, typed, with its defaults."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

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
