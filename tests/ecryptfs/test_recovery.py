"""A whole home, written in plain: what is damaged is told, the rest is whole, and nothing lies elsewhere."""

import errno
import os
import resource
import signal
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ecryptfs import encrypted
from tests.ecryptfs.encrypted import EncryptedTree
from usbbackup.ecryptfs.drafts import FOLDER, drafts
from usbbackup.ecryptfs.lower import DEEPEST, Wanted
from usbbackup.ecryptfs.recovery import Tally, recover
from usbbackup.errors import NotNowError, UsbbackupError
from usbbackup.folders import closing

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """An empty directory to recover to."""
    into = tmp_path / "plain"
    into.mkdir()
    return into


def recovered(
    tree: EncryptedTree, to: Path, *paths: str, tell: Callable[[Tally], None] = lambda tally: None
) -> Tally:
    wanted = Wanted(frozenset(tuple(path.split("/")) for path in paths))
    with closing(os.open(tree.lower, DIRECTORY)) as lower, closing(os.open(to, DIRECTORY)) as target:
        return recover(lower, target, tree.keys, wanted, tell)


def all_of(to: Path) -> dict[str, bytes]:
    """Every file, with its content."""
    return {str(path.relative_to(to)): path.read_bytes() for path in sorted(to.rglob("*")) if path.is_file()}


def damage(tally: Tally) -> dict[str, str]:
    return {"/".join(path): why for path, why in tally.damaged}


def test_all_of_a_home_is_written(tree: EncryptedTree, to: Path) -> None:
    tree.write("letter", b"dear")
    tree.write("photos/2012/one", b"1" * 5000)
    tally = recovered(tree, to)
    assert all_of(to) == {"letter": b"dear", "photos/2012/one": b"1" * 5000}
    assert (tally.files, tally.folders, tally.there, tally.bytes) == (2, 2, 0, 5004)
    assert sorted(to.iterdir()) == [to / "letter", to / "photos"]


@pytest.mark.parametrize("path", ["photos/2012/one", "photos/2012", "photos"])
def test_what_is_asked_for_comes_with_the_folders_it_lies_in(
    tree: EncryptedTree, to: Path, path: str
) -> None:
    tree.write("photos/2012/one", b"1")
    tree.write("photos2/one", b"1")
    tree.write("letter", b"dear")
    assert recovered(tree, to, path).files == 1
    assert list(all_of(to)) == ["photos/2012/one"]


def test_the_second_time_what_is_there_is_left_alone(tree: EncryptedTree, to: Path) -> None:
    tree.write("letter", b"dear")
    tree.path("again").hardlink_to(tree.path("letter"))
    tree.link("link", b"letter")
    os.mkfifo(tree.path("pipe"))
    tree.write("late/file", b"x")
    tree.path("late").chmod(0o500)
    assert recovered(tree, to).there == 0
    before = {path: path.lstat() for path in to.rglob("*")}
    tally = recovered(tree, to)
    assert (tally.files, tally.there, tally.bytes, tally.damaged) == (5, 5, 0, [])
    for path, status in before.items():
        assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    assert stat.S_IMODE((to / "late").stat().st_mode) == 0o500


def test_the_second_time_goes_on_where_the_first_was_cut_off(tree: EncryptedTree, to: Path) -> None:
    for number in range(600):
        tree.write(f"file {number:03}", b"x")

    def pull_the_plug(tally: Tally) -> None:
        if tally.files >= 256:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recovered(tree, to, tell=pull_the_plug)
    there = len(all_of(to))
    assert 256 <= there < 600
    tally = recovered(tree, to)
    assert (tally.files, tally.there) == (600, there)
    assert set(all_of(to).values()) == {b"x"}


def test_a_draft_of_a_killed_recovery_is_never_found_and_goes_away(tree: EncryptedTree, to: Path) -> None:
    tree.write("letter", b"dear")
    (to / FOLDER).mkdir()
    (to / FOLDER / "0").write_bytes(b"half a le")
    assert recovered(tree, to).damaged == []
    assert all_of(to) == {"letter": b"dear"}


