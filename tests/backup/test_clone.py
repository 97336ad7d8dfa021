"""Filling a stage: what is linked, what is listed, and that nothing is both."""

import asyncio
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from runs import ROOT
from test_manifest import walked

from usbbackup.backup.manifest import Manifest
from usbbackup.backup.rsync import cloning
from usbbackup.backup.rsync.clone import Order, clone
from usbbackup.clock import SystemClock
from usbbackup.files import Held, nameless
from usbbackup.outcome import Stop


@dataclass
class Job:
    """A source, and the folder of a job with a snapshot of it, made by a plain copy."""

    top: Path

    def __post_init__(self) -> None:
        self.source, self.folder = self.top / "source", self.top / "job"
        self.source.mkdir()
        self.folder.mkdir()

    @property
    def old(self) -> Path:
        return self.folder / "snapshots/S" / str(self.source)[1:]

    @property
    def new(self) -> Path:
        return self.folder / "stage" / str(self.source)[1:]

    def snapshot(self) -> Manifest:
        """Copied, one name of a file beside the other; returns what it knows."""
        shutil.copytree(self.source, self.old, symlinks=True)
        (self.folder / "stage").mkdir()
        return Manifest(walked(self.source).flush())

    def order(self) -> Order:
        job = os.open(self.folder, os.O_RDONLY)
        return Order(job, "stage", "snapshots/S", len(os.fsencode(self.source)) + 1, nameless(), nameless())

    def clone(self, before: Manifest | None, *singles: bytes) -> list[str]:
        """Clone, here; returns the list."""
        order = self.order()
        now, ends = growing(self.source)
        self.told = cloning.Filled()
        clone(order, now, ends, before, singles, cloning.Alone(), 2, self.told.count)
        os.close(order.job)
        return listed(order)

    def linked(self) -> set[str]:
        files = [path for path in self.new.rglob("*") if not path.is_dir() or path.is_symlink()]
        return {str(path.relative_to(self.new)) for path in files}


def growing(source: Path) -> tuple[Held, list[int]]:
    """A manifest, and where each of its records ends: as if it were read as it is written."""
    now = walked(source).flush()
    known = Manifest(now)
    return now, [end for _, end in known.parts(len(list(known.records())))]


def listed(order: Order) -> list[str]:
    return sorted(set(os.fsdecode(os.pread(order.listed.fd, 1 << 20, 0)).split("\0")[:-1]))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(tmp_path)
    (made.source / "d/e").mkdir(parents=True)
    for name in ("top", "d/one", "d/two", "d/e/three"):
        (made.source / name).write_text(name)
    return made


def test_what_did_not_change_is_linked_and_nothing_listed(job: Job) -> None:
    before = job.snapshot()
    assert job.clone(before) == []
    assert job.linked() == {"top", "d/one", "d/two", "d/e/three"}
    assert (job.new / "d/one").samefile(job.old / "d/one")


def test_directories_get_owner_mode_and_time(job: Job) -> None:
    (job.source / "d").chmod(0o2750)
    os.utime(job.source / "d", ns=(5, 1_234_567_890_123_456_789))
    if ROOT:
        os.chown(job.source / "d", 1234, 5678)
    job.clone(job.snapshot())
    made, wanted = (job.new / "d").stat(), (job.source / "d").stat()
    assert (made.st_mode, made.st_uid, made.st_gid) == (wanted.st_mode, wanted.st_uid, wanted.st_gid)
    assert made.st_mtime_ns == 1_234_567_890_123_456_789


def test_what_changed_is_listed_and_not_there(job: Job) -> None:
    before = job.snapshot()
    (job.source / "d/one").write_text("other")
    (job.source / "d/e/three").unlink()
    (job.source / "d/#new").touch()
    assert job.clone(before) == ["/d/#new", "/d/one"]
    assert job.linked() == {"top", "d/two"}


def test_a_directory_in_which_nothing_is_linked_is_listed_whole(job: Job) -> None:
    before = job.snapshot()
    (job.source / "d/one").write_text("other")
    (job.source / "d/two").write_text("other")
    (job.source / "top").write_text("other")
    assert job.clone(before) == ["./", "/d/"]


def test_a_renamed_directory_is_linked_under_its_new_name(job: Job) -> None:
    before = job.snapshot()
    (job.source / "d").rename(job.source / "renamed")
    assert job.clone(before) == []
    assert (job.new / "renamed/e/three").samefile(job.old / "d/e/three")


