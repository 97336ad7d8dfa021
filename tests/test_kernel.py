"""What we ask Linux beside the standard library."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from usbbackup import kernel


def test_the_mount_id_of_a_descriptor_is_a_row_of_the_mount_table():
    fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    try:
        found = kernel.mount_id(fd)
    finally:
        os.close(fd)
    rows = {
        line.split()[0]: line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
    }
    assert rows[str(found)] == "/proc"


def test_asking_for_the_mount_id_of_a_closed_descriptor_raises():
    with pytest.raises(OSError, match="No such file"):
        kernel.mount_id(10**6)


def test_unique_mount_ids_differ_between_mounts_and_agree_on_one():
    one, two, other = (os.open(path, os.O_PATH) for path in ("/proc", "/proc/self", "/"))
    try:
        ids = [kernel.unique_mount_id(fd) for fd in (one, two, other)]
    finally:
        for fd in (one, two, other):
            os.close(fd)
    if ids[0] is None:
        pytest.skip("Linux before 6.8 has no unique mount ids")
    assert ids[0] == ids[1] != ids[2]


def test_syncfs_writes_out_the_file_system_of_an_open_directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        kernel.syncfs(fd)
    finally:
        os.close(fd)


def test_syncfs_on_a_path_descriptor_raises_the_kernels_error(tmp_path):
    fd = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            kernel.syncfs(fd)
    finally:
        os.close(fd)


def test_the_boot_id_is_a_uuid():
    assert re.fullmatch(r"[0-9a-f-]{36}", kernel.boot_id())


def test_a_process_has_a_start_time_and_a_reaped_one_has_none():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    ours = kernel.process_start_time(os.getpid())
    theirs = kernel.process_start_time(child.pid)
    assert ours is not None
    assert theirs is not None
    assert theirs >= ours
    child.communicate()
    assert kernel.process_start_time(child.pid) is None


def test_a_process_name_with_spaces_and_brackets_does_not_hide_its_start_time(tmp_path):
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/cat")
    child = subprocess.Popen([odd], stdin=subprocess.PIPE)
    try:
        assert kernel.process_start_time(child.pid) >= kernel.process_start_time(os.getpid())
    finally:
        child.communicate()


def test_a_local_file_system_is_not_taken_for_a_network():
    assert not kernel.on_network(Path("/proc"))
    with pytest.raises(FileNotFoundError):
        kernel.on_network(Path("/no/such/path"))
