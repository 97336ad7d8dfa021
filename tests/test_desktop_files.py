"""What desktops are told of the program is valid, and says the same everywhere."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from usbbackup import __version__
from usbbackup.agent.notifications import DESKTOP_ENTRY
from usbbackup.cli.main import COMMANDS
from usbbackup.install import units

PACKAGING = Path(__file__).parent.parent / "packaging"
ENTRY, ICON = (units.path(name) for name in (units.ENTRY, units.ICON))
METAINFO = PACKAGING / f"desktop/{DESKTOP_ENTRY}.metainfo.xml"


def validated(*command: str | Path) -> str:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_entry_is_valid_and_opens_a_command_that_exists() -> None:
    """In a terminal, since that is what `watch` draws on."""
    assert validated("desktop-file-validate", ENTRY) == ""
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(ENTRY)
    program, command = entry["Desktop Entry"]["Exec"].split()
    assert program == "usbbackup"
    assert command in COMMANDS
    assert entry["Desktop Entry"]["Terminal"] == "true"
    assert entry["Desktop Entry"]["Icon"] == ICON.stem == ENTRY.stem == DESKTOP_ENTRY


@pytest.mark.parametrize(
    ("program", "called"),
    [
        (("/home/anna/.local/bin/usbbackup",), "/home/anna/.local/bin/usbbackup"),
        (("/srv/venv/bin/python", "-m", "usbbackup"), "/srv/venv/bin/python -m usbbackup"),
        (("/home/my $HOME/50%/usb`",), r'"/home/my \\$HOME/50%%/usb\\`"'),
        ((r"/home/a\b/usbbackup",), r'"/home/a\\\\b/usbbackup"'),
    ],
)
def test_an_entry_of_ones_own_names_the_program_that_was_installed(
    program: tuple[str, ...], called: str, tmp_path: Path
) -> None:
    """With the two quotings of the Desktop Entry Specification: of arguments, and of strings around them."""
    written = tmp_path / units.ENTRY
    written.write_text(units.entry(program))
    assert validated("desktop-file-validate", written) == ""
    assert f"\nExec={called} watch\n" in written.read_text()


def test_the_metainfo_is_valid_and_of_this_version() -> None:
    validated("appstreamcli", "validate", "--no-net", METAINFO)
    root = ElementTree.parse(METAINFO).getroot()  # noqa: S314 - our own file
    assert root.findtext("id") == DESKTOP_ENTRY
    assert root.findtext("launchable") == ENTRY.name
    releases = [release.get("version") for release in root.iter("release")]
    assert releases[0] == __version__


def test_the_icon_is_a_picture_that_needs_nothing_else() -> None:
    root = ElementTree.parse(ICON).getroot()  # noqa: S314 - our own file
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "href" not in ICON.read_text()


@pytest.mark.parametrize("package", ["debian/usbbackup.install", "PKGBUILD", "usbbackup.spec"])
def test_every_package_installs_all_three(package: str) -> None:
    text = (PACKAGING / package).read_text()
    for place in ("applications", "metainfo", "icons/hicolor/scalable/apps"):
        assert re.search(place.replace("metainfo", "metainfo(dir)?"), text), place
