"""Passphrases: kept where they can be had again, proven, and not made anew where one is known."""

import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from usbbackup.errors import UsbbackupError
from usbbackup.install import passphrase
from usbbackup.install.tools import Answered, SystemTools
from usbbackup.paths import Paths


@dataclass
class Keyring:
    """A desktop's keyring that is there, and open, or neither."""

    works: bool = True
    systemd: str = "systemd 252 (252.39)"
    kept: dict[str, str] = field(default_factory=dict)

    def ask(self, *argv: str, stdin: str = "") -> Answered:
        match argv:
            case ("secret-tool", "store", _, _, job) if self.works:
                self.kept[job] = stdin
                return Answered(0)
            case ("secret-tool", "lookup", _, job):
                return Answered(0 if job in self.kept else 1, self.kept.get(job, ""))
            case ("secret-tool", *_):
                return Answered(1, "", "locked")
            case ("systemd-creds", "--version"):
                return Answered(0, self.systemd)
            case ("cat", file):
                done = subprocess.run(["cat", file], capture_output=True, text=True, check=False)
                return Answered(done.returncode, done.stdout)
            case _:
                return Answered(127)


DESKTOP = {"WAYLAND_DISPLAY": "wayland-0"}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.of({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)})


def test_a_desktop_keeps_it_in_its_keyring_and_nowhere_else(paths: Paths) -> None:
    tools = Keyring()
    keeper = passphrase.keep("s3cret", "home", paths, tools, DESKTOP)
    assert (keeper.name, tools.kept) == ("keyring", {"home": "s3cret"})
    assert "s3cret" not in shlex.join(keeper.passcommand)
    assert not (paths.data / "passphrases/home").exists()


@pytest.mark.parametrize("tools", [Keyring(works=False), Keyring()], ids=["locked", "no desktop"])
def test_where_no_keyring_takes_it_a_file_does_that_only_its_owner_reads(
    tools: Keyring, paths: Paths
) -> None:
    keeper = passphrase.keep("s3cret", "home", paths, tools, {} if tools.works else DESKTOP)
    assert keeper.name == "file"
    assert keeper.file is not None
    assert keeper.file.stat().st_mode & 0o777 == 0o600
    assert keeper.file.parent.stat().st_mode & 0o777 == 0o700
    assert SystemTools({"PATH": "/bin:/usr/bin"}).ask(*keeper.passcommand).out == "s3cret\n"
    assert passphrase.SENTENCE in list(passphrase.told(keeper))


def test_one_that_is_kept_already_is_found_again(paths: Paths) -> None:
    tools = Keyring()
    assert passphrase.known("home", paths, tools, {}, None) is None
    passphrase.keep("s3cret", "home", paths, tools, {})
    found = passphrase.known("home", paths, tools, {}, None)
    assert found is not None
    assert found.name == "file"
    assert passphrase.known("other", paths, tools, {}, None) is None


def test_a_place_that_does_not_work_is_an_error_and_not_quietly_another(paths: Paths) -> None:
    with pytest.raises(UsbbackupError, match="could not be kept in: keyring"):
        passphrase.keep("s3cret", "home", paths, Keyring(works=False), DESKTOP, "keyring")
    assert not (paths.data / "passphrases/home").exists()


def test_generated_ones_differ_and_are_long() -> None:
    made = {passphrase.generated() for _ in range(20)}
    assert len(made) == 20
    assert all(len(word.replace("-", "")) == 30 for word in made)
