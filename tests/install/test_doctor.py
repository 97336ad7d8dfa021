"""The doctor, one check after the other: what it says of things that are well, and of things that are not."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from usbbackup import __version__
from usbbackup.config import Config, JobConfig
from usbbackup.drives.records import Enrolled, Records
from usbbackup.ecryptfs.before import OwnHome
from usbbackup.errors import ConfigError
from usbbackup.install import checks, login, units
from usbbackup.install.doctor import Check, Facts, Finding, examine, is_well
from usbbackup.install.place import Place, Service
from usbbackup.install.tools import Answered
from usbbackup.paths import Paths

NOW = 1_800_000_000.0
DAY = 86400.0
RSYNC, BORG = (
    JobConfig("home", "rsync", sources=("/home/anna",)),
    JobConfig("docs", "borg", passcommand=("x",)),
)


@dataclass
class Machine:
    """What its programs answer; the others are not installed."""

    answers: Mapping[str, Answered] = field(default_factory=dict)

    def ask(self, *argv: str, stdin: str = "") -> Answered:
        return self.answers.get(argv[0], Answered(127))


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    """A machine on which nothing is wrong."""
    env = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    fragment = tmp_path / "usbbackup.service"
    program = tmp_path / "usbbackup"
    program.touch()
    fragment.write_text(units.unit(units.SERVICE, (str(program),)))
    return Facts(
        place=Place(  # noqa: S604 - the name of a login shell, nothing is run by it
            paths=Paths.of(env),
            program=(str(program),),
            packaged=False,
            shell="/bin/bash",
            opened_by=None,
            user_units=tmp_path,
            autostart=tmp_path / "usbbackup.desktop",
        ),
        service=Service(True, True, True, True, fragment=str(fragment)),
        tools=Machine(
            {
                "rsync": Answered(0, "rsync  version 3.2.7  protocol version 31\n"),
                "borg": Answered(0, "borg 1.2.4\n"),
                "setpriv": Answered(0, "setpriv from util-linux 2.38.1\n"),
                "loginctl": Answered(0, "Linger=yes\n"),
                "pkcheck": Answered(0),
            }
        ),
        env=env,
        config=Config(jobs=(RSYNC,)),
        status={"agent": {"version": __version__}, "drives": [], "jobs": []},
        troubles=(),
        now=NOW,
    )


Change = Callable[[Facts], Facts]


def without(program: str) -> Change:
    return lambda facts: replace(
        facts,
        tools=Machine({name: told for name, told in facts.tools.answers.items() if name != program}),  # type: ignore[attr-defined]
    )


def answering(program: str, answered: Answered) -> Change:
    return lambda facts: replace(facts, tools=Machine({**facts.tools.answers, program: answered}))  # type: ignore[attr-defined]


def job(*changes: Change) -> Change:
    def borg(facts: Facts) -> Facts:
        facts = replace(facts, config=Config(jobs=(BORG,)))
        for change in changes:
            facts = change(facts)
        return facts

    return borg


def service(**changes: Any) -> Change:
    return lambda facts: replace(facts, service=replace(facts.service, **changes))


def opened(by: str, shell: str = "/bin/bash") -> Change:
    return lambda facts: replace(facts, place=replace(facts.place, opened_by=by, shell=shell))


def encrypted(upper: str, lower: str) -> Change:
    home = OwnHome(Path(upper), Path(lower))
    return lambda facts: replace(facts, place=replace(facts.place, ecryptfs=home))


def hooked(facts: Facts) -> Facts:
    facts = opened("gocryptfs")(facts)
    (facts.place.paths.home / ".profile").write_bytes(login.with_block(b"umask 022\n"))
    return facts


def moved(facts: Facts) -> Facts:
    Path(facts.place.program[0]).unlink()
    return facts


def drive(state: str, *, enrolled: bool = True) -> Change:
    shown = {"name": "backup", "label": "backup", "state": state, "reason": "Because.", "enrolled": enrolled}
    return lambda facts: replace(facts, status={**facts.status, "drives": [shown]})


def agent(version: str | None) -> Change:
    return lambda facts: replace(facts, status={**facts.status, "agent": {"version": version}})


def last_good(*times: str | None) -> Change:
    shown = {"name": "home", "drives": [{"last_success": time} for time in times]}
    return lambda facts: replace(facts, status={**facts.status, "jobs": [shown]})


def repository(*, exported: bool) -> Change:
    def made(facts: Facts) -> Facts:
        paths = facts.place.paths
        known: dict[str, Any] = {"uuid": "8fa2", "token": "t", "label": "backup", "name": "backup"}
        more: dict[str, Any] = {
            "fs_type": "ext4",
            "host": "h",
            "enrolled_at": 0,
            "repositories": {"docs": "r"},
        }
        Records(paths.drives_file).put(Enrolled(**known, **more))
        if exported:
            paths.keys.mkdir(parents=True)
            (paths.keys / "8fa2-docs.key").touch()
        return replace(facts, config=Config(jobs=(BORG,)))

    return made


def homed(lingers: str) -> Change:
    """A home of systemd-homed, whose user lingers or not."""

    def made(facts: Facts) -> Facts:
        (facts.place.paths.home / ".identity").touch()
        return answering("loginctl", Answered(0, f"Linger={lingers}\n"))(facts)

    return made


RECENT, OLD = "2027-01-14T08:00:00+00:00", "2026-12-01T08:00:00+00:00"


@pytest.mark.parametrize(
    ("check", "change", "name", "state"),
    [
        (checks.configuration, lambda facts: facts, "configuration", "ok"),
        (checks.configuration, lambda f: replace(f, config=ConfigError("bad")), "configuration", "wrong"),
        (checks.programs, lambda facts: facts, "rsync", "ok"),
        (checks.programs, without("rsync"), "rsync", "wrong"),
        (checks.programs, without("borg"), "borg", "note"),
        (checks.programs, job(without("borg")), "borg", "wrong"),
        (checks.programs, job(answering("borg", Answered(0, "borg 2.0.0b25"))), "borg", "wrong"),
        (checks.programs, without("setpriv"), "setpriv", "wrong"),
        (checks.service, lambda facts: facts, "service", "ok"),
        (checks.service, service(reachable=False), "service", "wrong"),
        (checks.service, service(loaded=False), "service", "wrong"),
        (checks.service, service(active=False), "service", "wrong"),
        (checks.service, service(active=False, failed=True), "service", "wrong"),
        (checks.service, service(enabled=False), "enabled", "wrong"),
        (checks.service, moved, "service", "wrong"),
        (checks.version, lambda facts: facts, "version", "ok"),
        (checks.version, agent("0.0.9"), "version", "wrong"),
        (checks.at_login, lambda facts: facts, "home", "ok"),
        (checks.at_login, opened("eCryptfs"), "home", "wrong"),
        (checks.at_login, opened("eCryptfs", "/usr/bin/fish"), "home", "wrong"),
        (checks.at_login, hooked, "home", "ok"),
        (checks.linger, answering("loginctl", Answered(0, "Linger=no\n")), "linger", "note"),
        (checks.linger, lambda facts: facts, "linger", "ok"),
        (checks.linger, without("loginctl"), "linger", "note"),
        (checks.linger, homed("yes"), "linger", "wrong"),
        (checks.linger, homed("no"), "linger", "ok"),
        (checks.drives, drive("ready"), "drive", "ok"),
        (checks.drives, drive("waiting"), "drive", "wrong"),
        (checks.drives, drive("refused", enrolled=False), "drive", "wrong"),
        (checks.drives, drive("absent"), "drive", "ok"),
        (checks.drives, drive("absent", enrolled=False), "drive", "note"),
        (checks.backups, last_good(RECENT, None), "backup", "ok"),
        (checks.backups, last_good(OLD, RECENT), "backup", "ok"),
        (checks.backups, last_good(OLD), "backup", "wrong"),
        (checks.backups, last_good(None), "backup", "note"),
        (checks.backups, lambda f: replace(f, troubles=("lost",)), "history", "wrong"),
        (checks.keys, repository(exported=True), "key", "ok"),
        (checks.keys, repository(exported=False), "key", "wrong"),
        (checks.wrapped_passphrase, opened("eCryptfs"), "ecryptfs", "note"),
        (checks.encrypted_forms, encrypted("/nowhere", "/x/.Private"), "ecryptfs-form", "note"),
        (checks.encrypted_forms, encrypted("/nowhere", "/home/anna"), "ecryptfs-key", "wrong"),
        (checks.limits, lambda facts: facts, "room", "ok"),
    ],
)
def test_what_is_found(check: Check, change: Change, name: str, state: str, facts: Facts) -> None:
    found = {finding.check: finding for finding in check(change(facts))}
    assert found[name].state == state, found
    if state == "wrong" and name not in ("drive",):  # a drive's own reason says what to do
        assert found[name].command


def test_whoever_is_well_hears_of_nothing_wrong_and_scripts_get_every_field(facts: Facts) -> None:
    findings = examine(facts, checks.CHECKS)
    assert is_well(findings), [finding for finding in findings if finding.state == "wrong"]
    assert all(
        set(record) == {"check", "state", "what", "why", "command"}
        for record in json.loads(json.dumps([finding.record() for finding in findings]))
    )


def test_without_an_agent_nothing_is_said_of_its_version(facts: Facts) -> None:
    assert list(checks.version(agent(None)(facts))) == []


def test_a_note_is_no_fault_and_a_fault_is() -> None:
    note, wrong = Finding("a", "note", "b", "c"), Finding("a", "wrong", "b", "c")
    assert is_well([note])
    assert not is_well([note, wrong])


def test_a_program_with_odd_characters_in_its_path_is_found(facts: Facts, tmp_path: Path) -> None:
    odd = tmp_path / "50% of it/usb backup"
    odd.parent.mkdir()
    odd.touch()
    fragment = Path(facts.service.fragment)
    fragment.write_text(units.unit(units.SERVICE, (str(odd),)))
    assert next(checks.service(facts)).state == "ok"
    odd.unlink()
    assert next(checks.service(facts)).state == "wrong"
