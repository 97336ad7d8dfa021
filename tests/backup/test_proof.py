"""A flaw on the drive is found and named, with the snapshots it touches; restoring proves what is sound."""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from runs import Place
from shelf import ENGINES, Shelf

from usbbackup.backup import proof
from usbbackup.backup.borg.archive import Archive
from usbbackup.backup.proof import Flaw, Proof
from usbbackup.backup.rsync.checksums import NAME, Checksums, File
from usbbackup.backup.rsync.tree import Tree
from usbbackup.backup.snapshots import on, opened
from usbbackup.config import JobConfig, Verify
from usbbackup.folders import closing, open_folder
from usbbackup.outcome import Outcome, Stop

needs_rsync = pytest.mark.skipif("rsync" not in ENGINES, reason="rsync is not installed")
needs_borg = pytest.mark.skipif("borg" not in ENGINES, reason="borg is not installed")


@contextmanager
def filled(engine: str) -> Iterator[Place]:
    """Two snapshots that share most of their files."""
    with tempfile.TemporaryDirectory(prefix="usbbackup-", dir="/var/tmp") as top:
        more = {"encryption": "none", "compression": "none"} if engine == "borg" else {}
        place = Place(Path(top), job=JobConfig(name="home", engine=engine, **more))
        place.clock.wall = time.time() - 3600
        (place.source / "deep").mkdir()
        for name in ("shared", "deep/other", "changes"):
            (place.source / name).write_bytes(os.urandom(50_000))
        (place.source / "deep/link").hardlink_to(place.source / "shared")
        place.run()
        (place.source / "changes").write_bytes(os.urandom(60_000))
        place.run()
        yield place


@pytest.fixture
def place() -> Iterator[Place]:
    with filled("rsync") as made:
        yield made


def nothing() -> None:
    """Nobody wants it to end."""


def with_trees(place: Place, use: Callable[[list[Tree], Checksums], Proof | int]):
    """Do something with all snapshots, opened, and the record of their checksums."""

    async def all_of_it():
        shelf = Shelf(place)
        with place.opened() as target, ExitStack() as stack:
            found = await on(target, shelf.reader())
            trees = [await opened(one, target, shelf.reader(), stack) for one in found.snapshots]
            job = stack.enter_context(closing(open_folder(target.fd, "home")))
            return use(trees, Checksums.read(job))

    return asyncio.run(all_of_it())


def record(place: Place) -> int:
    return with_trees(place, lambda trees, sums: sum(sums.complete(tree, nothing) for tree in trees))


def verified(place: Place, sample: int | None = None) -> Proof:
    return with_trees(
        place, lambda trees, sums: proof.verify_trees(trees, trees, sums, nothing, sample, learn=True)
    )


def named(found: Proof, place: Place) -> set[tuple[str, int]]:
    """The paths of flaws in the source, and how many snapshots have each."""
    top = os.fsencode(place.source)[1:] + b"/"
    return {(flaw.path.removeprefix(top).decode(), len(flaw.snapshots)) for flaw in found.flaws if flaw.path}


def spoil(path: Path, at: int = 25_000) -> None:
    """Flip one bit, as a dying drive does: no time changes."""
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
        os.fsync(file.fileno())
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@needs_rsync
def test_every_byte_is_proven(place: Place) -> None:
    assert record(place) == 4  # three files, one of them in two versions
    found = verified(place)
    assert (found.files, found.bytes, found.unknown, found.flaws) == (4, 210_000, 0, [])


@needs_rsync
def test_what_is_not_known_yet_is_known_from_then_on(place: Place) -> None:
    assert (verified(place).unknown, verified(place).unknown) == (4, 0)


@needs_rsync
def test_a_flipped_bit_is_named_with_all_that_it_touches(place: Place) -> None:
    record(place)
    spoil(place.stored(0) / "shared")
    found = verified(place)
    assert named(found, place) == {("shared", 2), ("deep/link", 2)}
    assert {flaw.what for flaw in found.flaws} == {"is damaged: its content is not what was kept"}
    assert found.files == 3
    spoil(place.stored(0) / "changes")
    assert ("changes", 1) in named(verified(place), place)


@needs_rsync
def test_what_somebody_has_changed_is_told_as_that(place: Place) -> None:
    record(place)
    (place.stored() / "deep/other").write_text("by hand")
    (flaw,) = verified(place).flaws
    assert flaw.what == "was changed after it was kept: its size or time is another"


@needs_rsync
def test_a_sample_reads_only_so_many(place: Place) -> None:
    record(place)
    assert verified(place, sample=2).files == 2


@needs_rsync
def test_a_damaged_or_cut_off_record_is_passed_over(place: Place) -> None:
    record(place)
    file = place.job_folder / NAME
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(bytes(data) + b"cut off")
    found = verified(place)
    assert (found.files, found.unknown, found.flaws) == (3, 1, [])
    assert verified(place).files == 4


