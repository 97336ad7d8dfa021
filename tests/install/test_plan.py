"""Setting up and taking away, as lists of steps: whole, repeatable, and only of what is ours."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from usbbackup.ecryptfs.before import OwnHome
from usbbackup.errors import UsbbackupError
from usbbackup.install import plan, steps, units
from usbbackup.install.place import Place, Service
from usbbackup.install.tools import Answered
from usbbackup.paths import Paths

RUNS = Service(reachable=True, loaded=True, enabled=True, active=True)
FRESH = Service(reachable=True)
NO_MANAGER = Service(reachable=False)


@dataclass
class Told:
    """Programs that always succeed, or of which one fails."""

    failing: tuple[str, ...] = ()
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def ask(self, *argv: str, stdin: str = "") -> Answered:
        self.asked.append(argv)
        return Answered(1, "", "it broke") if argv == self.failing else Answered(0)


def place(home: Path, **changes: object) -> Place:
    paths = Paths.of({"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")})
    settings: dict[str, object] = {
        "paths": paths,
        "program": (str(home / ".local/bin/usbbackup"),),
        "packaged": False,
        "shell": "/bin/bash",
        "opened_by": None,
        "user_units": home / ".config/systemd/user",
        "autostart": home / ".config/autostart" / units.AUTOSTART,
    }
    return Place(**(settings | changes))  # type: ignore[arg-type]


def everything(home: Path) -> dict[str, bytes | str | None]:
    """All that is in a home."""

    def shown(path: Path) -> bytes | str | None:
        if path.is_symlink():
            return str(path.readlink())
        return path.read_bytes() if path.is_file() else None

    return {str(path.relative_to(home)): shown(path) for path in sorted(home.rglob("*"))}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / ".config").mkdir()
    (tmp_path / ".local/share").mkdir(parents=True)
    (tmp_path / ".profile").write_bytes(b"umask 022")
    yield tmp_path


def test_of_an_ecryptfs_home_both_forms_are_explained_and_what_opens_it_is_named(home: Path) -> None:
    own = OwnHome(home, Path("/home/.ecryptfs/anna/.Private"))
    told = list(plan.remarks(place(home, ecryptfs=own), RUNS))
    assert told[0] == own.explained
    assert "/home/.ecryptfs/anna/.ecryptfs" in told[1]
    assert "ecryptfs-unwrap-passphrase" in told[1]
    assert list(plan.remarks(place(home), RUNS)) == []


@pytest.mark.parametrize("service", [FRESH, NO_MANAGER], ids=["manager", "none"])
@pytest.mark.parametrize("opened_by", [None, "gocryptfs"])
@pytest.mark.parametrize("shell", ["/bin/bash", "/usr/bin/fish"])
def test_what_was_set_up_is_taken_away_to_the_byte(
    home: Path, service: Service, opened_by: str | None, shell: str
) -> None:
    here = place(home, opened_by=opened_by, shell=shell)
    before = everything(home)
    for step in plan.setting_up(here, service):
        steps.do(step, Told())
    assert everything(home) != before
    for step in plan.taking_away(here, RUNS if service.reachable else NO_MANAGER, purge=False):
        steps.do(step, Told())
    assert everything(home) == before


def test_a_second_time_there_is_nothing_to_do(home: Path) -> None:
    here = place(home, opened_by="eCryptfs")
    for step in plan.setting_up(here, FRESH):
        steps.do(step, Told())
    assert plan.setting_up(here, RUNS) == []
    for step in plan.setting_up(here, NO_MANAGER):  # there the link stands for the word of a manager
        steps.do(step, Told())
    assert plan.setting_up(here, NO_MANAGER) == []


def test_a_new_place_of_the_program_is_written_into_the_units(home: Path) -> None:
    for step in plan.setting_up(place(home), FRESH):
        steps.do(step, Told())
    moved = plan.setting_up(place(home, program=("/opt/usbbackup",)), RUNS)
    assert [step.told.rpartition("/")[2] for step in moved if isinstance(step, steps.Write)] == [
        "usbbackup.service",
        "usbbackup-start@.service",
        "io.usbbackup.usbbackup.desktop",
    ]
    assert plan.RELOAD not in moved
    assert steps.Tell(("systemctl", "--user", "daemon-reload")) in moved


def test_a_unit_that_somebody_else_wrote_is_shown_before_it_changes_and_is_never_removed(home: Path) -> None:
    here = place(home)
    theirs = here.user_units / units.SERVICE
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[Service]\nExecStart=/bin/true\n")
    (write,) = [step for step in plan.unit_files(here) if step.path == theirs]
    assert "-ExecStart=/bin/true" in write.difference
    plan.taking_away(here, FRESH, purge=True)
    assert theirs not in [getattr(step, "path", None) for step in plan.taking_away(here, FRESH, purge=True)]


def test_a_desktop_entry_that_somebody_else_wrote_stays(home: Path) -> None:
    here = place(home)
    for path in (here.entry, here.icon):
        path.parent.mkdir(parents=True)
        path.write_text("theirs")
    assert all(write.difference for write in plan.desktop_files(here))
    assert not any(isinstance(step, steps.Remove) for step in plan.taking_away(here, FRESH, purge=False))


def test_a_package_has_brought_the_units_itself(home: Path) -> None:
    here = place(home, packaged=True)
    assert [*plan.unit_files(here), *plan.desktop_files(here)] == []


def test_without_no_start_is_nothing_started(home: Path) -> None:
    told = [step.told for step in plan.setting_up(place(home), FRESH, start=False)]
    assert any("enable" in line for line in told)
    assert not any(" start " in line for line in told)


def test_purging_keeps_what_opens_encrypted_backups(home: Path) -> None:
    here = place(home)
    paths = here.paths
    for file in (paths.config_file, paths.history_db, paths.drives_file, paths.cache / "borg/x"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for file in (paths.keys / "1.key", paths.data / "passphrases/home"):
        file.parent.mkdir(parents=True)
        file.write_text("secret")
    for step in plan.taking_away(here, NO_MANAGER, purge=True):
        steps.do(step, Told())
    left = {path for path in everything(home) if path.startswith((".config/", ".local/", ".cache/"))}
    data = ".local/share/usbbackup"
    assert {path for path in left if "." in Path(path).name or "home" in path} == {
        *(".local/share", f"{data}/keys/1.key", f"{data}/passphrases/home")
    } - {".local/share"}
    assert plan.secrets_kept(here) == [paths.keys, paths.data / "passphrases"]


def test_a_link_stays_a_link_and_a_mode_stays_a_mode(home: Path) -> None:
    """Profiles are often kept in a repository of dotfiles."""
    real = home / "dotfiles/profile"
    real.parent.mkdir()
    real.write_bytes(b"umask 022\n")
    real.chmod(0o664)
    (home / ".profile").unlink()
    (home / ".profile").symlink_to("dotfiles/profile")
    for step in plan.login_hook(place(home, opened_by="eCryptfs")):
        steps.do(step, Told())
    assert (home / ".profile").is_symlink()
    assert b">>> usbbackup >>>" in real.read_bytes()
    assert real.stat().st_mode & 0o777 == 0o664


def test_what_cannot_be_told_to_the_manager_is_an_error_in_one_sentence(home: Path) -> None:
    start = ("systemctl", "--user", "start", units.SERVICE)
    with pytest.raises(UsbbackupError, match="service` failed: it broke"):
        for step in plan.setting_up(place(home), FRESH):
            steps.do(step, Told(failing=start))
