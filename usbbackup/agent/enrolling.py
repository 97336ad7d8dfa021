"""The user's word about a drive: which one is meant to be enrolled or forgotten, and what came of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from usbbackup.agent import desk
from usbbackup.agent.desk import Answer, Picture, Record
from usbbackup.agent.world import World
from usbbackup.backup.fitness import told
from usbbackup.config import DriveConfig
from usbbackup.drives import enrolment
from usbbackup.drives.layout import RootOwnedError
from usbbackup.drives.pin import Pin
from usbbackup.drives.ready import Absent, Verdict
from usbbackup.drives.resolve import resolve
from usbbackup.drives.sighting import Sighting
from usbbackup.drives.survey import DriveView, strangers, view
from usbbackup.errors import NoSuchDriveError, NotNowError, UsageError, UsbbackupError
from usbbackup.text import safe


@dataclass(frozen=True)
class Enrolment:
    """What came of a wish to enrol."""

    drive: Sighting  # as it was
    needed: RootOwnedError | None = None  # what root has to do before
    limits: Sequence[str] = ()  # what its file system cannot keep, a sentence each


def enrol(world: World, sightings: Sequence[Sighting], word: str | None, *, read_only: bool) -> Enrolment:
    """Enrol the drive that is meant; without a word the only unknown one that is plugged in. It may block."""
    sighting = _named(world, sightings, word) if word else _only_unknown(world, sightings)
    verdict = sighting.verdict
    if verdict.device is None or verdict.row is None:
        raise desk.not_ready([sighting])
    try:
        record = enrolment.enrol(
            verdict.device,
            verdict.row,
            world.host,
            world.records,
            name=verdict.drive.name,
            now=world.clock.now(),
            read_only=read_only,
        )
    except RootOwnedError as error:
        return Enrolment(sighting, error)
    if read_only:
        return Enrolment(sighting)
    with Pin(replace(verdict, record=record), world.mounts, world.host) as pin:
        return Enrolment(sighting, limits=told(pin.fd, pin.facts.fs_type))


def enrolled(after: Picture, enrolment: Enrolment) -> Answer:
    """What came of a wish to enrol: the drive as it is now, or the one command that root must run before."""
    needed = enrolment.needed
    return {
        "drive": desk.drive(after, enrolment.drive),
        "limits": list(enrolment.limits),
        "command": list(needed.command) if needed and needed.command else None,
        "message": needed and needed.message,
        "hint": needed and needed.hint,
    }


def forget(world: World, sightings: Sequence[Sighting], word: str) -> Sighting:
    """Take the enrolment of a drive back, plugged in or not; nothing on it changes."""
    sighting = desk.sighting_named([*sightings, *_orphans(world, sightings)], word)
    if sighting.verdict.record is None:
        raise UsageError(f"the drive '{safe(sighting.name)}' is not enrolled")
    enrolment.forget(sighting.verdict.record.uuid, world.records)
    return sighting


def forgotten(after: Picture, sighting: Sighting) -> Record:
    """The drive as it is now."""
    return desk.drive(after, sighting) | {"enrolled": False}


def _orphans(world: World, sightings: Sequence[Sighting]) -> list[Sighting]:
    """Enrolled drives that the configuration does not mean any more."""
    seen = {sighting.uuid for sighting in sightings}
    decision = Absent("The configuration does not mean this drive.")
    return [
        Sighting(
            Verdict(DriveConfig(record.name, uuid=record.uuid), record.uuid, decision, record=record),
            decision,
        )
        for record in world.records.read().values()
        if record.uuid not in seen
    ]


def _named(world: World, sightings: Sequence[Sighting], word: str) -> Sighting:
    try:
        return desk.sighting_named(sightings, word)
    except NoSuchDriveError:
        try:
            meant = resolve(word, _strangers(world))
        except UsageError:
            pass
        else:
            raise UsageError(*_not_meant([meant])) from None
        raise


def _only_unknown(world: World, sightings: Sequence[Sighting]) -> Sighting:
    unknown = [s for s in sightings if s.verdict.record is None and s.verdict.row is not None]
    match unknown:
        case [one]:
            return one
        case []:
            raise _nothing_to_enrol(world, sightings)
        case several:
            names = ", ".join(f"'{safe(s.name)}' ({s.uuid})" for s in several)
            raise UsageError(
                f"several unknown drives are plugged in: {names}", "say which: drives enrol UUID"
            )


def _nothing_to_enrol(world: World, sightings: Sequence[Sighting]) -> UsbbackupError:
    here = [s for s in sightings if s.verdict.device is not None]
    if unknown := [s for s in here if s.verdict.record is None]:
        return desk.not_ready(unknown)
    if here:
        names = " and ".join(f"'{safe(s.name)}'" for s in here)
        are = "is" if len(here) == 1 else "are"
        return NotNowError(f"no unknown drive is plugged in; {names} {are} enrolled already")
    if others := _strangers(world):
        return NotNowError(*_not_meant(others))
    return desk.not_ready(sightings)


def _strangers(world: World) -> list[DriveView]:
    """What else is plugged in."""
    found = strangers(world.udev, world.mounts, world.records.read(), world.drive_entries, world.lookups)
    return [view(verdict, desk.nothing_known) for verdict in found]


def _not_meant(drives: Sequence[DriveView]) -> tuple[str, str]:
    """What is said of drives that no entry of the configuration fits, and how to write one."""
    names = " and ".join(f"'{safe(drive.name)}' ({safe(str(drive.devnode))})" for drive in drives[:10])
    entry = json.dumps({"name": drives[0].name, "uuid": drives[0].uuid})
    return (
        f"{names} {'is' if len(drives) == 1 else 'are'} plugged in, but the configuration does not mean that",
        f"To use it, write under `drives:` in the configuration, then run `usbbackup reload`: - {entry}",
    )