def test_one_name_of_a_file_listed_all_are(job: Job) -> None:
    os.link(job.source / "top", job.source / "d/same")
    (job.source / "more").touch()
    before = job.snapshot()
    (job.old / "top").unlink()
    assert job.clone(before) == ["/d/same", "/top"]
    assert job.linked() == {"more", "d/one", "d/two", "d/e/three"}


def test_a_single_file_is_always_listed_with_all_its_names(job: Job) -> None:
    os.link(job.source / "top", job.source / "d/same")
    before = job.snapshot()
    assert job.clone(before, os.fsencode(job.source / "top")) == ["/d/same", "/top"]
    assert job.linked() == {"d/one", "d/two", "d/e/three"}


def test_what_the_snapshot_lost_is_listed(job: Job) -> None:
    before = job.snapshot()
    (job.old / "d/one").unlink()
    shutil.rmtree(job.old / "d/e")
    assert job.clone(before) == ["/d/e/", "/d/one"]


@pytest.mark.parametrize("name", ["d", "d/e"])
def test_a_symbolic_link_in_the_snapshot_is_never_followed(job: Job, name: str) -> None:
    before = job.snapshot()
    aside = job.top / "aside"
    (job.old / name).rename(aside)
    (job.old / name).symlink_to(aside)
    assert "/d/e/" in job.clone(before)
    assert "d/e/three" not in job.linked()


def test_directories_with_attributes_are_left_to_rsync(job: Job) -> None:
    os.setxattr(job.source / "d", "user.note", b"x")
    assert job.clone(job.snapshot()) == ["/d"]
    assert "d/one" in job.linked()


def test_a_default_acl_of_the_folder_is_not_inherited(job: Job) -> None:
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, mode, who)
        for tag, mode, who in (
            (1, 7, ~0 & 0xFFFFFFFF),
            (2, 7, 1234),
            (4, 5, 0xFFFFFFFF),
            (16, 7, 0xFFFFFFFF),
            (32, 0, 0xFFFFFFFF),
        )
    )
    before = job.snapshot()
    try:
        os.setxattr(job.folder / "stage", "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("the file system knows no access control lists")
    job.clone(before)
    assert os.listxattr(job.new / "d") == []


def test_without_a_manifest_all_that_the_snapshot_holds_is_linked(job: Job) -> None:
    job.snapshot()
    (job.source / "d/one").write_text("other")
    (job.source / "d/new").touch()
    assert job.clone(None) == ["/d/new"]
    assert job.linked() == {"top", "d/one", "d/two", "d/e/three"}


def test_what_lies_very_deep_is_left_to_rsync(job: Job) -> None:
    deep = job.source / Path(*["x"] * 210)
    deep.mkdir(parents=True)
    (deep / "file").touch()
    recorder = walked(job.source)
    (job.folder / "snapshots/S").mkdir(parents=True)
    (job.folder / "stage").mkdir()
    found = job.clone(Manifest(recorder.flush()))
    assert f"/{deep.relative_to(job.source)}/" in found


def test_processes_do_what_a_thread_does(job: Job) -> None:
    for number in range(30):
        folder = job.source / f"{number}"
        folder.mkdir()
        (folder / "same").write_text("same")
        (folder / "other").write_text("same")
    before = job.snapshot()
    for number in range(30):
        (job.source / f"{number}/other").write_text("other")
    here = job.clone(before)
    linked = job.linked()
    shutil.rmtree(job.folder / "stage")
    (job.folder / "stage").mkdir()

    order = job.order()
    now, ends = growing(job.source)
    wish = cloning.Wish(order, now, ends, before, (), 64)
    filled = cloning.Filled()
    ended = asyncio.run(run(cloning.program(order.job, wish), filled))
    os.close(order.job)

    assert ended.code == 0, ended
    assert (listed(order), job.linked()) == (here, linked)
    assert (filled.linked, filled.listed, filled.errno) == (len(linked), len(here), None)


def test_processes_say_what_is_wrong_with_the_drive(job: Job) -> None:
    before = job.snapshot()
    job.new.mkdir(parents=True)
    (job.new / "top").touch()
    order = job.order()
    wish = cloning.Wish(order, *growing(job.source), before, (), 4)
    filled = cloning.Filled()
    assert asyncio.run(run(cloning.program(order.job, wish), filled)).code == 1
    os.close(order.job)
    assert filled.errno == 17, "something stands where nothing should"


async def run(program, filled: cloning.Filled):
    from usbbackup.programs import Lines, SystemPrograms

    programs = SystemPrograms(SystemClock(), os.environ)
    return await programs.run(program, stop=Stop(), on_stdout=Lines(filled.hear))