@needs_rsync
def test_a_number_that_is_used_again_is_another_file(place: Place) -> None:
    record(place)
    (place.source / "new").write_bytes(b"new")
    place.run()

    def reused(trees: list[Tree], sums: Checksums) -> Proof:
        (new,) = [entry for entry in trees[-1].entries() if entry.path.endswith(b"/new")]
        sums.known[File(new.node, 7, 7)] = b"of a file that was removed"
        return proof.verify_trees(trees, trees, sums, nothing, None, learn=False)

    found = with_trees(place, reused)
    assert (found.files, found.unknown, found.flaws) == (4, 1, [])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_drill_restores_and_compares(engine: str) -> None:
    with filled(engine) as place:
        private = place.top / "home/drills/here"

        async def drilled(snapshot) -> Proof:
            return await proof.drill(snapshot, 10, private, nothing)

        found = Shelf(place).with_snapshot(drilled)
        assert (found.files, found.flaws) == (4, [])
        assert not private.exists()
        if engine == "rsync":
            spoil(place.stored() / "deep/other")
            (flaw,) = Shelf(place).with_snapshot(drilled).flaws
            assert flaw.what == "is another than the original, which looks unchanged"


@needs_rsync
def test_a_drill_compares_with_what_is_known(place: Place) -> None:
    (place.source / "deep/other").unlink()

    async def drilled(snapshot) -> Proof:
        return await proof.drill(snapshot, 10, place.top / "home/drill", nothing, lambda entry: b"another")

    assert len(Shelf(place).with_snapshot(drilled).flaws) == 4


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_run_that_was_killed_has_restored_is_removed_by_the_next_drill(engine: str) -> None:
    with filled(engine) as place:
        place.job = place.with_job(verify=Verify(every=1.0, sample=3))
        assert place.run(last_proven=None).outcome is Outcome.SUCCESS
        (drills,) = place.top.rglob("drills")
        with place.opened() as target:
            left = drills / f"{target.facts.uuid}+home"
        (left / "private").mkdir(parents=True)
        (left / "private/letter").write_text("nobody else's business")
        (left / "private").chmod(0o000)
        assert place.run(last_proven=None).outcome is Outcome.SUCCESS
        assert not left.exists()


@needs_borg
def test_borgs_damage_is_named_with_all_that_it_touches() -> None:
    with filled("borg") as place:
        content = (place.source / "deep/other").read_bytes()

        def verified_archives() -> Proof:
            async def all_of_it() -> Proof:
                shelf = Shelf(place)
                with place.opened() as target, ExitStack() as stack:
                    found = await on(target, shelf.reader())
                    archives = [await opened(one, target, shelf.reader(), stack) for one in found.snapshots]
                    assert all(isinstance(one, Archive) for one in archives)
                    return await proof.verify_archives(archives[0].session, archives, Stop(), None)

            return asyncio.run(all_of_it())

        assert verified_archives() == Proof()
        for segment in place.job_folder.glob("borg/data/*/*"):
            if (at := segment.read_bytes().find(content)) >= 0:
                spoil(segment, at + 25_000)
        found = verified_archives()
        assert named(found, place) == {("deep/other", 2)}, found
        assert all(isinstance(flaw, Flaw) for flaw in found.flaws)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_job_that_wants_it_is_proven_by_its_run_when_that_is_due(engine: str) -> None:
    with filled(engine) as place:
        place.job = place.with_job(verify=Verify(every=86400.0, sample=3))
        told: list[str] = []
        now = place.clock.wall
        assert place.run(on_proven=told.append, last_proven=now - 86000).outcome is Outcome.SUCCESS
        assert told == []
        assert place.run(on_proven=told.append, last_proven=now - 86401).outcome is Outcome.SUCCESS
        assert [name.partition("@")[0] for name in told] == ["home"]
        assert any("proven: 3 files" in line for line in place.log)


@needs_rsync
def test_a_run_that_meets_damage_is_a_warning_that_names_it(place: Place) -> None:
    place.job = place.with_job(verify=Verify(every=1.0, sample=100))
    assert place.run(last_proven=None).outcome is Outcome.SUCCESS
    spoil(place.stored() / "deep/other")
    told: list[str] = []
    result = place.run(on_proven=told.append)
    assert result.outcome is Outcome.WARNING
    assert told == []
    assert any("deep/other was restored with another content" in note for note in result.notes)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_restores_no_file_proves_nothing(engine: str) -> None:
    """As where the sources hold none, or none that fits at home: the last proof stays what it was."""
    with filled(engine) as place:
        place.job = place.with_job(verify=Verify(every=1.0, sample=3))
        for file in [path for path in place.source.rglob("*") if path.is_file()]:
            file.unlink()
        (place.source / "link").symlink_to("nowhere")
        told: list[str] = []
        result = place.run(on_proven=told.append, last_proven=None, accept_source=True)
        assert result.outcome is Outcome.SUCCESS
        assert told == []
        assert any("nothing was proven" in line for line in place.log)
