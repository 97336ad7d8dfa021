"""What the doctor looks at, one function for each thing."""

import os
import re
import resource
import shlex
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from usbbackup import __version__, encrypted_home
from usbbackup.backup.borg.commands import is_supported
from usbbackup.config import Config, JobConfig
from usbbackup.ecryptfs.before import forms, unopenable
from usbbackup.errors import ConfigError
from usbbackup.install import login, units
from usbbackup.install.doctor import Check, Facts, Finding, State
from usbbackup.install.tools import properties
from usbbackup.sandbox import landlock_abi
from usbbackup.text import human_age, human_bytes, safe

STALE = 14 * 86400.0  # seconds; where the configuration says nothing else
_FEW_FILES = 1024
_LITTLE_SPACE = 100_000_000  # bytes at home: history, logs and borg's cache have to go somewhere
_CATALOGS = (Path("/usr/local/lib/systemd/catalog"), Path("/usr/lib/systemd/catalog"))
_LEAST_ABI = 2  # of Landlock: before that it cannot allow renames between directories


def configuration(facts: Facts) -> Iterator[Finding]:
    """Is there one, and is it right?"""
    why = "without it nothing is backed up"
    match facts.config:
        case ConfigError(message=message):
            missing = not facts.place.paths.config_file.exists()
            mend = "usbbackup setup" if missing else "usbbackup check-config"
            yield Finding("configuration", "wrong", message, why, mend)
        case Config(jobs=jobs):
            names = ", ".join(job.name for job in jobs)
            yield Finding("configuration", "ok", f"right, with the jobs {names}", why)


def programs(facts: Facts) -> Iterator[Finding]:
    """rsync, borg and setpriv: there, and of a version that we know?"""
    yield _program(facts, "rsync", "rsync", r"version (\S+)")
    found = _program(facts, "borg", "borgbackup", r"borg (\S+)")
    version = re.search(r"\d.*", found.what) if found.state == "ok" else None
    if version and not is_supported(f"borg {version[0]}"):
        why = "versions before 1.2, and 2, have another command line and other repositories"
        yield Finding("borg", _needed(facts, "borg"), found.what, why, "sudo apt install borgbackup")
    else:
        yield found
    answered = facts.tools.ask("setpriv", "--version")
    state: State = "ok" if answered.code == 0 else "wrong"
    what = answered.out.strip() or "setpriv is not installed"
    yield Finding(
        "setpriv",
        state,
        what,
        "every engine is started through it",
        _or_none(state, "sudo apt install util-linux"),
    )


def _program(facts: Facts, name: str, package: str, version: str) -> Finding:
    answered = facts.tools.ask(name, "--version")
    found = re.search(version, answered.out)
    why = f"it makes the backups of {name} jobs"
    if answered.code == 0 and found:
        return Finding(name, "ok", f"{name} {found[1]}", why)
    return Finding(name, _needed(facts, name), f"{name} is not installed", why, f"sudo apt install {package}")


def _needed(facts: Facts, engine: str) -> State:
    return "wrong" if engine in facts.engines else "note"


def _or_none(state: State, command: str) -> str | None:
    return None if state == "ok" else command


def service(facts: Facts) -> Iterator[Finding]:
    """Are the units there, with a program that exists; enabled, and running?"""
    seen, why = facts.service, "it is what notices the drive"
    if not seen.reachable:
        what = "your service manager does not answer"
        yield Finding("service", "wrong", what, why, "log in again, or: sudo loginctl enable-linger $USER")
    elif not seen.loaded:
        yield Finding("service", "wrong", "usbbackup.service is not installed", why, "usbbackup setup")
    elif lost := _lost_program(seen.fragment):
        what = f"{safe(seen.fragment)} starts {safe(lost)}, which is not there"
        yield Finding("service", "wrong", what, why, "usbbackup setup")
    elif seen.failed:
        what = "usbbackup.service has failed"
        yield Finding("service", "wrong", what, why, "journalctl --user -u usbbackup; then: usbbackup setup")
    elif not seen.active:
        yield Finding(
            "service", "wrong", "usbbackup.service does not run", why, "systemctl --user start usbbackup"
        )
    else:
        yield Finding("service", "ok", "usbbackup.service runs", why)
    if seen.reachable and seen.loaded:
        state: State = "ok" if seen.enabled else "wrong"
        what = f"it is {'' if seen.enabled else 'not '}enabled"
        why = "so it starts when you log in"
        yield Finding("enabled", state, what, why, _or_none(state, "systemctl --user enable usbbackup"))


