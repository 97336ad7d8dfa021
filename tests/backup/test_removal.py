"""Removing trees: aside first, then gone, whatever is in them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from usbbackup.backup import removal
from usbbackup.folders import LayoutError

T1, T2 = "2026-11-23T101500Z", "2026-11-23T101501Z"
ROOT = os.geteuid() == 0


@pytest.fixture
def job(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "snapshots" / T1).mkdir(parents=True)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def go_on() -> None:
    """Nothing says that the drive must be let go of."""


def set_apart(job: int) -> None:
    snapshots = os.open("snapshots", os.O_RDONLY, dir_fd=job)
    removal.set_apart(job, snapshots, T1)
    os.close(snapshots)


def test_what_is_set_apart_is_no_snapshot_any_more_and_goes_with_the_next_sweep(
    job: int, tmp_path: Path
) -> None:
    (tmp_path / "snapshots" / T1 / "f").touch()
    set_apart(job)
    assert list((tmp_path / "snapshots").iterdir()) == []
    assert (tmp_path / f"incomplete-{T1}.removed/f").exists()
    assert removal.sweep(job, go_on) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["snapshots"]


def test_the_same_name_can_be_set_apart_twice(job: int, tmp_path: Path) -> None:
    set_apart(job)
    (tmp_path / "snapshots" / T1).mkdir()
    set_apart(job)
    (tmp_path / f"incomplete-{T2}").mkdir()
    removal.set_apart(job, job, f"incomplete-{T2}")
    assert removal.sweep(job, go_on) == 3


def test_every_kind_of_entry_goes_and_nothing_outside(job: int, tmp_path: Path) -> None:
    tree, outside = tmp_path / "snapshots" / T1, tmp_path / "outside"
    outside.mkdir()
    (outside / "f").touch()
    (tree / "link").symlink_to(outside)
    os.mkfifo(tree / "fifo")
    os.link(outside / "f", tree / "hard")
    for name in (b"\xff", b"new\nline", b"-rf"):
        (tree / os.fsdecode(name)).mkdir()
        (tree / os.fsdecode(name) / os.fsdecode(name)).touch()
    for mode in (0o000, 0o500, 0o300):
        (tree / f"{mode}").mkdir()
        (tree / f"{mode}/f").touch()
        (tree / f"{mode}").chmod(mode)
    tree.chmod(0o500) if ROOT else None
    set_apart(job)
    removal.sweep(job, go_on)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "snapshots"]
    assert (outside / "f").stat().st_nlink == 1


def test_a_tree_deeper_than_descriptors_and_paths_reach_goes(job: int) -> None:
    fd = os.open(f"snapshots/{T1}", os.O_RDONLY, dir_fd=job)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=fd)
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    set_apart(job)
    removal.sweep(job, go_on)
    assert os.listdir(job) == ["snapshots"]


def test_letting_go_leaves_the_rest_for_the_next_time(job: int, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "snapshots" / T1 / f"{number}").mkdir()
    set_apart(job)
    calls = iter(range(3))

    def check() -> None:
        next(calls)

    with pytest.raises(StopIteration):
        removal.sweep(job, check)
    assert 0 < len(list((tmp_path / f"incomplete-{T1}.removed").iterdir())) < 5
    assert removal.sweep(job, go_on) == 1


def test_a_symlink_in_place_of_a_tree_is_refused(job: int, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / f"incomplete-{T1}.removed").symlink_to("outside")
    with pytest.raises(LayoutError):
        removal.sweep(job, go_on)
    assert (tmp_path / "outside").is_dir()


@pytest.mark.root
@pytest.mark.skipif(not ROOT or shutil.which("mount") is None, reason="mounting needs root")
def test_what_somebody_mounted_into_a_tree_is_not_emptied(job: int, tmp_path: Path) -> None:
    import subprocess

    inner, other = tmp_path / "snapshots" / T1 / "d", tmp_path / "other"
    inner.mkdir()
    other.mkdir()
    (other / "precious").touch()
    set_apart(job)
    point = tmp_path / f"incomplete-{T1}.removed/d"
    subprocess.run(["mount", "--bind", str(other), str(point)], check=True)
    try:
        with pytest.raises(LayoutError):
            removal.sweep(job, go_on)
    finally:
        subprocess.run(["umount", str(point)], check=True)
    assert (other / "precious").exists()
