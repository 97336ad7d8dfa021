"""The rsync engine with the real rsync: what lies on the drive after each run."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from runs import ROOT, Place, everything

from usbbackup.outcome import Outcome, Phase

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")

HOSTILE = [
    *(
        b"#x",
        b";x",
        b"-x",
        b"--delete",
        b"new\nline",
        b"cr\rname",
        b"caf\xe9",
        b"\xff\xfe",
        b" lead",
        b"trail ",
    ),
    *(
        b"\\#012",
        b"\\#999",
        b"esc\x1b[31m",
        b"a => b",
        b"a -> b",
        b"d:e",
        b"*?[a]",
        b"...",
        b"~",
        b"@x",
        b"'\"",
    ),
    *("ü".encode(), "\u202e".encode(), b"x" * 255),
]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    (made.source / "d/e").mkdir(parents=True)
    (made.source / "d/file").write_text("one")
    (made.source / "top").write_text("two")
    return made


def test_the_first_snapshot_equals_the_source_in_everything(place: Place) -> None:
    source = place.source
    (source / "link").symlink_to("d/nowhere")
    os.mkfifo(source / "fifo", 0o640)
    os.link(source / "top", source / "d/e/same as top")
    (source / "secret").write_text("x")
    (source / "secret").chmod(0o4400)
    (source / "read only").mkdir()
    (source / "read only/f").touch()
    (source / "read only").chmod(0o500)
    os.setxattr(source / "top", "user.note", b"\x00\xff")
    os.setxattr(source / "d", "user.dir", b"yes")
    for path, when in ((source / "top", 123456789), (source / "d", 1), (source, 987654321123456789)):
        os.utime(path, ns=(when, when))
    os.utime(source / "link", ns=(5, 5), follow_symlinks=False)

    result = place.run()

    assert (result.outcome, result.notes) == (Outcome.SUCCESS, ())
    assert result.snapshot == f"home@{place.snapshots()[0].name}"
    assert result.files == 7
    assert everything(place.stored()) == everything(source)
    assert place.stages() == []


def test_the_directories_above_a_source_are_kept_as_they_are(place: Place) -> None:
    os.utime(place.top, ns=(1_000_000_001, 1_000_000_001))
    place.run()
    kept = place.stored(of=place.top).stat()
    assert kept.st_mtime_ns == 1_000_000_001
    assert kept.st_mode == place.top.stat().st_mode


def test_a_snapshot_is_for_its_owner_only_whatever_the_source_allows(place: Place) -> None:
    place.run()
    assert place.snapshots()[0].stat().st_mode & 0o777 == 0o700


def test_hostile_names_come_through(place: Place) -> None:
    for name in HOSTILE:
        (place.source / os.fsdecode(name)).write_bytes(name)
        (place.source / "d" / os.fsdecode(name)).mkdir()
        (place.source / "d" / os.fsdecode(name) / os.fsdecode(name)).write_bytes(name)
    for _ in range(2):
        assert place.run().outcome is Outcome.SUCCESS
        assert everything(place.stored()) == everything(place.source)


def test_hostile_names_come_through_one_by_one_too(place: Place) -> None:
    (place.source / "left out.iso").touch()
    (place.source / "d/left out.iso").touch()
    for name in HOSTILE:
        (place.source / os.fsdecode(name)).mkdir()
        (place.source / "d" / os.fsdecode(name)).write_bytes(name)
    place.job = place.with_job(exclude=("*.iso",))
    assert place.run().outcome is Outcome.SUCCESS
    (place.source / "left out.iso").unlink()
    (place.source / "d/left out.iso").unlink()
    known, stored = everything(place.source), everything(place.stored())
    assert stored.keys() == known.keys()
    assert all(stored[name][3] == known[name][3] for name in known)


def test_what_did_not_change_is_shared_with_the_snapshot_before(place: Place) -> None:
    place.run()
    place.run()
    first, second = (place.stored(number) / "top" for number in (0, 1))
    assert first.samefile(second)
    assert place.programs.seen[-1].argv, "the real rsync ran"


def test_a_change_within_the_same_second_and_size_is_seen(place: Place) -> None:
    top = place.source / "top"
    os.utime(top, ns=(1_000_000_000_000_000_001,) * 2)
    place.run()
    top.write_text("TWO")
    os.utime(top, ns=(1_000_000_000_000_000_002,) * 2)
    place.run()
    assert [(place.stored(number) / "top").read_text() for number in (0, 1)] == ["two", "TWO"]


def touch_metadata(source: Path) -> None:
    (source / "top").chmod(0o600)
    os.setxattr(source / "d/file", "user.new", b"1")
    os.utime(source / "link", ns=(7, 7), follow_symlinks=False)
    (source / "fifo").chmod(0o600)


def delete(source: Path) -> None:
    (source / "top").unlink()
    shutil.rmtree(source / "d/e")


def swap_kinds(source: Path) -> None:
    (source / "top").unlink()
    (source / "top").mkdir()
    (source / "top/now a directory").touch()
    shutil.rmtree(source / "d")
    (source / "d").write_text("now a file")
    (source / "link").unlink()
    (source / "link").write_text("now a file")


def regroup(source: Path) -> None:
    (source / "same").unlink()
    os.link(source / "d/file", source / "same")
    os.link(source / "fifo", source / "fifo 2")


def rename(source: Path) -> None:
    (source / "d").rename(source / "renamed")


@pytest.mark.parametrize("change", [touch_metadata, delete, swap_kinds, regroup, rename])
def test_a_change_is_in_the_new_snapshot_and_never_in_the_old(place: Place, change) -> None:
    (place.source / "link").symlink_to("x")
    os.mkfifo(place.source / "fifo")
    os.link(place.source / "top", place.source / "same")
    for number in range(9):
        (place.source / f"more {number}").touch()
    place.run()
    old = everything(place.stored(0))

    change(place.source)
    assert place.run().outcome is Outcome.SUCCESS

    assert everything(place.stored(1)) == everything(place.source)
    assert everything(place.stored(0)) == old


def test_several_sources_and_single_files_share_hard_links(place: Place) -> None:
    other = place.top / "other"
    other.mkdir()
    (other / "alone").write_text("x")
    os.link(place.source / "top", other / "top again")
    place.job = place.with_job(sources=(str(place.source), str(other / "top again")))
    place.run()
    assert (place.stored() / "top").samefile(place.stored(of=other) / "top again")
    assert not (place.stored(of=other) / "alone").exists()


def test_a_source_inside_another_keeps_its_own_excludes(place: Place) -> None:
    place.job = place.with_job(sources=(str(place.source), str(place.source / "d")), exclude=("/top", "/e"))
    (place.source / "d/top").touch()
    place.run()
    stored = sorted(str(path.relative_to(place.stored())) for path in place.stored().rglob("*"))
    assert stored == ["d", "d/file"]


def test_the_order_of_snapshots_is_that_of_publishing_whatever_the_clock_says(place: Place) -> None:
    place.run()
    (place.source / "top").write_text("in 1970")
    place.clock.wall = 0.0
    place.run()
    names = [path.name for path in place.snapshots()]
    assert names[1].startswith("1970-01-01")
    assert (place.stored(-1) / "top").read_text() == "in 1970"
    place.run()
    assert (place.stored(-1) / "top").samefile(place.stored(1) / "top"), (
        "links are made to the last published"
    )


def test_two_runs_in_one_second_do_not_meet(place: Place) -> None:
    place.run()
    place.clock.wall -= 60
    place.run()
    assert len(place.snapshots()) == 2


def test_a_dry_run_writes_nothing_and_tells_what_would_be_copied(place: Place) -> None:
    result = place.run(dry_run=True)
    assert (result.outcome, result.files, result.bytes) == (Outcome.SUCCESS, 2, 6)
    assert list(place.folder.iterdir()) == []
    place.run()
    before = everything(place.folder)
    (place.source / "top").write_text("three")
    result = place.run(dry_run=True)
    assert (result.files, result.bytes, result.snapshot) == (1, 5, None)
    assert everything(place.folder) == before


def test_unreadable_files_make_a_warning_with_their_names(place: Place) -> None:
    for number in range(40):
        (place.source / f"more {number}").touch()
    (place.source / "d/file").chmod(0)
    if ROOT:
        pytest.skip("root may read everything")
    result = place.run()
    assert result.outcome is Outcome.WARNING
    assert result.notes == (f"{place.source}/d/file: Permission denied",)
    assert "1 could not be read" in result.message
    assert not (place.stored() / "d/file").exists()
    assert place.run().outcome is Outcome.WARNING, "and again"


def test_a_source_that_is_gone_fails_and_publishes_nothing(place: Place) -> None:
    place.run()
    before = everything(place.folder)
    shutil.move(place.source, place.top / "elsewhere")
    result = place.run()
    assert result.outcome is Outcome.FAILED
    assert "is missing" in result.message
    assert "--accept-source" in (result.hint or "")
    assert everything(place.folder) == before


def test_an_emptied_or_halved_source_fails_until_it_is_accepted(place: Place) -> None:
    for number in range(4):
        (place.source / f"more {number}").touch()
    place.run()
    for number in range(4):
        (place.source / f"more {number}").unlink()
    result = place.run()
    assert (result.outcome, result.snapshot) == (Outcome.FAILED, None)
    assert "holds 2 files, last time it held 6" in result.message
    assert len(place.snapshots()) == 1
    assert place.run(accept_source=True).outcome is Outcome.SUCCESS
    assert place.run().outcome is Outcome.SUCCESS, "what was accepted is what is expected now"
    shutil.rmtree(place.source)
    place.source.mkdir()
    assert "holds no files" in place.run().message
    assert len(place.snapshots()) == 3


def test_a_doubtful_source_ends_rsync_before_it_copies_anything(place: Place) -> None:
    place.last[str(place.source)] = replace(place_seen(place), files=1000)
    place.run()
    copied = [path for path in place.job_folder.rglob("*") if path.is_file() and path.name != "published"]
    assert copied == []


def place_seen(place: Place):
    place.run()
    seen = place.last[str(place.source)]
    shutil.rmtree(place.job_folder)
    return seen


def test_a_missing_source_can_be_accepted_while_another_is_there(place: Place) -> None:
    place.job = place.with_job(sources=(str(place.source), str(place.top / "none")))
    assert place.run().outcome is Outcome.FAILED
    assert place.run(accept_source=True).outcome is Outcome.SUCCESS
    assert place.run().outcome is Outcome.SUCCESS
    (place.top / "none").mkdir()
    (place.top / "none/f").touch()
    assert place.run().outcome is Outcome.SUCCESS, "it came back"


def test_two_sources_that_lead_to_one_place_are_copied_once(place: Place) -> None:
    (place.top / "link").symlink_to(place.source)
    place.job = place.with_job(sources=(str(place.source), str(place.top / "link")))
    assert place.run().files == 2
    assert place.run().outcome is Outcome.SUCCESS


def test_an_exclude_that_is_no_pattern_fails_with_its_name(place: Place) -> None:
    place.job = place.with_job(exclude=("a\\",))
    assert "'a\\' is no exclude pattern" in place.run().message


def test_the_drive_itself_is_never_copied_onto_itself(place: Place) -> None:
    place.job = place.with_job(sources=(str(place.top),))
    place.run()
    place.run()
    assert list(place.stored(of=place.mount).iterdir()) == []


@pytest.mark.parametrize("name", ["snapshots", "published", "incomplete-2026-01-01T000000Z"])
def test_a_symlink_in_our_folders_is_refused_and_never_followed_or_replaced(place: Place, name: str) -> None:
    elsewhere = place.top / "elsewhere"
    elsewhere.mkdir()
    place.job_folder.mkdir()
    (place.job_folder / name).symlink_to(elsewhere)
    result = place.run()
    assert result.outcome is Outcome.FAILED, result
    assert (place.job_folder / name).is_symlink()
    assert list(elsewhere.iterdir()) == []


def test_the_phases_come_in_order(place: Place) -> None:
    place.run()
    phases = list(dict.fromkeys(progress.phase for progress in place.progress))
    assert phases == [Phase.PROBE, Phase.STAGE, Phase.TRANSFER, Phase.SYNC, Phase.PUBLISH]
    assert place.progress[-3].percent == 100.0


def test_a_second_run_of_the_job_does_not_write_beside_the_first(place: Place) -> None:
    def again(progress) -> None:
        if progress.phase is Phase.SYNC:
            others.append(os.open(place.job_folder, os.O_RDONLY))

    import fcntl

    others: list[int] = []
    place.job_folder.mkdir()
    holder = os.open(place.job_folder, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert "another run" in place.run().message
    os.close(holder)
    assert place.run().outcome is Outcome.SUCCESS


def test_rsync_runs_in_the_jobs_folder_and_may_write_nowhere_else(place: Place) -> None:
    place.run()
    for program in place.programs.seen:
        assert program.sandbox is not None
        assert program.sandbox.directories == (program.cwd_fd,)
        assert not os.fsencode(program.argv[-1]).startswith(b"/")


def test_time_stands_in_the_name_of_a_snapshot(place: Place) -> None:
    place.run()
    assert place.snapshots()[0].name == time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime(place.clock.wall))
