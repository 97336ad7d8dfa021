"""The catalogue tells where a file is, from changes alone."""

import sqlite3
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import Place
from shelf import ENGINES

from usbbackup.backup.catalogue.database import FILE, Catalogue, Seen
from usbbackup.backup.catalogue.listing import Listing
from usbbackup.config import JobConfig, Keep
from usbbackup.outcome import Outcome, Phase, Progress

TIMES = [f"2026-11-{day:02d}T100000Z" for day in range(1, 29)]
Tree = dict[bytes, dict[bytes, tuple[int, int]]]


def listings(tree: Tree) -> list[Listing]:
    return [
        Listing(
            path,
            b"\0".join(sorted(files)),
            array("q", [files[name][0] for name in sorted(files)]),
            array("q", [files[name][1] * 10**9 for name in sorted(files)]),
        )
        for path, files in tree.items()
    ]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    found = Catalogue.open(tmp_path)
    yield found
    found.close()


def record(catalogue: Catalogue, number: int, tree: Tree, *, drive: str = "blue", there: int = 0) -> None:
    catalogue.record(f"uuid-{drive}", drive, "home", TIMES[number], listings(tree), TIMES[there : number + 1])


def spans(found: list[Seen]) -> list[tuple[bytes, str, str, str, bool]]:
    return [
        (one.path, one.first[-17:-8], one.version[-17:-8], one.last[-17:-8], one.current) for one in found
    ]


def test_a_file_is_found_with_when_it_was_there_and_when_it_changed_last(catalogue: Catalogue) -> None:
    record(catalogue, 0, {b"/home/d": {b"tax.pdf": (5, 100)}})
    record(catalogue, 1, {b"/home/d": {b"tax.pdf": (6, 200)}})
    record(catalogue, 2, {b"/home/d": {b"tax.pdf": (6, 200), b"other": (1, 1)}})
    (one,) = catalogue.find("tax.pdf")
    assert (one.path, one.drive, one.label, one.job) == (b"/home/d/tax.pdf", "uuid-blue", "blue", "home")
    assert (one.first, one.version, one.last) == tuple(f"home@{TIMES[n]}" for n in (0, 1, 2))
    assert (one.current, one.size, one.mtime) == (True, 6, 200)


def test_what_is_gone_is_found_where_it_was(catalogue: Catalogue) -> None:
    record(catalogue, 0, {b"/a": {b"x": (1, 1)}, b"/b": {b"y": (1, 1)}})
    record(catalogue, 1, {b"/a": {}})
    for name in ("x", "y"):
        (one,) = catalogue.find(name)
        assert (one.last, one.current) == (f"home@{TIMES[0]}", False)


def test_each_drive_is_told_by_itself(catalogue: Catalogue) -> None:
    record(catalogue, 0, {b"/a": {b"x": (1, 1)}})
    record(catalogue, 3, {b"/a": {b"x": (1, 1)}}, drive="red")
    assert [(one.label, one.last) for one in catalogue.find("x")] == [
        ("blue", f"home@{TIMES[0]}"),
        ("red", f"home@{TIMES[3]}"),
    ]
    assert catalogue.holders(f"home@{TIMES[3]}") == ["red"]
    catalogue.forget("uuid-red", "home")
    assert [one.label for one in catalogue.find("x")] == ["blue"]


