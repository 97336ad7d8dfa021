"""An encrypted home in an archive of borg: listed by plain names, and chosen from by them."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.backup.runs import Place
from tests.backup.shelf import Shelf
from tests.ecryptfs.conftest import keys, made
from usbbackup.backup.encrypted import Archived, lowers
from usbbackup.backup.entry import Entry, Kind
from usbbackup.ecryptfs.listing import Damaged, Listed
from usbbackup.ecryptfs.lower import Wanted
from usbbackup.ecryptfs.passphrase import Keys

__all__ = ["keys", "made"]  # fixtures

pytestmark = pytest.mark.skipif(shutil.which("borg") is None, reason="borg is not installed")


@pytest.fixture
def archived(made: Path, tmp_path: Path) -> Archived:
    """One of the trees that a kernel has made, backed up."""
    place = Place(tmp_path)
    subprocess.run(["cp", "-a", str(made / "aes128"), str(place.source)], check=True)
    place.job = place.with_job(engine="borg", encryption="none")
    place.run()
    entries = Shelf(place).entries()
    home = f"{place.source}/aes128"[1:]
    assert lowers(entries) == [os.fsencode(f"{home}/.Private")]
    found = Archived(entries, os.fsencode(f"{home}/.Private"))
    assert found.keys == [os.fsencode(f"{home}/.ecryptfs")]
    return found


def test_the_list_of_borg_is_told_by_plain_names(archived: Archived, made: Path, keys: Keys) -> None:
    told = json.loads((made / "plain.json").read_text())["trees"]["aes128"]
    found = {"/".join(one.path): one for one in archived.listed(keys, Wanted()) if isinstance(one, Listed)}
    assert set(found) == set(told)
    assert all(stat.filemode(one.mode) == told[path]["mode"] for path, one in found.items())
    assert all(one.mtime_ns == told[path]["mtime_ns"] for path, one in found.items())
    targets = {path: os.fsdecode(one.target) for path, one in found.items() if one.target}
    assert targets == {path: one["target"] for path, one in told.items() if "target" in one}
    assert archived.signatures == (keys.names.signature,)


def test_only_what_is_wanted_is_to_be_copied(archived: Archived, keys: Keys) -> None:
    assert archived.paths(keys, Wanted()) == [archived.lower]
    part = Wanted(frozenset({("folder", "deeper"), ("nowhere",)}))
    (path,) = archived.paths(keys, part)
    assert path.startswith(archived.lower + b"/ECRYPTFS_FNEK_ENCRYPTED.")
    assert path.removeprefix(archived.lower).count(b"/") == 2
    listed = list(archived.listed(keys, part))
    assert [one.path for one in listed if isinstance(one, Damaged)] == [("nowhere",)]
    assert {one.path for one in listed if isinstance(one, Listed)} == {
        ("folder",),
        ("folder", "deeper"),
        ("folder", "deeper", "other name"),
        ("folder", "deeper", "secret"),
    }


def test_an_entry_without_the_directory_it_lies_in_is_passed_over(keys: Keys) -> None:
    def entry(path: bytes, kind: Kind) -> Entry:
        return Entry(path, kind, 0o600, 0, 0, 0, 0)

    whole = [entry(b"d/.Private", Kind.DIRECTORY), entry(b"d/.Private/plain", Kind.FILE)]
    odd = [*whole, entry(b"d/.Private/nowhere/file", Kind.FILE), entry(b"d/.Private2/file", Kind.FILE)]
    listed = list(Archived(odd, b"d/.Private").listed(keys, Wanted()))
    assert [one.path for one in listed] == [("plain",)]


def test_with_other_keys_names_stay_as_they_were_found(archived: Archived) -> None:
    other = Keys.of(b"another passphrase")
    listed = list(archived.listed(other, Wanted()))
    assert all(b"ECRYPTFS_FNEK" in os.fsencode(one.path[-1]) for one in listed)
    assert any(isinstance(one, Damaged) for one in listed)