def version(facts: Facts) -> Iterator[Finding]:
    """Is the agent that runs the one that is installed?"""
    running = facts.status["agent"]["version"]
    why = "after an update the agent goes on as it was until it is started anew"
    if running not in (None, __version__):
        what = f"the agent is version {safe(running)}, installed is {__version__}"
        yield Finding("version", "wrong", what, why, "systemctl --user restart usbbackup")
    elif running:
        yield Finding("version", "ok", f"the agent is the version that is installed, {__version__}", why)


def _lost_program(fragment: str) -> str | None:
    """The program that a unit file names, where it does not exist."""
    try:
        found = re.search(
            r'^ExecStart="?(/[^"\n]*?)"? (-m usbbackup )?daemon$', Path(fragment).read_text(), re.MULTILINE
        )
    except OSError:
        return None
    if found is None or "%" in found[1].replace("%%", ""):  # a specifier, in a unit of one's own
        return None
    name = found[1].replace("%%", "%")
    return None if Path(name).exists() else name


def at_login(facts: Facts) -> Iterator[Finding]:
    """Is the service manager up before an encrypted home is open, and is the hook there that helps?"""
    place = facts.place
    why = "your service manager starts before your home is open, and knows nothing of what is in it"
    if place.opened_by is None:
        yield Finding("home", "ok", "the home directory is always open", "the service is found at login")
        return
    here = place.profile is not None and _has_block(place.profile)
    what = f"{place.opened_by} opens the home at login; the login hook is "
    if here or (place.profile is None and place.autostart.exists()):
        yield Finding("home", "ok", f"{what}there", why)
    else:
        yield Finding("home", "wrong", f"{what}not there", why, "usbbackup setup")


def _has_block(profile: Path) -> bool:
    try:
        text = profile.read_bytes()
    except OSError:
        return False
    return login.with_block(text) == text


def linger(facts: Facts) -> Iterator[Finding]:
    """Does the service go on after logging out?"""
    answered = facts.tools.ask("loginctl", "show-user", "--property=Linger", str(os.getuid()))
    on = (
        properties(answered).get("Linger") == "yes"
        or Path(f"/var/lib/systemd/linger/{_name(facts)}").is_file()
    )
    match on, encrypted_home.of_homed(facts.place.paths.home):
        case (
            True,
            True,
        ):  # seen with systemd 257: its manager keeps `/` for a home
            what = "your services start at boot, before systemd-homed has opened your home"
            why = "so nothing in it is known to them, also after you have logged in"
            yield Finding("linger", "wrong", what, why, "sudo loginctl disable-linger $USER")
        case True, False:
            what = "your services run from boot on"
            yield Finding("linger", "ok", what, "drives are noticed without a login")
        case False, True:
            what = "your services run while you are logged in"
            yield Finding("linger", "ok", what, "systemd-homed opens your home before they start")
        case _:
            what = "your services end when you log out"
            why = "on a server nothing is backed up then; on your own desktop that is how it should be"
            yield Finding("linger", "note", what, why, "sudo loginctl enable-linger $USER")


def _name(facts: Facts) -> str:
    return facts.env.get("USER", "")


def landlock(facts: Facts) -> Iterator[Finding]:
    """Can the kernel hold rsync and borg to the drive?"""
    abi = landlock_abi()
    why = "it holds rsync and borg to the drive, whatever happens to its mount point"
    if abi >= _LEAST_ABI:
        yield Finding("landlock", "ok", f"the kernel has Landlock (version {abi})", why)
    else:
        yield Finding("landlock", "note", "the kernel has no Landlock that could be used (Linux 5.19)", why)


