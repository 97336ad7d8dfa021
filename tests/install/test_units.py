"""The files that are installed: whole, with the true path of the program, taken by systemd itself."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from usbbackup.install import login, server, units


@pytest.mark.parametrize("place", ["/usr/bin/usbbackup", "/home/anna b/50% of $HOME/usbbackup"])
def test_systemd_finds_nothing_wrong_with_them(place: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / place.lstrip("/")
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in units.UNITS:
        text = units.unit(name, (str(program),))
        (tmp_path / name.replace("@.", "@home.")).write_text(text.replace("man:usbbackup(1)", "man:true(1)"))
    named = sorted(str(tmp_path / name.replace("@.", "@home.")) for name in units.UNITS)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--recursive-errors=no", *named],
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "MANPATH": "/usr/share/man"},
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [line for line in done.stderr.splitlines() if "usbbackup" in line and "man " not in line]
    assert wrong == []


def test_no_placeholder_stays() -> None:
    for name in units.UNITS:
        assert "@PROGRAM@" not in units.unit(name, ("/usr/bin/usbbackup",))


def test_every_setting_of_the_service_that_scripts_would_inherit_is_left_out() -> None:
    text = units.unit(units.SERVICE, ("/usr/bin/usbbackup",))
    settings = {line.partition("=")[0] for line in text.splitlines() if line[:1].isalpha()}
    harmful = {"NoNewPrivileges", "UMask", "PrivateTmp", "ProtectSystem", "ProtectHome", "SystemCallFilter"}
    assert settings.isdisjoint(harmful | {"MemoryDenyWriteExecute", "RestrictNamespaces"})
    assert {"LimitCORE", "WatchdogSec", "KillMode", "OOMPolicy", "RestartPreventExitStatus"} <= settings


def test_the_autostart_entry_runs_the_same_script_as_the_profile() -> None:
    entry = configparser.RawConfigParser(comment_prefixes="#", interpolation=None, strict=True)
    entry.optionxform = str  # type: ignore[assignment,method-assign]
    entry.read_string(units.autostart(login.START))
    assert shlex.split(entry["Desktop Entry"]["Exec"]) == ["sh", "-c", login.START]
    assert not set(login.START) & set('"$`%\\')  # what the specification would have escaped


def test_the_page_for_servers_names_things_as_systemd_does() -> None:
    if shutil.which("systemd-escape") is None:
        pytest.skip("systemd-escape is not installed")
    for path in ("/mnt/backup", "/dev/disk/by-label/a\\x20b", "/media/.x-y:z_1"):
        asked = ["systemd-escape", "--path", path]
        assert server.unit_name(path) == subprocess.check_output(asked, text=True).strip()
    assert server.page("my disk", "anna").count("@") == 0
