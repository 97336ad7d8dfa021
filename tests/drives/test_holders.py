"""Who holds a drive, as /proc tells."""

import os

import pytest

from usbbackup.drives.holders import Holder, holders, told


@pytest.fixture
def proc(tmp_path):
    """Two processes: one with nothing on the drive, and one to be furnished."""
    for pid, name in ((7, "quiet"), (12, "vlc\x1b")):
        process = tmp_path / str(pid)
        (process / "fd").mkdir(parents=True)
        (process / "comm").write_text(f"{name}\n")
        (process / "maps").write_text(
            "7f00-7f01 r--p 00000000 08:01 5      /usr/lib/libc.so.6\n7f02-7f03 rw-p 0 0 0\n"
        )
        (process / "cwd").symlink_to("/home/david")
        (process / "fd/0").symlink_to("/dev/null")
    (tmp_path / "self").symlink_to("12")
    return tmp_path


@pytest.mark.parametrize("what", ["cwd", "root", "exe", "fd/3"])
def test_an_open_file_or_directory_holds_a_drive(proc, what):
    (proc / "12" / what).unlink(missing_ok=True)
    (proc / "12" / what).symlink_to("/media/my drive/film.mkv")
    assert holders(b"/media/my drive", proc) == [Holder(12, "vlc\\x1b")]
    assert holders(b"/media/my", proc) == []


def test_a_mapped_file_holds_a_drive(proc):
    (proc / "7/maps").write_text("7f00-7f01 r-xp 00000000 08:11 5             /media/my drive/bin/tool\n")
    assert holders(b"/media/my drive", proc) == [Holder(7, "quiet")]


def test_a_process_that_ends_meanwhile_or_is_anothers_is_no_trouble(proc):
    (proc / "12/fd/0").unlink()
    (proc / "12/fd").rmdir()
    assert holders(b"/home/david", proc) == [Holder(7, "quiet")]


def test_the_real_proc_shows_this_process(tmp_path):
    with (tmp_path / "open").open("w"):
        assert os.getpid() in [holder.pid for holder in holders(os.fsencode(tmp_path))]


def test_several_are_named_and_many_are_counted():
    some = [Holder(number, f"p{number}") for number in range(1, 6)]
    assert told(some[:2]) == "p1 (process 1) and p2 (process 2)"
    assert told(some) == "p1 (process 1), p2 (process 2), p3 (process 3) and 2 more"
