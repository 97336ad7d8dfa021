"""`usbbackup setup`: from an installed program to backups that happen by themselves."""

import argparse
import sys
from argparse import Namespace
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usbbackup.cli import drives, start
from usbbackup.cli.asked import SHORT, asked
from usbbackup.cli.talk import Asker, Nobody, talks
from usbbackup.errors import NotNowError, UsageError, UsbbackupError
from usbbackup.text import safe

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal
    from usbbackup.drives.survey import DriveView
    from usbbackup.install.place import Place
    from usbbackup.install.tools import Tools
    from usbbackup.install.wishes import Options, Person

HELP = "enrol the plugged-in drive, write the configuration, install and start the service"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What is asked otherwise."""
    add = parser.add_argument
    add("--engine", choices=("rsync", "borg", "command"), help="what makes the backup; left out: rsync")
    add("--job", metavar="NAME", help="what the job is called; left out: home, or script with --command")
    add("--source", action="append", type=Path, metavar="PATH", help="what to back up; left out: your home")
    add("--exclude", action="append", metavar="PATTERN", help="what to leave out, as in .gitignore")
    add("--command", type=Path, metavar="PATH", dest="script", help="run this program of yours as the backup")
    add(
        "--drive",
        metavar="D",
        help="this plugged-in drive: UUID, label, device or mount point",
    )
    add("--label", metavar="LABEL", help="every drive whose file system has this label; left out: backup")
    add("--any-bus", action="store_true", help="also drives that are not on USB")
    add(
        "--trust",
        choices=("enrolled", "label"),
        help="what a drive needs before it is written to: your word (the default), or only its label",
    )
    add("--every", metavar="TIME", help="such as 1d; left out: once each time the drive is plugged in")
    add(
        "--passphrase-in",
        choices=("keyring", "systemd-creds", "file"),
        help="where borg's passphrase is kept; left out: the first of these that works here",
    )
    add("--key-copy", type=Path, metavar="FILE", help="save a copy of borg's key there, away from the drive")
    add("--yes", action="store_true", help="ask nothing")
    add("--no-start", action="store_true", help="install the service, but neither start it nor back up")
    add("--server", action="store_true", help="only print what a machine without a desktop needs")


def run(args: Namespace, terminal: "Terminal") -> int:
    """Configuration, service, drive, first backup; what is as it should be stays as it is."""
    from usbbackup.install import server, units
    from usbbackup.install.place import Place
    from usbbackup.install.tools import SystemTools

    if args.server:
        terminal.say(server.page(args.label or "backup"))
        return 0
    person = _who(args, terminal)
    place = Place.of(terminal.env, units.program(sys.argv[0], sys.executable, terminal.env))
    tools = SystemTools(terminal.env)
    changed = _configure(args, place, tools, person, terminal)
    _serve(args, place, tools, terminal, reload=changed)
    if args.no_start:
        return 0
    code = _first_backup(args, person, terminal)
    _save_keys(args, place, tools, person, terminal)
    return code


def _who(args: Namespace, terminal: "Terminal") -> "Person":
    """Is this a moment for setting up, and is there somebody to ask?"""
    from usbbackup import encrypted_home

    home = terminal.paths.home
    if kind := encrypted_home.still_encrypted(home):
        raise NotNowError(f"{safe(str(home))} is still encrypted ({kind})", "log in first")
    if args.yes:
        return Nobody()
    if not talks(terminal):
        raise UsageError("there is nobody to ask here", "say --yes, and all that differs by options")
    return Asker(terminal)


# the configuration


def _configure(
    args: Namespace, place: "Place", tools: "Tools", person: "Person", terminal: "Terminal"
) -> bool:
    """Write the configuration; True where it has changed. One that is there stays, if nothing is said."""
    from usbbackup import config
    from usbbackup.install import steps

    file = place.paths.config_file
    before = file.read_bytes() if file.exists() else None
    content = _wanted(args, place, tools, person, terminal, new=before is None)
    if content is None or content == before:
        config.load(file, place.paths.home)
        terminal.say(f"{safe(str(file))} stays as it is")
        return False
    write = steps.Write(file, content, before, ours=False, mode=0o600)
    if before is not None:
        terminal.say(write.difference)
        if not person.agrees("Write this over the configuration?", default=False):
            raise UsbbackupError("nothing was changed")
        names = (file.with_name(f"{file.name}.old{number}") for number in count(1))
        kept = next(path for path in names if not path.exists())
        steps.do(steps.Write(kept, before, mode=0o600), tools)
        terminal.say(f"the one before is kept: {safe(str(kept))}")
    steps.do(write, tools)
    terminal.say(write.told)
    return True


def _wanted(
    args: Namespace, place: "Place", tools: "Tools", person: "Person", terminal: "Terminal", *, new: bool
) -> bytes | None:
    """The text of the configuration that is wanted; None where the one that is there serves."""
    from usbbackup.install import first_config, sizes, wishes

    options = _options(args)
    if not new and not options.said and args.drive is None:
        return None
    here = _plugged_in(terminal, any_bus=args.any_bus)
    drive = _named(args.drive, here) if args.drive else None
    found = {} if args.yes else sizes.of_presets(place.paths.home, terminal.clock)
    wish = wishes.wish(options, drive, here, person, place.paths.home, found)
    if wish.engine == "borg":
        draft = replace(wish, passcommand=("cat",))  # a mistake is found before anything is kept
        first_config.checked(first_config.written(draft), place.paths.home)
        wish = replace(wish, passcommand=_passphrase(args, wish.job, place, tools, person, terminal))
    return first_config.checked(first_config.written(wish), place.paths.home)


def _passphrase(
    args: Namespace, job: str, place: "Place", tools: "Tools", person: "Person", terminal: "Terminal"
) -> tuple[str, ...]:
    """The command that prints it; one that is kept already is used again."""
    from usbbackup.install import passphrase

    keeper = passphrase.known(job, place.paths, tools, terminal.env, args.passphrase_in)
    if keeper is None:
        secret = person.secret("A passphrase for the repository; empty: a new one is made")
        if not secret:
            secret = passphrase.generated()
            if talks(terminal):
                terminal.say(f"The passphrase is: {secret}")
        keeper = passphrase.keep(secret, job, place.paths, tools, terminal.env, args.passphrase_in)
    for line in passphrase.told(keeper):
        terminal.say(line)
    return keeper.passcommand


def _options(args: Namespace) -> "Options":
    from usbbackup.install.wishes import Options

    return Options(
        engine=args.engine,
        job=args.job,
        sources=tuple(args.source or ()),
        exclude=tuple(args.exclude or ()),
        command=args.script,
        label=args.label,
        any_bus=args.any_bus,
        trust=args.trust,
        every=args.every,
    )


def _plugged_in(terminal: "Terminal", *, any_bus: bool) -> "list[DriveView]":
    from usbbackup.drives.mounts import KernelMountTable
    from usbbackup.drives.records import Records
    from usbbackup.drives.survey import KernelLookups
    from usbbackup.drives.udev import KernelUdev
    from usbbackup.install import wishes

    enrolled = Records(terminal.paths.drives_file).read()
    return wishes.plugged_in(KernelUdev(), KernelMountTable(), enrolled, KernelLookups(), any_bus=any_bus)


def _named(word: str, here: "list[DriveView]") -> "DriveView":
    from usbbackup.drives.resolve import resolve

    return resolve(word, here)


# the service


def _serve(args: Namespace, place: "Place", tools: "Tools", terminal: "Terminal", *, reload: bool) -> None:
    """Install, enable and start it; an agent that ran already takes the new configuration."""
    from usbbackup.install import plan, steps
    from usbbackup.install.place import Service

    service = Service.of(tools)
    todo = plan.setting_up(place, service, start=not args.no_start)
    if reload and service.active:
        todo.append(plan.RELOAD)
    for step in todo:
        if isinstance(step, steps.Write) and step.difference:
            terminal.say(step.difference)
        steps.do(step, tools)
        terminal.say(step.told)
    if not todo and service.active:
        terminal.say("the service is installed and runs")
    for remark in plan.remarks(place, service):
        terminal.say(remark)


# the drive and the first backup


def _first_backup(args: Namespace, person: "Person", terminal: "Terminal") -> int:
    """Enrol the drive that is there, and back up to it; without one that can come later."""
    here = [drive for drive in asked(terminal, "Drives", SHORT)["drives"] if drive["devnode"]]
    unknown = [drive for drive in here if not drive["enrolled"] and drive["mount_point"]]
    if len(unknown) > 1 and args.drive is None:
        names = ", ".join(safe(drive["uuid"]) for drive in unknown)
        hint = f"say which: usbbackup drives enrol UUID ({names})"
        raise NotNowError("several unknown drives are plugged in", hint)
    for drive in unknown[:1]:
        _enrol(drive, person, terminal)
    here = [drive for drive in asked(terminal, "Drives", SHORT)["drives"] if drive["devnode"]]
    if not any(drive["state"] in ("ready", "busy") for drive in here):
        for drive in here:
            terminal.say(safe(drive["reason"] or ""))
        terminal.say(
            "then the backup begins by itself" if here else "now plug in a drive: that is the backup"
        )
        return 0
    wish = Namespace(jobs=[], drive=None, wait=True, dry_run=False, accept_source=False, json=False)
    return start.run(wish, terminal)


def _save_keys(
    args: Namespace, place: "Place", tools: "Tools", person: "Person", terminal: "Terminal"
) -> None:
    """Tell of the keys that borg's repositories have, and save a copy of the newest where the user says."""
    from usbbackup.install import steps

    keys = sorted(place.paths.keys.glob("*.key"), key=lambda path: path.stat().st_mtime)
    if not keys:
        return
    for key in keys:
        terminal.say(f"a copy of borg's key: {safe(str(key))} (needed only if the repository is damaged)")
    where = args.key_copy or person.ask("Where is another copy of it saved, away from the drive?", "nowhere")
    if str(where) != "nowhere":
        step = steps.Write(Path(where).expanduser().absolute(), keys[-1].read_bytes(), mode=0o600)
        steps.do(step, tools)
        terminal.say(step.told)


def _enrol(drive: dict[str, Any], person: "Person", terminal: "Terminal") -> None:
    name = f"'{safe(drive['label'] or drive['name'])}' ({safe(drive['uuid'])})"
    if person.agrees(f"May the drive {name} hold your backups?", default=True):
        drives.enrol(terminal, drive["uuid"])
