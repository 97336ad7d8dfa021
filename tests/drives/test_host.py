"""The id of this machine on a drive."""

import subprocess
from pathlib import Path
from shutil import which

import pytest

from usbbackup.drives import host
from usbbackup.drives.host import Host, host_id, plain, this_host

MACHINE = "3d1219c7c4c5404aaa1f6d2a48adfda4"


def test_the_id_has_eight_hex_digits_and_is_always_the_same():
    """Changing it would orphan the folders on every drive."""
    assert host_id(MACHINE) == host_id(f"{MACHINE.upper()}\n") == "82fc8f8f"


def test_the_id_does_not_show_the_machines_own():
    assert host_id(MACHINE) not in MACHINE


def test_the_id_is_the_one_that_systemd_makes(tmp_path):
    if which("systemd-id128") is None or not Path("/etc/machine-id").exists():
        pytest.skip("systemd-id128 is not installed")
    command = ["systemd-id128", "machine-id", f"--app-specific={host._APPLICATION.hex()}"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert this_host(tmp_path).id == told[:8]


@pytest.mark.parametrize("text", ["", "uninitialized", "0" * 32, MACHINE[:-1], "not hex at all"])
def test_a_machine_without_id_gets_a_random_one_that_stays(tmp_path, text):
    (tmp_path / "machine-id").write_text(text)
    first = this_host(tmp_path / "data", tmp_path / "machine-id")
    assert first == this_host(tmp_path / "data", tmp_path / "machine-id")
    assert first.id != this_host(tmp_path / "other", tmp_path / "machine-id").id
    assert len(first.id) == 8


def test_a_machine_without_id_file_gets_a_random_one(tmp_path):
    assert len(this_host(tmp_path, tmp_path / "none").id) == 8


def test_a_damaged_made_up_id_is_an_error_not_a_new_id(tmp_path):
    (tmp_path / "host-id").write_text("what?")
    with pytest.raises(ValueError, match="holds no host id"):
        this_host(tmp_path, tmp_path / "none")


def test_the_folder_has_the_name_for_people_and_the_id():
    assert Host("0badcafe", "laptop", "david").folder == "laptop-0badcafe"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("laptop", "laptop"),
        ("Anna's Laptop", "Anna-s-Laptop"),
        ("../../etc", "etc"),
        ("a/b", "a-b"),
        ("CORP\\david", "CORP-david"),
        ("-rf", "rf"),
        (".", "host"),
        ("", "host"),
        ("größe", "gr-e"),
        ("x" * 300, "x" * 64),
    ],
)
def test_names_are_made_plain(name, shown):
    assert plain(name, "host") == shown
