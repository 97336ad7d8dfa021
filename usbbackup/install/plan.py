"""What is to be done to set up the service and to take it away again: from a look, a list of steps."""

from collections.abc import Iterator
from pathlib import Path

from usbbackup.install import login, units
from usbbackup.install.place import Place, Service
from usbbackup.install.steps import Link, Remove, Step, Tell, Write
from usbbackup.install.units import SERVICE
from usbbackup.text import safe

SYSTEMCTL = ("systemctl", "--user")
RELOAD = Tell((*SYSTEMCTL, "reload", SERVICE))


def setting_up(place: Place, service: Service, *, start: bool = True) -> list[Step]:
    """Everything from no trace to a running service; nothing where all is as it should be."""
    files = [*unit_files(place), *login_hook(place)]
    services = service_steps(place, service, changed=bool(files), start=start)
    return [*files, *desktop_files(place), *services]


def unit_files(place: Place) -> Iterator[Write]:
    """The units, where no package has brought them."""
    if not place.packaged:
        for name in units.UNITS:
            yield from _written(place.user_units / name, units.unit(name, place.program))


def desktop_files(place: Place) -> Iterator[Write]:
    """What gives notifications their name and icon, and opens `watch`, where no package has brought it."""
    if not place.packaged:
        yield from _written(place.entry, units.entry(place.program))
        yield from _written(place.icon, units.icon())


def login_hook(place: Place) -> Iterator[Write]:
    """For a home that is opened at login: the block in the profile, and an entry for other logins."""
    if place.opened_by is None:
        return
    if (profile := place.profile) is not None:
        before = _read(profile)
        after = login.with_block(before)
        if after != before:
            yield Write(profile, after, before)
    yield from _written(place.autostart, units.autostart(login.START))


def service_steps(place: Place, service: Service, *, changed: bool, start: bool) -> Iterator[Step]:
    """Have the user's service manager read, enable and start it; where none runs, the next one will."""
    if not service.reachable:
        link, to = enabled(place), place.unit_file
        if not link.is_symlink() or link.readlink() != to:
            yield Link(link, to)
        return
    if changed or service.reload_needed or not service.loaded:
        yield Tell((*SYSTEMCTL, "daemon-reload"))
    if not service.enabled:
        yield Tell((*SYSTEMCTL, "--quiet", "enable", SERVICE))
    if start and not service.active:
        yield Tell((*SYSTEMCTL, "reset-failed", SERVICE), needed=False)
        yield Tell((*SYSTEMCTL, "start", SERVICE))


def remarks(place: Place, service: Service) -> Iterator[str]:
    """What the user should know of it."""
    if place.ecryptfs is not None:
        yield place.ecryptfs.explained
        yield (
            f"what opens the encrypted form is {safe(str(place.ecryptfs.keys))}: back it up too, or write "
            "down once, on paper, what this prints: ecryptfs-unwrap-passphrase"
        )
    if not service.reachable:
        yield "no service manager of yours answers here: the service starts at your next login"
    if place.opened_by is None:
        return
    yield f"your home is opened at login ({place.opened_by}): the service starts then"
    if place.profile is None:
        yield (
            f"your login shell {safe(place.shell)} reads no profile that could start it without a desktop; "
            "after such a login run: systemctl --user daemon-reload && systemctl --user start usbbackup"
        )


def taking_away(place: Place, service: Service, *, purge: bool) -> list[Step]:
    """Everything that setting up has left; with `purge` also what was kept since."""
    away = [*_files_away(place), *_blocks_away(place)]
    if service.enabled or enabled(place).is_symlink():
        away.insert(0, _disabled(place, service))
    steps: list[Step] = [*_stopped(service), *away]
    if service.reachable and (away or service.loaded):
        steps.append(Tell((*SYSTEMCTL, "daemon-reload")))
    if place.paths.runtime.exists():
        steps.append(Remove(place.paths.runtime))
    return steps + (list(purging(place)) if purge else [])


def purging(place: Place) -> Iterator[Remove]:
    """Configuration, history, logs, caches and the record of enrolled drives; keys and passphrases stay."""
    paths = place.paths
    for directory in (paths.config, paths.state, paths.cache):
        if directory.exists() and not directory.is_symlink():
            yield Remove(directory, empty=1)
    kept = {path.name for path in secrets_kept(place)}
    for found in sorted(paths.data.iterdir()) if paths.data.is_dir() else ():
        if found.name not in kept:
            yield Remove(found, empty=1)


def secrets_kept(place: Place) -> list[Path]:
    """What opens encrypted backups: it is never taken away unasked, since without it they are lost."""
    found = (place.paths.keys, place.paths.data / "passphrases")
    return [path for path in found if path.is_dir() and any(path.iterdir())]


def _stopped(service: Service) -> Iterator[Step]:
    if service.reachable and (service.active or service.failed or service.loaded):
        yield Tell((*SYSTEMCTL, "stop", SERVICE), needed=service.active)
        yield Tell(
            (*SYSTEMCTL, "stop", "usbbackup-start@*.service", "usbbackup-ended@*.target"), needed=False
        )
        yield Tell((*SYSTEMCTL, "reset-failed", "usbbackup*"), needed=False)


def enabled(place: Place) -> Path:
    """The link that makes the service start with the user's manager."""
    return place.user_units / "default.target.wants" / SERVICE


def _disabled(place: Place, service: Service) -> Step:
    if service.reachable and service.loaded:
        return Tell((*SYSTEMCTL, "--quiet", "disable", SERVICE))
    return Remove(enabled(place), empty=3)


def _files_away(place: Place) -> Iterator[Step]:
    for name in units.UNITS:
        path = place.user_units / name
        if _ours(_read(path)):
            yield Remove(path, empty=2)
    for path, empty in ((place.autostart, 1), (place.entry, 1), (place.icon, 4)):
        if _ours(_read(path)):
            yield Remove(path, empty)


def _blocks_away(place: Place) -> Iterator[Step]:
    for profile in login.profiles(place.paths.home):
        before = _read(profile)
        if before is None or (after := login.without_block(before)) == before:
            continue
        yield Remove(profile) if after is None else Write(profile, after, before)


def _written(path: Path, text: str) -> Iterator[Write]:
    before, content = _read(path), text.encode()
    if before != content:
        yield Write(path, content, before, ours=before is None or _ours(before))


def _ours(content: bytes | None) -> bool:
    return content is not None and units.ours(content)


def _read(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
