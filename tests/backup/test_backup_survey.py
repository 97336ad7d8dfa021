"""What a run is going to read, where eCryptfs shows the same files twice."""

import os
from pathlib import Path

import pytest

from tests.backup.runs import Place
from usbbackup.backup.engine import Over, Request
from usbbackup.backup.survey import Survey
from usbbackup.paths import Paths


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An encrypted home, in plain and encrypted, side by side as ecryptfs-migrate-home(8) leaves them."""
    upper, lower = tmp_path / "source/david", tmp_path / "source/.ecryptfs/david/.Private"
    for path, name in ((upper, "letter"), (lower, "ECRYPTFS_FNEK_ENCRYPTED.x")):
        path.mkdir(parents=True)
        (path / name).write_text("x")
    (lower.parent / "wrapped-passphrase").write_text("x")
    return tmp_path / "source"


def listed(home: Path, *sources: Path) -> tuple[set[str], list[str]]:
    """The names that a run would read, and what it says to that."""
    table = home.parent / "mountinfo"
    upper, lower = home / "david", home / ".ecryptfs/david/.Private"
    table.write_text(f"50 21 0:40 / {upper} rw - ecryptfs {lower} rw\n")
    place = Place(home.parent)
    place.job = place.with_job(sources=tuple(map(str, sources)))
    with place.opened() as target:
        request = Request(
            job=place.job,
            target=target,
            run="1",
            programs=place.programs,
            clock=place.clock,
            paths=Paths.of({"HOME": str(place.top / "home")}),
            stop=place.stop,
            report=place.progress.append,
            log=place.log.append,
            last={},
        )
        entries = [entry for batch in Survey(request, table).scan.batches() for entry in batch]
    return {os.fsdecode(entry).rpartition("/")[2] for entry in entries}, place.log


def test_a_source_that_holds_both_forms_gives_the_encrypted_one(home: Path) -> None:
    names, said = listed(home, home)
    assert "ECRYPTFS_FNEK_ENCRYPTED.x" in names
    assert "letter" not in names
    assert [
        sentence for sentence in said if "left out" in sentence and str(home / "david") in sentence
    ] == said


def test_what_was_named_in_plain_is_not_taken_encrypted_as_well(home: Path) -> None:
    names, said = listed(home, home / "david", home / ".ecryptfs")
    assert "letter" in names
    assert "ECRYPTFS_FNEK_ENCRYPTED.x" not in names
    assert len(said) == 1


def test_both_forms_named_are_refused(home: Path) -> None:
    with pytest.raises(Over, match="hold the same files, plain and encrypted"):
        listed(home, home / "david", home / ".ecryptfs/david/.Private")


@pytest.mark.parametrize("place", ["david", ".ecryptfs"])
def test_one_form_alone_is_backed_up_and_nothing_said(home: Path, place: str) -> None:
    names, said = listed(home, home / place)
    assert {"letter", "ECRYPTFS_FNEK_ENCRYPTED.x"} & names
    assert said == []