def journal(facts: Facts) -> Iterator[Finding]:
    """Is the user's journal kept, and are its explanations installed?"""
    logs = safe(str(facts.place.paths.logs))
    if Path("/var/log/journal").is_dir():
        yield Finding("journal", "ok", "the journal is kept", "what happened can be read after a reboot")
    else:
        why = f"what happened is lost at reboot, but for the log of each run in {logs}"
        mend = "sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald"
        yield Finding("journal", "note", "the journal is not kept", why, mend)
    why = "`journalctl -x` then explains each entry"
    if any((place / units.CATALOG).exists() for place in _CATALOGS):
        yield Finding("catalogue", "ok", "the explanations of the journal are installed", why)
    else:
        target, source = _CATALOGS[0] / units.CATALOG, units.path(units.CATALOG)
        mend = f"sudo install -Dm644 {shlex.quote(str(source))} {target} && sudo journalctl --update-catalog"
        yield Finding("catalogue", "note", "the explanations of the journal are not installed", why, mend)


def bus(facts: Facts) -> Iterator[Finding]:
    """A session bus, and the library that talks to it."""
    socket = Path(facts.env.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"), "bus")
    why = "notifications and mounting through UDisks2 need it; backups do not"
    if not socket.exists():
        yield Finding("bus", "note", "there is no session bus", why, "sudo apt install dbus-user-session")
    elif find_spec("dbus_fast") is None:
        yield Finding("bus", "note", "dbus-fast is not installed", why, "pipx inject usbbackup dbus-fast")
    else:
        yield Finding("bus", "ok", "there is a session bus", why)


def polkit(facts: Facts) -> Iterator[Finding]:
    """May this user mount drives without being asked?"""
    why = "a drive that nobody mounts is mounted through UDisks2, where that is allowed"
    action = ("--action-id", "org.freedesktop.udisks2.filesystem-mount")
    answered = facts.tools.ask("pkcheck", *action, "--process", str(os.getpid()))
    if os.geteuid() == 0:
        yield Finding("polkit", "ok", "root may mount", why)
    elif answered.code == 0:
        yield Finding("polkit", "ok", "you may mount drives without being asked", why)
    elif answered.code in (126, 127) or "not registered" in answered.complaint:
        yield Finding("polkit", "note", "there is no UDisks2 here", why, "usbbackup setup --server")
    else:
        yield Finding(
            "polkit", "note", "you may not mount drives without being asked", why, "usbbackup setup --server"
        )


def limits(facts: Facts) -> Iterator[Finding]:
    """Open files, and room at home."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    why = "borg and rsync open many files at once"
    state: State = "ok" if soft >= _FEW_FILES or soft == resource.RLIM_INFINITY else "wrong"
    yield Finding(
        "open files", state, f"at most {soft} open files", why, _or_none(state, f"ulimit -n {_FEW_FILES}")
    )
    there = next(
        path for path in (facts.place.paths.state, *facts.place.paths.state.parents) if path.exists()
    )
    found = os.statvfs(there)
    free = found.f_bavail * found.f_frsize
    state = "ok" if free >= _LITTLE_SPACE else "wrong"
    what = f"{human_bytes(free)} free at {safe(str(there))}"
    yield Finding(
        "room", state, what, "history, logs and borg's cache are kept there", _or_none(state, "df -h ~")
    )


def drives(facts: Facts) -> Iterator[Finding]:
    """Each drive: ready, or why not."""
    for drive in facts.status["drives"]:
        name = f"'{drive['label'] or drive['name']}'"
        reason = drive["reason"] or ""
        state: State = "wrong" if drive["state"] in ("waiting", "refused") else "ok"
        if drive["state"] == "absent" and not drive["enrolled"]:
            state = "note"
        yield Finding(
            "drive", state, safe(f"{name} is {drive['state']}. {reason}".strip()), "backups go there"
        )


def keys(facts: Facts) -> Iterator[Finding]:
    """Is the key of each repository exported?"""
    from usbbackup.drives.records import Records

    if not isinstance(facts.config, Config):
        return
    borg = {job.name for job in facts.config.jobs if job.engine == "borg" and job.encryption != "none"}
    why = "a damaged repository can only be read with a copy of its key, and always needs the passphrase"
    for record in Records(facts.place.paths.drives_file).read().values():
        for job in sorted(borg & set(record.repositories)):
            key = facts.place.paths.keys / f"{record.uuid.replace('/', '_')}-{job}.key"
            where = f"the key of job {job} on '{safe(record.label)}'"
            if key.exists():
                yield Finding("key", "ok", f"{where} is exported: {safe(str(key))}", why)
            else:
                mend = f"borg key export REPOSITORY {safe(str(key))}"
                yield Finding("key", "wrong", f"{where} is exported nowhere", why, mend)


def backups(facts: Facts) -> Iterator[Finding]:
    """The last good backup of each job, on any drive, and its age."""
    for trouble in facts.troubles:
        yield Finding(
            "history", "wrong", safe(trouble), "what was backed up is not known", "usbbackup status"
        )
    config = facts.config
    for job in facts.status["jobs"]:
        times = [drive["last_success"] for drive in job["drives"] if drive["last_success"]]
        yield _age(job["name"], max(map(_seconds, times), default=None), config, facts.now)


def _age(job: str, last: float | None, config: Config | ConfigError, now: float) -> Finding:
    stale = (config.notify.stale_after if isinstance(config, Config) else None) or STALE
    why, mend = "only a backup that was made can be restored", f"usbbackup why {job}"
    if last is None:
        return Finding("backup", "note", f"job {job} has no good backup yet", why, mend)
    state: State = "ok" if now - last <= stale else "wrong"
    what = f"the last good backup of job {job} was made {human_age(now - last)}"
    return Finding("backup", state, what, why, _or_none(state, mend))


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()


def wrapped_passphrase(facts: Facts) -> Iterator[Finding]:
    """Of an eCryptfs home: is what opens it on any backup?"""
    if facts.place.opened_by != "eCryptfs" or not isinstance(facts.config, Config):
        return
    secret = Path(os.path.realpath(facts.place.paths.home / ".ecryptfs/wrapped-passphrase"))
    why = "without it, or the passphrase in it, the encrypted home itself cannot be opened elsewhere"
    if any(_covers(job, secret) for job in facts.config.jobs):
        yield Finding("ecryptfs", "ok", f"{safe(str(secret))} is backed up", why)
    else:
        what = f"{safe(str(secret))} is on no backup"
        mend = "write down what this prints: ecryptfs-unwrap-passphrase"
        yield Finding("ecryptfs", "note", what, why, mend)


def encrypted_forms(facts: Facts) -> Iterator[Finding]:
    """Of an eCryptfs home: is one form of it backed up, only one, and one that can be opened?"""
    home = facts.place.ecryptfs
    if home is None or not isinstance(facts.config, Config):
        return
    sources = [Path(os.path.realpath(source)) for job in facts.config.jobs for source in job.sources]
    if (said := forms(home, sources)) is not None:
        yield Finding("ecryptfs-form", "note", said, home.explained)
    if (said := unopenable(home, sources)) is not None:
        why = "without it the login passphrase is of no use, and only the mount passphrase helps"
        yield Finding("ecryptfs-key", "wrong", said, why, "ecryptfs-unwrap-passphrase")


def _covers(job: JobConfig, path: Path) -> bool:
    return any(path.is_relative_to(os.path.realpath(source)) for source in job.sources)


CHECKS: tuple[Check, ...] = (
    configuration,
    programs,
    service,
    version,
    at_login,
    linger,
    drives,
    backups,
    keys,
    wrapped_passphrase,
    encrypted_forms,
    landlock,
    journal,
    bus,
    polkit,
    limits,
)