def test_one_recovery_at_a_time_writes_to_a_directory(tree: EncryptedTree, to: Path) -> None:
    with closing(os.open(to, DIRECTORY)) as target, drafts(target), pytest.raises(NotNowError):
        recovered(tree, to)


def test_a_file_that_is_there_and_another_is_never_overwritten(tree: EncryptedTree, to: Path) -> None:
    for name in ("file", "same time", "same size", "folder", "link", "other link"):
        tree.write(name, b"from the backup") if "link" not in name else tree.link(name, b"here")
    (to / "file").write_bytes(b"mine")
    (to / "same time").write_bytes(b"mine too")
    os.utime(to / "same time", (1_325_376_000, 1_325_376_000))
    (to / "same size").write_bytes(b"from yesterday!")
    (to / "folder").mkdir()
    (to / "link").write_bytes(b"mine")
    (to / "other link").symlink_to("there")
    tally = recovered(tree, to)
    assert set(damage(tally)) == {"file", "same time", "same size", "folder", "link", "other link"}
    assert all("something else of that name" in why for why in damage(tally).values())
    assert all_of(to) == {
        "file": b"mine",
        "link": b"mine",
        "same size": b"from yesterday!",
        "same time": b"mine too",
    }


def test_nothing_is_written_through_a_symbolic_link(tree: EncryptedTree, to: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (to / "folder").symlink_to(outside)
    tree.write("folder/file", b"x")
    tree.write("other", b"x")
    tally = recovered(tree, to)
    assert list(damage(tally)) == ["folder"]
    assert list(outside.iterdir()) == []
    assert all_of(to) == {"other": b"x"}


def test_the_folder_of_drafts_is_no_symbolic_link(tree: EncryptedTree, to: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (to / FOLDER).symlink_to(outside)
    tree.write("file", b"x")
    with pytest.raises(UsbbackupError, match=FOLDER):
        recovered(tree, to)
    assert list(outside.iterdir()) == [outside / "precious"]


def test_damaged_files_are_named_and_all_others_recovered(tree: EncryptedTree, to: Path) -> None:
    for name in ("whole", "cut off", "no header", "strange", "folder/whole"):
        tree.write(name, b"x" * 5000)
    os.truncate(tree.path("cut off"), 12288)
    tree.path("no header").write_bytes(b"\0" * 16384)
    damaged_name = tree.path("strange").with_name("ECRYPTFS_FNEK_ENCRYPTED.FWaIV")
    tree.path("strange").rename(damaged_name)
    link = tree.path("link")
    link.symlink_to("ECRYPTFS_FNEK_ENCRYPTED.damaged")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tree.lower)  # its whole path would be too long for a socket's
        server.bind("s")
        os.chdir(here)
    tally = recovered(tree, to)
    told = damage(tally)
    assert set(told) == {"cut off", "no header", damaged_name.name, "link", "s"}
    assert told["cut off"] == "is cut off: 12288 of 16384 bytes are there"
    assert "keeps its encrypted name" in told[damaged_name.name]
    assert "socket" in told["s"]
    assert set(all_of(to)) == {"whole", "folder/whole", damaged_name.name}
    assert set(all_of(to).values()) == {b"x" * 5000}


def test_two_entries_of_one_plain_name_are_both_recovered(tree: EncryptedTree, to: Path) -> None:
    tree.write("file", b"encrypted")
    (tree.lower / "file").write_bytes(b"never encrypted")
    tally = recovered(tree, to)
    assert sorted(all_of(to).values()) == [b"encrypted", b"never encrypted"]
    assert len(tally.damaged) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tree: EncryptedTree, to: Path) -> None:
    tree.write("file", b"x").chmod(0)
    tree.write("folder/file", b"x")
    tree.path("folder").chmod(0)
    tally = recovered(tree, to)
    assert set(damage(tally)) == {"file", "folder"}
    tree.path("folder").chmod(0o700)


