"""What comes back is what was there, whichever engine kept it, and nothing else is touched."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from runs import Place, everything
from shelf import ENGINES, NAMES, Shelf, freed, planted

from usbbackup.backup.entry import Kind
from usbbackup.backup.restore import PREFIX
from usbbackup.config import JobConfig
from usbbackup.errors import NotNowError, UsageError

pytestmark = pytest.mark.skipif(not ENGINES, reason="neither rsync nor borg is installed")


@pytest.fixture(params=ENGINES)
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    """Of each engine."""
    with filled(request.param) as found:
        yield found


@pytest.fixture
def plain() -> Iterator[Shelf]:
    """Of rsync, where the engine makes no difference: a borg takes a second for each question."""
    with filled(ENGINES[0]) as found:
        yield found


@contextmanager
def filled(engine: str) -> Iterator[Shelf]:
    with tempfile.TemporaryDirectory(prefix="usbbackup-", dir="/var/tmp") as top:
        more = {"encryption": "none"} if engine == "borg" else {}
        place = Place(Path(top), job=JobConfig(name="home", engine=engine, **more))
        planted(place.source)
        place.clock.wall = time.time() - 3600  # before anything that the test will do
        result = place.run()
        assert result.outcome.good, result
        yield Shelf(place)
        freed(Path(top))


def names(paths: list[bytes]) -> list[bytes]:
    return [path.rpartition(b"/")[2] for path in paths]


def leftovers(shelf: Shelf) -> list[str]:
    return [name for _, names, _ in os.walk(shelf.place.top) for name in names if name.startswith(PREFIX)]


def test_everything_comes_back_as_it_was(shelf: Shelf) -> None:
    done = shelf.restore()
    assert done.whole, done
    assert everything(shelf.where()) == everything(shelf.place.source)
    assert leftovers(shelf) == []
    sparse = (shelf.where("sparse")).stat()
    assert sparse.st_blocks * 512 < sparse.st_size  # borg makes holes of whole chunks only


def test_what_leads_to_the_sources_is_as_it_was(plain: Shelf) -> None:
    plain.restore("letters/one.txt")
    for original in [plain.place.source, *plain.place.source.parents][:-1]:
        restored = Path(f"{plain.target}{original}")
        assert restored.stat().st_mode == original.stat().st_mode, original
    assert everything(plain.where())["letters"][2] == everything(plain.place.source)["letters"][2]


def test_one_file_comes_alone(shelf: Shelf) -> None:
    done = shelf.restore("letters/deep/same.txt")
    assert done.whole
    assert [path.name for path in shelf.where().rglob("*")] == ["letters", "deep", "same.txt"]
    assert shelf.where("letters/deep/same.txt").read_text() == "one\n"


def test_every_name_can_be_asked_for(shelf: Shelf) -> None:
    assert shelf.restore(*map(os.fsdecode, NAMES)).whole
    assert {os.fsencode(path.name) for path in shelf.where().iterdir()} == set(NAMES)
    assert all(shelf.where(os.fsdecode(name)).read_bytes() == name for name in NAMES)


def test_what_is_not_in_the_snapshot_is_said(plain: Shelf) -> None:
    with pytest.raises(UsageError, match="is not in the snapshot"):
        plain.restore("letters/three.txt")


def test_nothing_is_replaced_unless_that_is_wanted(plain: Shelf) -> None:
    plain.restore()
    plain.where("letters/one.txt").unlink()
    plain.where("letters/one.txt").write_text("mine\n")
    plain.where("#x").unlink()
    done = plain.restore()
    assert names(done.kept) == [b"one.txt"]
    assert plain.where("letters/one.txt").read_text() == "mine\n"
    assert plain.where("#x").read_bytes() == b"#x"
    assert done.made == 1


def test_overwriting_replaces_what_differs_and_only_that(shelf: Shelf) -> None:
    shelf.restore()
    before = shelf.where("letters/deep/er/two.bin").stat().st_ino
    shelf.where("letters/one.txt").unlink()
    shelf.where("letters/one.txt").write_text("mine\n")
    shelf.where("link").unlink()
    shelf.where("link").mkdir()
    shelf.where("nowhere").unlink()
    shelf.where("nowhere").write_text("a file")
    shelf.where("letters").chmod(0o711)
    os.setxattr(shelf.where("letters"), "user.kind", b"other")
    done = shelf.restore(overwrite=True)
    assert names(done.kept) == [b"link"]  # a directory is never removed
    assert shelf.where("link").is_dir()
    shelf.where("link").rmdir()
    assert shelf.restore(overwrite=True).whole
    restored, original = everything(shelf.where()), everything(shelf.place.source)
    assert restored == original
    if shelf.place.job.engine == "rsync":  # borg cannot compare, and replaces what was touched since
        assert shelf.where("letters/deep/er/two.bin").stat().st_ino == before


def test_a_file_that_only_looks_the_same_is_replaced(shelf: Shelf) -> None:
    shelf.restore()
    file = shelf.where("letters/deep/er/two.bin")
    found = file.stat()
    file.write_bytes(bytes(found.st_size))
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    shelf.restore(overwrite=True)
    assert file.read_bytes() == (shelf.place.source / "letters/deep/er/two.bin").read_bytes()


def test_it_goes_on_from_where_it_was_cut_off(plain: Shelf) -> None:
    def cut(plan: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        plain.restore(between=cut)
    plain.restore("letters")
    stage = plain.target / f"{PREFIX}{'0' * 8}-{'0' * 8}"
    stage.mkdir()
    done = plain.restore()
    assert done.whole
    assert everything(plain.where()) == everything(plain.place.source)
    assert stage.exists()  # it is of another snapshot


def test_a_new_name_of_a_file_that_is_there_is_the_same_file_again(plain: Shelf) -> None:
    plain.restore()
    plain.where("letters/deep/same.txt").unlink()
    plain.restore()
    assert plain.where("letters/deep/same.txt").stat().st_ino == plain.where("letters/one.txt").stat().st_ino


def test_no_link_in_the_target_is_followed(plain: Shelf) -> None:
    outside = plain.place.top / "outside"
    outside.mkdir()
    plain.where().parent.mkdir(parents=True)
    plain.where().symlink_to(outside)
    done = plain.restore()
    assert os.fsencode(plain.place.source)[1:] in done.kept
    assert list(outside.iterdir()) == []
    plain.restore(overwrite=True)
    assert list(outside.iterdir()) == []
    assert not plain.where().is_symlink()


def test_what_appears_between_planning_and_doing_is_kept(plain: Shelf) -> None:
    plain.restore("letters")

    def appear(plan: object) -> None:
        plain.where("#x").write_text("mine")

    done = plain.restore("#x", "-rf", between=appear)
    assert names(done.kept) == [b"#x"]
    assert plain.where("#x").read_text() == "mine"
    assert plain.where("-rf").read_bytes() == b"-rf"


def test_too_little_room_is_said_before_anything_is_written(plain: Shelf) -> None:
    def enormous(plan) -> None:
        plan.entries = [
            entry._replace(room=1 << 60) if entry.kind is Kind.FILE else entry for entry in plan.entries
        ]

    with pytest.raises(NotNowError, match="are missing"):
        plain.restore(between=enormous)
    assert [path.name for path in plain.target.iterdir() if not path.name.startswith(PREFIX)] == []


def test_the_bytes_of_a_file_can_be_read(shelf: Shelf) -> None:
    path = os.fsencode(shelf.place.source)[1:] + b"/letters/deep/er/two.bin"
    pieces: list[bytes] = []
    shelf.with_snapshot(lambda snapshot: snapshot.read(path, pieces.append))
    assert b"".join(pieces) == (shelf.place.source / "letters/deep/er/two.bin").read_bytes()


def test_both_engines_tell_the_same_of_the_same_entries() -> None:
    if len(ENGINES) < 2:
        pytest.skip("rsync or borg is not installed")
    with tempfile.TemporaryDirectory(prefix="usbbackup-", dir="/var/tmp") as top:
        place = Place(Path(top), job=JobConfig(name="home", engine="rsync"))
        planted(place.source)
        place.run()
        by_rsync = Shelf(place).entries()
        place.job = JobConfig(name="other", engine="borg", sources=place.job.sources, encryption="none")
        place.run()
        by_borg = Shelf(place, "other").entries()
        freed(Path(top))

    def told(entries) -> list:
        return [entry._replace(node=b"", content=b"", room=0) for entry in entries]

    source = os.fsencode(place.source)[1:]
    assert told(by_rsync)[len(source.split(b"/")) :] == told(by_borg)[len(source.split(b"/")) :]


def test_only_what_is_asked_for_is_listed_with_what_leads_there(shelf: Shelf) -> None:
    source = os.fsencode(shelf.place.source)[1:]
    found = [entry.path for entry in shelf.entries([source + b"/letters/deep"])]
    leading = [b"/".join(source.split(b"/")[:depth]) for depth in range(1, source.count(b"/") + 2)]
    assert found == [
        *leading,
        *(source + b"/letters" + path for path in (b"", b"/deep", b"/deep/er", b"/deep/er/two.bin")),
        source + b"/letters/deep/same.txt",
    ]


def test_snapshots_are_listed_with_what_names_them(shelf: Shelf) -> None:
    shelf.place.run()
    names = [snapshot.snapshot for snapshot in shelf.snapshots()]
    assert len(names) == 2
    assert names == sorted(names)