def test_snapshots_that_were_removed_hold_nothing(catalogue: Catalogue) -> None:
    record(catalogue, 0, {b"/a": {b"old": (1, 1), b"both": (1, 1)}})
    record(catalogue, 1, {b"/a": {b"both": (1, 1)}})
    record(catalogue, 2, {b"/a": {b"both": (1, 1)}}, there=1)
    assert catalogue.find("old") == []
    assert [one.first for one in catalogue.find("both")] == [f"home@{TIMES[1]}"]
    assert catalogue.db.execute("SELECT count(*) FROM files").fetchone() == (1,)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("tax.pdf", {b"tax.pdf"}),
        ("*.pdf", {b"tax.pdf", b"TAXES.pdf"}),
        ("taxes", {b"TAXES.pdf"}),
        ("100%", {b"100%.txt"}),
        ("docs/tax.pdf", {b"tax.pdf"}),
        ("nowhere/tax.pdf", set()),
        ("caf*", {b"caf\xe9"}),
        ("caf\udce9", {b"caf\xe9"}),
        ("*f\udce9", {b"caf\xe9"}),
        ("f\udce9", {b"caf\xe9"}),
        ("[tT]*.pdf", {b"tax.pdf", b"TAXES.pdf"}),
        ("1[^0]*", set()),
        ("*", {b"tax.pdf", b"TAXES.pdf", b"100%.txt", b"1000.txt", b"caf\xe9"}),
    ],
)
def test_names_are_found_as_they_are_by_patterns_and_by_a_part(
    catalogue: Catalogue, pattern: str, names: set[bytes]
) -> None:
    files = dict.fromkeys([b"tax.pdf", b"TAXES.pdf", b"100%.txt", b"1000.txt", b"caf\xe9"], (1, 1))
    record(catalogue, 0, {b"/home/docs": files})
    assert {one.path.rpartition(b"/")[2] for one in catalogue.find(pattern)} == names


def test_only_changes_are_stored(catalogue: Catalogue) -> None:
    tree: Tree = {b"/%d" % n: {b"%d" % m: (m, m) for m in range(20)} for n in range(20)}
    record(catalogue, 0, tree)
    before = catalogue.db.total_changes
    for number in range(1, 10):
        tree[b"/3"][b"4"] = (number, number)
        record(catalogue, number, tree)
    assert catalogue.db.total_changes - before < 10 * 8


def test_a_catalogue_that_is_damaged_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    catalogue = Catalogue.open(tmp_path)
    record(catalogue, 0, {b"/a": {b"x": (1, 1)}})
    assert len(catalogue.find("x")) == 1
    catalogue.close()


def test_a_record_that_is_cut_off_leaves_nothing(catalogue: Catalogue) -> None:
    def cut() -> Iterator[Listing]:
        yield from listings({b"/a": {b"x": (1, 1)}})
        raise InterruptedError

    with pytest.raises(InterruptedError):
        catalogue.record("u", "blue", "home", TIMES[0], cut(), [])
    assert catalogue.find("x") == []
    assert isinstance(catalogue.db, sqlite3.Connection)


def test_a_draft_writes_nothing_and_is_made_anew_where_it_no_longer_holds(catalogue: Catalogue) -> None:
    record(catalogue, 0, {b"/a": {b"x": (1, 1)}, b"/b": {b"y": (1, 1)}})
    tree: Tree = {b"/a": {b"x": (2, 2)}}
    changes = catalogue.db.total_changes
    draft = catalogue.draft("uuid-blue", "home", listings(tree))
    assert catalogue.db.total_changes == changes
    record(catalogue, 1, {b"/a": {b"x": (3, 3)}, b"/c": {b"z": (1, 1)}})  # a rebuilding, say
    catalogue.record("uuid-blue", "blue", "home", TIMES[2], listings(tree), TIMES[:3], draft)
    assert [(one.first, one.current) for one in catalogue.find("z")] == [(f"home@{TIMES[1]}", False)]
    assert [(one.size, one.version) for one in catalogue.find("x")] == [(2, f"home@{TIMES[2]}")]


def test_a_draft_is_of_one_moment_whoever_writes_meanwhile(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path)) as catalogue, closing(Catalogue.open(tmp_path)) as other:
        record(catalogue, 0, {b"/a": {b"x": (1, 1)}, b"/b": {b"y": (1, 1)}})

        def meanwhile() -> Iterator[Listing]:
            yield from listings({b"/a": {b"x": (1, 1)}})
            other.forget("uuid-blue", "home")
            yield from listings({b"/b": {b"y": (2, 2)}})

        draft = catalogue.draft("uuid-blue", "home", meanwhile())
        assert (draft.since, [change.path for change in draft.changes]) == (TIMES[0], [b"/b"])
        new: Tree = {b"/a": {b"x": (1, 1)}, b"/b": {b"y": (2, 2)}}
        catalogue.record("uuid-blue", "blue", "home", TIMES[1], listings(new), TIMES[:2], draft)
        assert [one.current for name in "xy" for one in catalogue.find(name)] == [True, True]


