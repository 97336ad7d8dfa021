"""Manifests: what they tell again, what counts as changed, and that half of one is none."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.backup.manifest import Directory, Manifest, Recorder
from usbbackup.backup.matcher import Matcher
from usbbackup.backup.scan import Scan
from usbbackup.backup.sources import Place
from usbbackup.backup.walk import Rules
from usbbackup.files import Held, append, nameless
from usbbackup.outcome import Stop

LATER = 4_000_000_000 * 10**9  # long after all that a test makes: nothing has only just changed
BINDING = {"snapshot": "S"}


def walked(top: Path, began: int = LATER) -> Recorder:
    rules = Rules(Matcher(()), False, {}, frozenset(), Stop())
    path = os.fsencode(top)
    recorder = Recorder(began)
    for group in Scan([Place(str(top), path, True, top.stat().st_dev, None)], rules).groups(closely=True):
        recorder.add(group)
    return recorder


def read(recorder: Recorder) -> Manifest:
    manifest = Manifest.sealed(recorder.seal(BINDING))
    manifest.index()
    return manifest


def of(manifest: Manifest, path: Path) -> Directory:
    return next(one for one in manifest.records() if one.path == os.fsencode(path))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir(0o750)
    (tmp_path / "d/file").write_text("one")
    (tmp_path / "d/link").symlink_to("file")
    (tmp_path / "new\nline").write_text("three")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_it_tells_again_what_was_there(top: Path) -> None:
    recorder = walked(top)
    manifest = read(recorder)
    assert [os.fsdecode(one.path) for one in manifest.records()] == [str(top), f"{top}/d", f"{top}/empty"]
    assert [one.files() for one in manifest.records()] == [[b"new\nline"], [b"file", b"link"], []]
    found = of(manifest, top / "d")
    assert (found.mode & 0o7777, found.whole, found.adorned) == (0o750, True, False)
    assert (found.inode, found.mtime) == ((top / "d").stat().st_ino, (top / "d").stat().st_mtime_ns)
    assert (recorder.files, recorder.bytes) == (3, len("three") + len("one") + len("file"))
    assert manifest.binding == BINDING


def test_what_did_not_change_is_known_and_what_did_is_not(top: Path) -> None:
    before = read(walked(top))
    (top / "d/file").chmod(0o600)
    (top / "d/more").touch()
    now = of(read(walked(top)), top / "d")
    assert now.unchanged(before.before(now)) == [b"link"]
    now = of(read(walked(top)), top)
    assert now.unchanged(before.before(now)) == [b"new\nline"]


def test_a_new_name_of_a_file_is_a_change_of_all_its_names(top: Path) -> None:
    before = read(walked(top))
    os.link(top / "d/file", top / "other")
    now = of(read(walked(top)), top / "d")
    assert now.unchanged(before.before(now)) == [b"link"]
    assert [inode & 1 for inode in now.inodes()] == [1, 0]


def test_a_renamed_directory_is_known_by_its_inode(top: Path) -> None:
    before = read(walked(top))
    (top / "d").rename(top / "e")
    now = of(read(walked(top)), top / "e")
    found = before.before(now)
    assert found is not None
    assert found.path == os.fsencode(top / "d")
    assert now.unchanged(found) == [b"file", b"link"]


def test_what_had_only_just_changed_counts_as_changed_however_often_it_is_looked_at(top: Path) -> None:
    began = max((top / "d/file").stat().st_ctime_ns, (top / "d/link").lstat().st_ctime_ns)
    before = read(walked(top, began))
    for now in (began, began + 1, LATER):
        found = of(read(walked(top, now)), top / "d")
        assert found.unchanged(before.before(found)) == []


def test_attributes_of_a_directory_are_noted(top: Path) -> None:
    os.setxattr(top / "d", "user.note", b"x")
    manifest = read(walked(top))
    assert [one.adorned for one in manifest.records()] == [False, True, False]


def test_a_time_that_no_number_holds_is_left_to_rsync(tmp_path: Path) -> None:
    try:
        os.utime(tmp_path, (9_300_000_000, 9_300_000_000))
    except OSError:
        pytest.skip("the file system does not know the year 2264")
    assert [one.adorned for one in read(walked(tmp_path)).records()] == [tmp_path.stat().st_mtime > 9.2e9]


@given(cut=st.integers(0, 2000))
def test_half_a_manifest_is_none(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = content(sealed(tmp_path_factory))
    if cut >= len(whole):
        return
    with pytest.raises(ValueError, match=r"."):
        Manifest.sealed(file(whole[:cut]))


@given(at=st.integers(0, 2000), bit=st.integers(0, 7))
def test_a_damaged_manifest_is_none(at: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    damaged = bytearray(content(sealed(tmp_path_factory)))
    if at >= len(damaged):
        return
    damaged[at] ^= 1 << bit
    with pytest.raises(ValueError, match=r"."):
        Manifest.sealed(file(bytes(damaged)))


def sealed(factory: pytest.TempPathFactory) -> Held:
    top = factory.getbasetemp() / "manifest"
    (top / "d").mkdir(parents=True, exist_ok=True)
    for name in ("d/a", "d/b", "c"):
        (top / name).touch()
    return walked(top).seal(BINDING)


def content(held: Held) -> bytes:
    return os.pread(held.fd, 1 << 20, 0)


def file(data: bytes) -> Held:
    held = nameless()
    append(held, data)
    return held


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_parts_are_all_of_it_each_record_once(tmp_path: Path, count: int) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}").mkdir()
        (tmp_path / f"{number:02}/file").touch()
    manifest = read(walked(tmp_path))
    parts = manifest.parts(count)
    assert [one for part in parts for one in manifest.records(part)] == list(manifest.records())
    assert len(parts) == min(count, 41)
    sizes = [end - start for start, end in parts]
    assert max(sizes) - min(sizes) < 200
