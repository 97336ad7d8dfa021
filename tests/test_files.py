"""Files of ours at home."""

import os
import stat

import pytest

from usbbackup.files import write_atomically


def test_a_file_is_replaced_whole_and_for_the_user_alone(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old and long")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it_where_that_is_wanted_whatever_the_umask_is(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"new", mode=0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    (tmp_path / "file.new").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_symbolic_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "file").symlink_to("precious")
    (tmp_path / "precious").write_text("precious")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "file").is_symlink()