def test_a_draft_that_holds_is_all_that_is_read(catalogue: Catalogue) -> None:
    record(catalogue, 0, {b"/a": {b"x": (1, 1)}, b"/b": {b"y": (1, 1)}})
    draft = catalogue.draft("uuid-blue", "home", listings({b"/a": {b"x": (2, 2)}}))
    catalogue.record("uuid-blue", "blue", "home", TIMES[1], iter(()), TIMES[:2], draft)
    assert [(one.size, one.current) for name in "xy" for one in catalogue.find(name)] == [
        (2, True),
        (1, False),
    ]


trees = st.dictionaries(
    st.sampled_from([b"/a", b"/b", b"/a/c"]),
    st.dictionaries(st.sampled_from([b"x", b"y", b"z"]), st.tuples(st.integers(0, 3), st.integers(0, 3))),
)


@settings(max_examples=60)
@given(st.lists(trees, min_size=1, max_size=6))
def test_whatever_changes_what_is_told_is_true(tmp_path_factory, history: list[Tree]) -> None:
    catalogue = Catalogue.open(tmp_path_factory.mktemp("catalogue"))
    for number, tree in enumerate(history):
        record(catalogue, number, tree)
    for name in (b"x", b"y", b"z"):
        wanted = {}
        for number, tree in enumerate(history):
            for path, files in tree.items():
                if name in files:
                    wanted.setdefault(path + b"/" + name, []).append((number, files[name]))
        found = {one.path: one for one in catalogue.find(name.decode())}
        assert found.keys() == wanted.keys()
        for path, one in found.items():
            numbers = [number for number, _ in wanted[path]]
            newest = wanted[path][-1][1]
            same = len(numbers) - 1
            while same and wanted[path][same - 1] == (numbers[same] - 1, newest):
                same -= 1
            assert (one.first, one.last) == (f"home@{TIMES[numbers[0]]}", f"home@{TIMES[numbers[-1]]}")
            assert one.version == f"home@{TIMES[numbers[same]]}"
            assert (one.size, one.mtime) == newest
            assert one.current == (numbers[-1] == len(history) - 1)
    catalogue.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_runs_note_what_their_snapshots_hold(engine: str) -> None:
    with tempfile.TemporaryDirectory(prefix="usbbackup-", dir="/var/tmp") as top:
        more = {"encryption": "none"} if engine == "borg" else {}
        place = Place(Path(top), job=JobConfig(name="home", engine=engine, keep=Keep(last=1), **more))
        single = place.top / "single.txt"
        single.write_text("one")
        place.job = place.with_job(sources=(str(place.source), str(single)))
        (place.source / "tax.pdf").write_text("old")
        (place.source / "stays").write_text("stays")
        place.run()
        (place.source / "tax.pdf").unlink()
        place.run()
        catalogue = Catalogue.open(place.top / "home/.local/state/usbbackup")
        assert catalogue.find("tax.pdf") == []  # retention has removed the only snapshot that had it
        for name, path in (("stays", place.source / "stays"), ("single.txt", single)):
            (one,) = catalogue.find(name)
            assert (one.path, one.drive, one.current) == (bytes(path), "u-1", True)
            assert one.size == path.stat().st_size
        catalogue.close()


def test_a_run_that_ends_before_there_is_a_snapshot_notes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.source / "tax.pdf").write_text("old")
    place.run()
    (place.source / "new.pdf").write_text("new")

    def leave(progress: Progress) -> None:
        if progress.phase is Phase.PUBLISH and place.drive is not None:
            place.drive.reason = "the drive is gone"

    assert place.run(report=leave).outcome is Outcome.INTERRUPTED
    catalogue = Catalogue.open(place.top / "home/.local/state/usbbackup")
    assert [one.last[5:] for one in catalogue.find("*.pdf")] == [place.snapshots()[0].name]
    catalogue.close()


def test_a_run_is_good_where_nothing_can_be_noted(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.source / "tax.pdf").write_text("old")
    (place.top / "home/.local/state/usbbackup" / FILE).mkdir(parents=True)
    assert place.run().outcome is Outcome.SUCCESS
    assert any("could not be noted for `find`" in line for line in place.log)
