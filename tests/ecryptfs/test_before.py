"""What is said of an encrypted home that is in use, and what is never backed up twice."""

from pathlib import Path

import pytest

from usbbackup.ecryptfs.before import OwnHome, forms, own_home, own_homes, twice, unopenable
from usbbackup.mountinfo import parse

MOUNTS = parse(
    b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    b"50 21 0:40 / /home/david rw - ecryptfs /home/.ecryptfs/david/.Private rw,ecryptfs_sig=00\n"
    b"51 21 0:41 / /home/anna/Private rw - ecryptfs /home/anna/.Private rw\n"
    b"52 21 0:42 / /mnt rw - ecryptfs relative rw\n"
).rows
WHOLE = OwnHome(Path("/home/david"), Path("/home/.ecryptfs/david/.Private"))
PART = OwnHome(Path("/home/anna/Private"), Path("/home/anna/.Private"))


def test_the_mount_table_tells_both_forms() -> None:
    assert own_homes(MOUNTS) == [WHOLE, PART]
    assert own_home(Path("/home/david"), MOUNTS) == WHOLE
    assert own_home(Path("/home/anna"), MOUNTS) == PART
    assert own_home(Path("/home/bert"), MOUNTS) is None


@pytest.mark.parametrize(
    ("home", "sources", "left_out"),
    [
        (WHOLE, ["/home/david"], None),
        (WHOLE, ["/home/.ecryptfs/david"], None),
        (WHOLE, ["/home/david", "/home/.ecryptfs/david"], WHOLE.lower),
        (WHOLE, ["/home/david/letters", "/home/.ecryptfs/david"], WHOLE.lower),
        (WHOLE, ["/home"], WHOLE.upper),
        (WHOLE, ["/"], WHOLE.upper),
        (WHOLE, ["/home", "/home/david"], WHOLE.lower),
        (WHOLE, ["/etc"], None),
        (WHOLE, ["/home/david2", "/home/.ecryptfs/david2"], None),
        (PART, ["/home/anna"], PART.upper),
        (PART, ["/home/anna/Private"], None),
        (PART, ["/home/anna/letters"], None),
    ],
)
def test_of_both_forms_only_one_is_backed_up(
    home: OwnHome, sources: list[str], left_out: Path | None
) -> None:
    assert twice(home, [Path(source) for source in sources]) == left_out


@pytest.mark.parametrize(
    ("sources", "form", "keys"),
    [
        (["/home/david"], None, False),
        (["/home/david/letters"], None, False),
        (["/home/.ecryptfs/david"], None, False),
        (["/home/.ecryptfs/david/.Private"], None, True),
        (["/home"], "/home/david is left out", False),
        (["/etc"], "in neither of its forms", False),
    ],
)
def test_what_is_worth_saying_is_said(sources: list[str], form: str | None, keys: bool) -> None:
    paths = [Path(source) for source in sources]
    said = forms(WHOLE, paths)
    assert said is None if form is None else form in str(said)
    assert (unopenable(WHOLE, paths) is not None) == keys


def test_the_choice_is_explained_in_two_sentences() -> None:
    assert WHOLE.explained.count(". ") == 1
    assert "recover-home" in WHOLE.explained
