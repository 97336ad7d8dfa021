"""The block in the profile: at the end, once, quiet anywhere, and gone without a trace."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.install import login

TEXTS = st.one_of(st.none(), st.binary(), st.sampled_from([b"", b"\n", b"export A=1\n", b"export A=1"]))


@given(TEXTS)
def test_what_was_added_is_taken_away_to_the_byte(text: bytes | None) -> None:
    added = login.with_block(text)
    if text is None or login.without_block(text) == text:  # what looks like a block was one
        assert login.without_block(added) == text


@given(TEXTS)
def test_a_second_time_changes_nothing(text: bytes | None) -> None:
    once = login.with_block(text)
    assert login.with_block(once) == once


def test_what_the_user_writes_around_it_stays() -> None:
    text = b"before\n" + login.with_block(None) + b"after\n"
    assert login.without_block(text) == b"before\nafter\n"
    assert login.with_block(text).startswith(b"before\nafter\n")


def test_a_mark_without_its_other_half_takes_nothing_with_it() -> None:
    """Somebody edited the file: what stands between an orphan and a real block is theirs."""
    first = login.with_block(b"").splitlines(keepends=True)[0]
    text = first + b"export PRECIOUS=1\n"
    assert login.without_block(login.with_block(text)) == text


@pytest.mark.parametrize(
    ("shell", "there", "expected"),
    [
        ("/bin/bash", [], ".profile"),
        ("/bin/bash", [".profile"], ".profile"),
        ("/bin/bash", [".profile", ".bash_login"], ".bash_login"),
        ("/usr/bin/bash", [".profile", ".bash_login", ".bash_profile"], ".bash_profile"),
        ("/bin/sh", [".bash_profile"], ".profile"),
        ("/usr/bin/zsh", [".profile"], ".zprofile"),
    ],
)
def test_the_file_is_the_one_that_the_login_shell_reads(
    shell: str, there: list[str], expected: str, tmp_path: Path
) -> None:
    for name in there:
        (tmp_path / name).touch()
    assert login.profile(tmp_path, shell) == tmp_path / expected


def test_a_shell_of_another_language_gets_no_block(tmp_path: Path) -> None:
    assert login.profile(tmp_path, "/usr/bin/fish") is None


@pytest.mark.parametrize("options", ["", "set -eu;"])
def test_it_is_quiet_and_harmless_where_there_is_no_service_manager(options: str, tmp_path: Path) -> None:
    """As in cron, in ssh to a machine without systemd, and in a profile that stops at errors."""
    profile = tmp_path / ".profile"
    profile.write_bytes(login.with_block(b""))
    script = f"{options} . {profile}; echo on"
    done = subprocess.run(["sh", "-c", script], env={"PATH": os.defpath}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"on\n", b"")


@pytest.mark.parametrize(
    ("state", "started"), [("active", False), ("inactive enabled", True), ("inactive", False)]
)
def test_only_what_is_enabled_and_does_not_run_is_started_and_nothing_fails(
    state: str, started: bool, tmp_path: Path
) -> None:
    """Also where there is nothing to do: the desktop's entry is a unit, which would be shown as failed."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"""#!/bin/sh
echo "$@" >> {tmp_path}/told
case "$*" in
    *is-active*) case "{state}" in active*) exit 0;; esac; exit 3;;
    *is-enabled*) case "{state}" in *enabled*) exit 0;; esac; exit 1;;
esac
""")
    systemctl.chmod(0o755)
    path = f"{tmp_path}:{os.defpath}"
    assert subprocess.run(["sh", "-c", login.START], env={"PATH": path}, check=False).returncode == 0
    assert ("start usbbackup.service" in (tmp_path / "told").read_text()) is started
