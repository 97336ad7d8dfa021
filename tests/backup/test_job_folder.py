"""The folder of one job: names, order, stages."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.backup import layout
from usbbackup.backup.layout import Stage
from usbbackup.clock import compact_utc
from usbbackup.folders import LayoutError

T1, T2, T3 = "2026-11-23T101500Z", "2026-11-23T101501Z", "1970-01-01T000000Z"


@pytest.fixture
def job(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def publish(job: int, time: str) -> None:
    stage = layout.make_stage(job, time)
    layout.announce(job, time)
    layout.publish(job, stage)


def test_the_order_is_that_of_publishing_and_not_of_the_clock(job: int) -> None:
    for time in (T2, T3, T1):
        publish(job, time)
    assert layout.published(job) == [T2, T3, T1]


def test_what_was_announced_but_never_published_is_no_snapshot(job: int) -> None:
    publish(job, T1)
    layout.announce(job, T2)
    assert layout.published(job) == [T1]
    publish(job, T3)
    assert layout.published(job) == [T1, T3]


def test_without_its_record_the_times_give_the_order(job: int) -> None:
    for time in (T2, T1):
        publish(job, time)
    os.unlink("published", dir_fd=job)
    assert layout.published(job) == [T1, T2]
    publish(job, T3)
    assert layout.published(job) == [T1, T2, T3]


@pytest.mark.parametrize("content", [b"", b"\xff\x00\n", b"nonsense\n" * 10, b"9" * (2 << 20)])
def test_a_record_full_of_nonsense_does_no_harm(job: int, tmp_path: Path, content: bytes) -> None:
    publish(job, T1)
    (tmp_path / "published").write_bytes(content)
    assert layout.published(job) == [T1]
    publish(job, T3)
    assert layout.published(job) == [T1, T3]


def test_a_pipe_in_place_of_the_record_is_refused_at_once(job: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "published")
    with pytest.raises(LayoutError, match="a pipe"):
        layout.published(job)


def test_only_directories_named_like_a_time_are_snapshots(job: int, tmp_path: Path) -> None:
    publish(job, T1)
    snapshots = tmp_path / "snapshots"
    for name in ("incomplete-" + T2, "2026-1-1T000000Z", "2026-11-23T101500Z.bak", "\uff12026-11-23T101500Z"):
        (snapshots / name).mkdir()
    assert layout.published(job) == [T1]


@pytest.mark.parametrize("kind", [Path.touch, os.mkfifo, lambda path: path.symlink_to(T1)])
def test_what_is_no_folder_in_place_of_a_snapshot_is_refused(job: int, tmp_path: Path, kind) -> None:
    publish(job, T1)
    kind(tmp_path / "snapshots" / T2)
    with pytest.raises(LayoutError, match=T2):
        layout.published(job)


@given(st.floats(0, 4e9))
def test_every_time_can_be_read_back(seconds: float) -> None:
    assert layout.is_time(compact_utc(seconds))


@given(st.text(max_size=25))
def test_no_name_is_too_odd(name: str) -> None:
    assert not layout.is_time(name) or len(name) == 18
    stage = Stage.named(name)
    assert stage is None or stage.name == name


def test_a_free_time_was_never_used(job: int) -> None:
    publish(job, T3)
    layout.make_stage(job, compact_utc(1))
    layout.announce(job, compact_utc(2))
    assert layout.free_time(job, 0.5) == compact_utc(3)


def test_stages_say_how_they_were_left(job: int, tmp_path: Path) -> None:
    stage = layout.make_stage(job, T1)
    assert layout.stages(job) == [Stage(T1)]
    assert stat.S_IMODE((tmp_path / stage.name).stat().st_mode) == 0o700
    layout.mark_synced(job, stage)
    assert layout.stages(job) == [Stage(T1, ".synced")]
    (tmp_path / "incomplete-nonsense").mkdir()
    (tmp_path / f"incomplete-{T1}.other").mkdir()
    assert layout.stages(job) == [Stage(T1, ".synced")]


@pytest.mark.parametrize("kind", [Path.touch, os.mkfifo, lambda path: path.symlink_to("/")])
def test_what_is_no_folder_in_place_of_a_stage_is_refused(job: int, tmp_path: Path, kind) -> None:
    kind(tmp_path / f"incomplete-{T1}")
    with pytest.raises(LayoutError, match="incomplete-"):
        layout.stages(job)
