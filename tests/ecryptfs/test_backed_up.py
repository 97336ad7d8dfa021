"""An encrypted home that usbbackup itself has backed up comes back: both engines, real programs."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.backup.runs import Place
from tests.ecryptfs.made import recovered, seen
from usbbackup.ecryptfs.home import found
from usbbackup.outcome import Outcome


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Place:
    """A machine whose home is encrypted, where only the lower directory is backed up."""
    place = Place(tmp_path)
    command = ["cp", "-a", str(made / "aes128"), str(made / "xattr"), str(place.source)]
    subprocess.run(command, check=True)
    return place


def check(made: Path, backup: Path, to: Path) -> None:
    about = json.loads((made / "plain.json").read_text())
    homes = {home.user: home for home in found(backup)}
    for tree in ("aes128", "xattr"):
        tally = recovered(homes[tree], to / tree, about["login"])
        assert tally.damaged == []
        assert seen(to / tree) == about["trees"][tree]


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_out_of_a_snapshot_of_rsync(place: Place, made: Path, tmp_path: Path) -> None:
    assert place.run().outcome is Outcome.SUCCESS
    check(made, place.stored(), tmp_path / "plain")


@pytest.mark.skipif(shutil.which("borg") is None, reason="borg is not installed")
def test_out_of_an_archive_of_borg(place: Place, made: Path, tmp_path: Path) -> None:
    place.job = place.with_job(engine="borg", encryption="none")
    assert (result := place.run()).outcome is Outcome.SUCCESS, result
    repository, into = place.job_folder / "borg", tmp_path / "extracted"
    into.mkdir()
    env = {**os.environ, "HOME": str(tmp_path / "home"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    said = subprocess.run(
        ["borg", "list", "--short", str(repository)], env=env, capture_output=True, check=True
    )
    archive = said.stdout.decode().splitlines()[0]
    subprocess.run(["borg", "extract", f"{repository}::{archive}"], env=env, cwd=into, check=True)
    check(made, into / str(place.source).lstrip("/"), tmp_path / "plain")
