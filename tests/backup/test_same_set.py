"""rsync and borg store the same set of files, whatever is in the source and whatever is left out."""

import io
import os
import random
import shutil
import socket
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from runs import ROOT, Place

from usbbackup.backup.matcher import PRESETS
from usbbackup.outcome import Outcome

pytestmark = pytest.mark.skipif(
    shutil.which("rsync") is None or shutil.which("borg") is None, reason="rsync or borg is not installed"
)

# No carriage return: borg cannot be given such a name, and says so with a warning.
NAMES = [
    *(
        b"#x",
        b";x",
        b"-x",
        b"--delete",
        b"new\nline",
        b"caf\xe9",
        b"\xff\xfe",
        b" lead",
        b"trail ",
        b"\\#012",
    ),
    *(
        b"esc\x1b[31m",
        b"a => b",
        b"*?[a]",
        b"...",
        b"d:e",
        "ü".encode(),
        b"{now}",
        b"x.iso",
        b"y.iso",
        b"keep.iso",
    ),
    *(b"plain", b"node_modules", b".cache", b"Downloads", b".Trash-1000", b"disk.vdi", b"a", b"b", b"c"),
]
EXCLUDES = ["*.iso", "/a", "b/", "!keep.iso", "a/**", "**/c", "plain", "caf*", "*?[[]a]", "/*/*/a", "ü"]
TAG = "Signature: 8a477f597d28d172789f06886806bc55"


@dataclass
class Trees:
    """Random trees: few, because each costs a second, but rich."""

    chance: random.Random

    def grow(self, top: Path, depth: int = 0) -> None:
        for name in self.chance.sample(NAMES, 9 - 2 * depth):
            self.plant(top / os.fsdecode(name), depth)
        if self.chance.random() < 0.15:
            (top / "CACHEDIR.TAG").write_text(TAG)

    def plant(self, path: Path, depth: int) -> None:
        match self.chance.choice(
            ["file", "file", "tree", "tree", "link", "fifo", "hard", "empty", "unreadable", "socket"]
        ):
            case "tree" if depth < 3:
                path.mkdir()
                self.grow(path, depth + 1)
            case "link":
                path.symlink_to(self.chance.choice(["plain", "/etc", "..", "nowhere"]))
            case "fifo":
                os.mkfifo(path)
            case "hard" if files := [
                other for other in path.parent.iterdir() if other.is_file() and not other.is_symlink()
            ]:
                os.link(self.chance.choice(files), path, follow_symlinks=False)
            case "empty":
                path.mkdir()
            case "unreadable":
                path.touch(mode=0o000) if self.chance.random() < 0.5 else path.mkdir(mode=0o300)
            case "socket" if len(os.fsencode(path)) < 100:
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind(os.fsencode(path))
            case _:
                path.write_bytes(self.chance.randbytes(self.chance.randrange(100)))


def stored_by_rsync(place: Place) -> set[bytes]:
    top = os.fsencode(place.snapshots()[-1])
    found = {folder + b"/" + name for folder, *both in os.walk(top) for names in both for name in names}
    return {path[len(top) + 1 :] for path in found}


def stored_by_borg(place: Place) -> set[bytes]:
    """Out of a tar, because borg lists undecodable names with question marks."""
    asked = subprocess.run(
        ["borg", "export-tar", f"borg::{place.job.name}@{borg_times(place)[-1]}", "-"],
        cwd=place.job_folder,
        env=borg_env(place),
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(asked.stdout), encoding="utf-8", errors="surrogateescape") as tar:
        return {os.fsencode(name) for name in tar.getnames()}


def borg_times(place: Place) -> list[str]:
    return (place.job_folder / "published").read_text().split()


def borg_env(place: Place) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(place.top / "home"),
        "LC_ALL": "C.UTF-8",
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }


@settings(max_examples=8, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32),
    exclude=st.lists(st.sampled_from(EXCLUDES), max_size=4, unique=True),
    presets=st.lists(st.sampled_from(sorted(PRESETS)), max_size=4, unique=True),
    several=st.booleans(),
)
def test_both_engines_store_the_same_set(
    seed: int, exclude: list[str], presets: list[str], several: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trees = Trees(random.Random(seed))  # noqa: S311 - no secret
        place = Place(Path(folder))
        trees.grow(place.source)
        (place.source / "some file").touch()
        inner = place.source / "inner"
        inner.mkdir()
        trees.grow(inner)
        (inner / "some file").touch()
        sources = (str(place.source), str(inner)) if several else (str(place.source),)
        job = {"sources": sources, "exclude": tuple(exclude), "exclude_presets": tuple(presets)}

        place.job = place.with_job(name="by-rsync", **job)
        by_rsync = place.run(accept_source=True)
        stored = stored_by_rsync(place)
        place.job = place.with_job(name="by-borg", engine="borg", encryption="none", compression="none")
        by_borg = place.run(accept_source=True)

        assert by_rsync.outcome.good, by_rsync
        assert by_borg.outcome is by_rsync.outcome, by_borg
        assert stored == stored_by_borg(place)
        assert by_rsync.files == by_borg.files
        assert sorted(by_rsync.notes) == sorted(by_borg.notes)
        subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)


@pytest.mark.root
@pytest.mark.skipif(not ROOT, reason="mounting needs root")
@pytest.mark.parametrize("one_file_system", [True, False])
def test_both_engines_treat_mount_points_alike(tmp_path: Path, one_file_system: bool) -> None:
    place = Place(tmp_path)
    (place.source / "mounted").mkdir()
    (place.source / "f").touch()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(place.source / "mounted")], check=True)
    try:
        (place.source / "mounted/inside").touch()
        place.job = place.with_job(name="by-rsync", one_file_system=one_file_system)
        assert place.run().outcome is Outcome.SUCCESS
        stored = stored_by_rsync(place)
        place.job = place.with_job(name="by-borg", engine="borg", encryption="none")
        assert place.run().outcome is Outcome.SUCCESS
    finally:
        subprocess.run(["umount", str(place.source / "mounted")], check=True)
    assert stored == stored_by_borg(place)
    top = os.fsencode(place.source)[1:]
    assert top + b"/mounted" in stored
    assert (top + b"/mounted/inside" in stored) is not one_file_system
