"""What is different between two snapshots."""

import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import Place
from shelf import ENGINES, Shelf

from usbbackup.backup.difference import Change, changes
from usbbackup.backup.entry import Entry, Kind
from usbbackup.config import JobConfig


def entry(path: bytes = b"a", kind: Kind = Kind.FILE, **more) -> Entry:
    return Entry(path, kind, 0o644, 1, 1, 5, 1000)._replace(**more)


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        (entry(), entry(), None),
        (entry(), entry(mtime_ns=1001, content=b"x"), Change.CONTENT),
        (entry(), entry(size=6), Change.CONTENT),
        (entry(content=b"x"), entry(content=b"y"), Change.CONTENT),
        (entry(content=b"x"), entry(content=b"x", mtime_ns=9), Change.METADATA),
        (entry(), entry(mode=0o600), Change.METADATA),
        (entry(), entry(uid=2), Change.METADATA),
        (entry(), entry(kind=Kind.FIFO), Change.KIND),
        (entry(kind=Kind.SYMLINK, target=b"x"), entry(kind=Kind.SYMLINK, target=b"y"), Change.CONTENT),
        (entry(kind=Kind.DIRECTORY), entry(kind=Kind.DIRECTORY, mtime_ns=7), None),
        (entry(kind=Kind.DIRECTORY), entry(kind=Kind.DIRECTORY, mode=0o700), Change.METADATA),
        (entry(node=b"1"), entry(node=b"2"), None),
    ],
)
def test_each_change_has_its_word(old: Entry, new: Entry, change: Change | None) -> None:
    assert [one.change for one in changes([old], [new])] == ([change] if change else [])


paths = st.lists(st.sampled_from([b"a", b"b", b"a/c", b"z"]), unique=True)


@given(paths, paths)
def test_what_comes_and_goes_is_told_once_and_in_order(old: list[bytes], new: list[bytes]) -> None:
    found = list(changes(map(entry, old), map(entry, new)))
    assert {one.entry.path for one in found if one.change is Change.ADDED} == set(new) - set(old)
    assert {one.entry.path for one in found if one.change is Change.REMOVED} == set(old) - set(new)
    assert [one.entry.path for one in found] == sorted(set(old) ^ set(new), key=lambda path: path.split(b"/"))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_snapshots_are_compared(engine: str) -> None:
    with tempfile.TemporaryDirectory(prefix="usbbackup-", dir="/var/tmp") as top:
        more = {"encryption": "none"} if engine == "borg" else {}
        place = Place(Path(top), job=JobConfig(name="home", engine=engine, **more))
        place.clock.wall = time.time()
        for name in ("stays", "grows", "goes", "mode"):
            (place.source / name).write_text(name)
        place.run()
        (place.source / "grows").write_text("grown")
        (place.source / "goes").unlink()
        (place.source / "comes").write_text("new")
        (place.source / "mode").chmod(0o600)
        place.run()
        shelf = Shelf(place)
        found = changes(shelf.entries(number=0), shelf.entries(number=1))
        assert {(one.entry.path.rpartition(b"/")[2], one.change) for one in found} == {
            (b"grows", Change.CONTENT),
            (b"goes", Change.REMOVED),
            (b"comes", Change.ADDED),
            (b"mode", Change.METADATA),
        }