def test_attributes_of_a_file_that_may_not_be_written_to_come_back(tree: EncryptedTree, to: Path) -> None:
    path = tree.write("file", b"x")
    try:
        os.setxattr(path, "user.note", b"kept")
    except OSError:
        pytest.skip("the file system for temporary files has no extended attributes")
    path.chmod(0o400)
    assert recovered(tree, to).bare == 0
    assert os.getxattr(to / "file", "user.note") == b"kept"


def test_a_folder_too_deep_is_named(tree: EncryptedTree, to: Path) -> None:
    folder, made = os.open(tree.lower, DIRECTORY), []
    for _ in range(DEEPEST + 1):
        os.mkdir("d", dir_fd=folder)
        made.append(folder)
        folder = os.open("d", DIRECTORY, dir_fd=folder)
    for fd in (*made, folder):
        os.close(fd)
    [(path, why)] = recovered(tree, to).damaged
    assert (len(path), why) == (DEEPEST, f"lies deeper than {DEEPEST} folders")


@pytest.mark.parametrize("last", [b"last", b"", b"\0" * 5000])
def test_holes_stay_holes(tree: EncryptedTree, to: Path, last: bytes) -> None:
    plain = b"first".ljust(3 << 20, b"\0") + last
    tree.write("sparse", plain)
    recovered(tree, to)
    assert (to / "sparse").read_bytes() == plain
    assert (to / "sparse").stat().st_blocks * 512 < 1 << 20


def test_hard_links_are_one_file_again(tree: EncryptedTree, to: Path) -> None:
    tree.write("one", b"x")
    tree.write("folder/file", b"y")
    tree.path("folder/two").hardlink_to(tree.path("one"))
    tree.path("three").hardlink_to(tree.path("one"))
    assert recovered(tree, to).files == 4
    assert (to / "one").stat().st_nlink == 3
    assert (to / "folder/two").samefile(to / "one")


def test_a_damaged_file_of_two_names_is_damaged_twice(tree: EncryptedTree, to: Path) -> None:
    os.truncate(tree.write("one", b"x" * 5000), 9000)
    tree.path("two").hardlink_to(tree.path("one"))
    assert set(damage(recovered(tree, to))) == {"one", "two"}
    assert all_of(to) == {}


def test_what_the_file_system_does_not_take_is_named(tree: EncryptedTree, to: Path) -> None:
    tree.write("a small", b"x")
    tree.write("b large", b"x" * (1 << 20))
    tree.write("c small", b"x")
    drafts_left = []

    def look(tally: Tally) -> None:
        if tally.damaged:
            drafts_left.append(len(list((to / FOLDER).iterdir())))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        told = damage(recovered(tree, to, tell=look))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert told == {"b large": f"cannot be written: {os.strerror(errno.EFBIG)}"}
    assert max(drafts_left) == 2  # of the two small ones: what has failed takes no room
    assert all_of(to) == {"a small": b"x", "c small": b"x"}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_is_the_end_and_leaves_whole_files_only(tree: EncryptedTree, to: Path) -> None:
    tree.write("a small", b"x")
    tree.write("b large", b"x" * (2 << 20))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(to)], check=True)
    try:
        with pytest.raises(UsbbackupError, match="nothing more can be written: No space left"):
            recovered(tree, to)
        assert all_of(to) in ({}, {"a small": b"x"})
        subprocess.run(["mount", "-o", "remount,size=8m", str(to)], check=True)
        assert recovered(tree, to).damaged == []
        assert all_of(to) == {"a small": b"x", "b large": b"x" * (2 << 20)}
    finally:
        subprocess.run(["umount", str(to)], check=True)


def test_the_contents_need_not_have_encrypted_names(tree: EncryptedTree, to: Path) -> None:
    (tree.lower / "letter").write_bytes(encrypted.file(b"dear", tree.keys))
    (tree.lower / "plain").write_bytes(b"as it is")
    assert recovered(tree, to).damaged == []
    assert all_of(to) == {"letter": b"dear", "plain": b"as it is"}
