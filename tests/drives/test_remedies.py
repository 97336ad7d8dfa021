"""Commands that people can paste, whatever a drive is called."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usbbackup.drives.remedies import command_line, own_folder, quoted


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("/media/david/backup", "/media/david/backup"),
        ("/media/my drive", "'/media/my drive'"),
        ("it's", "'it'\"'\"'s'"),
        ("$(reboot)", "'$(reboot)'"),
        ("Größe", "'Größe'"),
        ("", "''"),
        (b"a\n\x1b[31m'\\", r"$'a\x0a\x1b[31m\'\\'"),
        (b"\xff\xfe", r"$'\xff\xfe'"),
        ("\udcff", r"$'\xff'"),
        ("rtl\u202e", r"$'rtl\xe2\x80\xae'"),
    ],
)
def test_a_word_is_quoted_for_the_shell(word, shown):
    assert quoted(word) == shown


@given(st.lists(st.binary(max_size=20).filter(lambda raw: 0 not in raw), min_size=1, max_size=20))
@settings(max_examples=30)
def test_bash_reads_every_name_back_and_a_terminal_sees_nothing_of_it(names):
    line = " ".join(map(quoted, names))
    assert line.isprintable()
    out = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    assert out.split(b"\0")[:-1] == names


def test_the_command_for_a_fresh_stick_is_exact():
    command = own_folder(b"/media/my drive/usbbackup", "david", "users", 0o755)
    assert command_line(command) == "sudo install -d -o david -g users -m 0755 '/media/my drive/usbbackup'"
