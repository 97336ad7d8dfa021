"""Encrypted homes are found where they lie in backups, and opened by the right passphrase only."""

import os
from pathlib import Path

import pytest

from tests.ecryptfs.encrypted import PASSPHRASE, EncryptedTree
from tests.ecryptfs.test_ecryptfs_passphrase import LOGIN, wrapped
from usbbackup.ecryptfs.directory import wanted
from usbbackup.ecryptfs.home import EncryptedHome, found
from usbbackup.ecryptfs.passphrase import Keys, WrongPassphraseError
from usbbackup.errors import UsageError, UsbbackupError


def with_keys(tree: EncryptedTree, passphrase: bytes = PASSPHRASE) -> EncryptedHome:
    """A home with all that belongs to it."""
    home = EncryptedHome(tree.lower)
    home.keys.mkdir(exist_ok=True)
    (home.keys / "wrapped-passphrase").write_bytes(wrapped(passphrase, LOGIN, b"saltsalt"))
    (home.keys / "Private.sig").write_text(f"{tree.keys.contents.signature}\n{tree.keys.names.signature}\n")
    (home.keys / "Private.mnt").write_text("/home/david\n")
    return home


@pytest.mark.parametrize(
    "place",
    [".", "home/david", "home/.ecryptfs/david", ".ecryptfs/david", "a/home/.ecryptfs/david"],
)
def test_a_home_is_found_below_a_disk_a_snapshot_or_its_own_directory(
    tmp_path: Path, keys: Keys, place: str
) -> None:
    tree = EncryptedTree(tmp_path / place, keys)
    (tmp_path / "etc/.ecryptfs").mkdir(parents=True)
    assert found(tmp_path) == [EncryptedHome(tree.lower)]
    assert found(tree.lower) == [EncryptedHome(tree.lower)]


def test_several_homes_are_all_found_and_links_lead_to_none(tmp_path: Path, keys: Keys) -> None:
    one = EncryptedTree(tmp_path / "home/.ecryptfs/anna", keys)
    other = EncryptedTree(tmp_path / "home/.ecryptfs/david", keys)
    (tmp_path / "home/david").mkdir()
    (tmp_path / "home/david/.Private").symlink_to(other.lower)
    homes = found(tmp_path)
    assert [(home.lower, home.user) for home in homes] == [(one.lower, "anna"), (other.lower, "david")]


def test_a_renamed_home_is_known_by_the_names_in_it(tmp_path: Path, tree: EncryptedTree) -> None:
    tree.write("file", b"x")
    renamed = tree.lower.rename(tmp_path / "rescued")
    assert found(renamed) == [EncryptedHome(renamed)]


def test_where_there_is_no_directory_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsbbackupError, match="cannot be read: No such file"):
        found(tmp_path / "nowhere")
    assert found(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_of_a_home_that_is_closed_to_us_that_is_told(tmp_path: Path, tree: EncryptedTree) -> None:
    tree.lower.parent.chmod(0)
    with pytest.raises(UsbbackupError, match="david cannot: Permission denied"):
        found(tmp_path)
    tree.lower.parent.chmod(0o700)


def test_the_login_passphrase_and_the_mount_passphrase_open_it(tree: EncryptedTree) -> None:
    home = with_keys(tree)
    assert home.unlocked(LOGIN, mount=False) == tree.keys
    assert home.unlocked(PASSPHRASE, mount=True) == tree.keys
    assert home.mount_point == "/home/david"


@pytest.mark.parametrize("mount", [False, True])
def test_a_wrong_passphrase_opens_nothing(tree: EncryptedTree, mount: bool) -> None:
    with pytest.raises(WrongPassphraseError):
        with_keys(tree).unlocked(b"wrong", mount=mount)


def test_a_wrapped_passphrase_of_another_time_is_noticed_before_anything_is_written(
    tree: EncryptedTree,
) -> None:
    home = with_keys(tree, b"an older mount passphrase")
    with pytest.raises(WrongPassphraseError, match="is not in use"):
        home.unlocked(LOGIN, mount=False)


@pytest.mark.parametrize("what", ["name", "header"])
def test_without_signatures_the_home_itself_tells_them(tree: EncryptedTree, what: str) -> None:
    path = tree.write("file", b"x")
    if what == "header":
        path.rename(tree.lower / "file")
    (tree.lower / "ECRYPTFS_FNEK_ENCRYPTED.damaged").touch()
    home = EncryptedHome(tree.lower)
    assert home.unlocked(PASSPHRASE, mount=True) == tree.keys
    with pytest.raises(WrongPassphraseError, match="signature"):
        home.unlocked(b"wrong", mount=True)


def test_without_a_wrapped_passphrase_the_mount_passphrase_is_asked_for(tree: EncryptedTree) -> None:
    with pytest.raises(UsbbackupError, match="wrapped passphrase is missing") as raised:
        EncryptedHome(tree.lower).unlocked(LOGIN, mount=False)
    assert "--mount-passphrase" in str(raised.value.hint)


@pytest.mark.parametrize("content", [b"\n", b"nonsense" * 10, b":\x02short"])
def test_a_damaged_wrapped_passphrase_is_named(tree: EncryptedTree, content: bytes) -> None:
    home = with_keys(tree)
    (home.keys / "wrapped-passphrase").write_bytes(content)
    with pytest.raises(UsbbackupError, match=r"wrapped-passphrase is (no|a) wrapped"):
        home.unlocked(LOGIN, mount=False)


@pytest.mark.parametrize("name", ["wrapped-passphrase", "Private.sig"])
def test_a_pipe_or_a_link_in_the_place_of_a_key_file_hangs_nothing(tree: EncryptedTree, name: str) -> None:
    home = with_keys(tree)
    (home.keys / name).unlink()
    (home.keys / name).symlink_to("/etc/passwd")
    with pytest.raises(UsbbackupError, match=name):
        home.unlocked(LOGIN, mount=False)
    (home.keys / name).unlink()
    os.mkfifo(home.keys / name)
    if name == "Private.sig":  # a pipe says nothing
        assert home.unlocked(LOGIN, mount=False) == tree.keys
    else:
        with pytest.raises(UsbbackupError, match="missing"):
            home.unlocked(LOGIN, mount=False)


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("photos", ("photos",)),
        ("./photos//2012/", ("photos", "2012")),
        ("/home/david/photos", ("photos",)),
        (".config/x y", (".config", "x y")),
    ],
)
def test_a_path_is_one_in_the_home(word: str, path: tuple[str, ...]) -> None:
    assert wanted([word], "/home/david").paths == {path}


@pytest.mark.parametrize("word", ["", ".", "..", "a/../b", "/home/davidx", "/etc", "/home/david"])
def test_a_path_that_leads_elsewhere_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        wanted([word], "/home/david")


def test_an_absolute_path_needs_a_known_mount_point() -> None:
    with pytest.raises(UsageError, match="does not tell where it lay"):
        wanted(["/home/david/photos"], None)
