"""What borg is asked, by value."""

import subprocess
import sys
from pathlib import Path

import pytest

from usbbackup.backup.borg import commands as borg_commands
from usbbackup.backup.borg import relay as borg_relay


def test_an_archive_is_made_of_an_explicit_list_through_the_relay():
    relay = str(Path(borg_relay.__file__))
    assert borg_commands.create("home@2026-11-23T101500Z", "zstd,3") == (
        *("borg", "create", "--log-json", "--json", "--progress", "--list", "--filter=CE"),
        *("--checkpoint-interval=300", "--lock-wait=10", "--compression=zstd,3"),
        *("--paths-from-command", "--paths-delimiter=\\0", "borg::home@2026-11-23T101500Z"),
        *("--", sys.executable, "-I", "-S", relay),
    )


def test_compression_is_borgs_own_choice_where_none_is_configured():
    assert not any("compression" in word for word in borg_commands.create("home@x", None))


def test_the_environment_answers_every_question_and_holds_no_secret():
    env = borg_commands.environment(Path("/c"), Path("/k"), 7, relocated_ok=True)
    assert {name: value for name, value in env.items() if value is not None} == {
        "BORG_CACHE_DIR": "/c",
        "BORG_CONFIG_DIR": "/k",
        "TMPDIR": "/c/tmp",
        "BORG_PASSPHRASE_FD": "7",
        "BORG_DISPLAY_PASSPHRASE": "no",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "no",
        "BORG_EXIT_CODES": "modern",
        "BORG_SHOW_SYSINFO": "no",
        "LC_ALL": "C.UTF-8",
    }
    assert {"BORG_PASSPHRASE", "BORG_PASSCOMMAND", "BORG_REPO"} <= {
        n for n, value in env.items() if value is None
    }


def test_a_repository_elsewhere_than_last_time_is_refused_unless_the_drive_is_proven():
    env = borg_commands.environment(Path("/c"), Path("/k"), 7, relocated_ok=False)
    assert env["BORG_RELOCATED_REPO_ACCESS_IS_OK"] == "no"


def relayed(data: bytes) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", borg_relay.__file__], input=data, capture_output=True, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("paths", [b"", b"/a\0", b"/a\0/b\n.\0/.\0", b"/x." * 100_000 + b"\0"])
def test_the_relay_hands_a_whole_list_on(paths):
    assert relayed(paths + b".\0") == (0, paths)


@pytest.mark.parametrize("paths", [b"", b"/a\0", b"/a\0/b", b"/a\0.", b"/a.\0", b"/a\0/.\0"])
def test_the_relay_fails_where_the_list_breaks_off(paths):
    code, out = relayed(paths)
    assert code == 1
    assert paths.startswith(out)
