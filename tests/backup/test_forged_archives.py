"""borg archives that no borg has made, with names that lead out of them: nothing leaves the target."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from runs import Place, everything
from shelf import ENGINES, Shelf

from usbbackup.backup import restore
from usbbackup.backup.opened import Opened
from usbbackup.config import JobConfig
from usbbackup.errors import UsbbackupError
from usbbackup.folders import closing
from usbbackup.sandbox import landlock_abi, write_rights

FORGE = Path(__file__).with_name("forged_archive.py")
PYTHON = "/usr/bin/python3"
OUT = "../" * 30
BORG = {
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
}


def forgeable() -> bool:
    asked = [
        PYTHON,
        "-c",
        "import sys; sys.path.append('/usr/lib/python3/dist-packages'); import borg.archive",
    ]
    return "borg" in ENGINES and subprocess.run(asked, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not forgeable(), reason="borg, as a library of the distribution's Python, is not installed"
)


def archives(outside: Path) -> dict[str, list[dict[str, str]]]:
    """By what is wrong with them; what they are after lies in the directory `outside`."""
    below = str(outside).strip("/")
    link = {"path": "way", "target": str(outside)}
    directory = {"path": "way", "kind": "directory"}
    return {
        "dots": [{"path": f"{OUT}{below}/new"}],
        "dots within, over a file": [
            {"path": "a", "kind": "directory"},
            {"path": f"a/{OUT}{below}/precious"},
        ],
        "absolute": [{"path": f"/{below}/new"}],
        "absolute, a directory": [{"path": f"/{below}", "kind": "directory"}],
        "behind a link": [link, {"path": "way/new"}],
        "behind a link, over a file": [link, {"path": "way/precious"}],
        "behind a link that comes last": [{"path": "way/new"}, link],
        "behind a link of dots": [{"path": "way", "target": f"{OUT}{below}"}, {"path": "way/new"}],
        "a link and a directory": [link, directory, {"path": "way/new"}],
        "a pipe behind a link": [link, {"path": "way/new", "kind": "fifo"}],
        "a hard link to outside": [{"path": "stolen", "source": f"{OUT}{below}/precious"}],
        "a hard link, written through": [
            {"path": "way", "source": f"{OUT}{below}/precious"},
            {"path": "way", "data": "not yours\n"},
        ],
        "below a file": [{"path": "a"}, {"path": "a/b"}],
        "no name": [{"path": ""}],
        "a NUL": [{"path": "a\0b"}],
    }


def forge(shelf: Shelf, made: dict[str, list[dict[str, str]]]) -> list[str]:
    """Put them into the repository, before all others; returns what is wrong with each, in their order."""
    year = 2001 - len(shelf.snapshots())
    subprocess.run(
        [PYTHON, str(FORGE), str(shelf.place.job_folder / "borg")],
        input=json.dumps({f"home@{year}-01-01T{100000 + at}Z": made[name] for at, name in enumerate(made)}),
        env=os.environ | BORG | {"BORG_BASE_DIR": str(shelf.place.top / "forger")},
        text=True,
        check=True,
        capture_output=True,
    )
    return list(made)


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    """With one honest archive."""
    with tempfile.TemporaryDirectory(prefix="usbbackup-", dir="/var/tmp") as top:
        place = Place(Path(top), job=JobConfig(name="home", engine="borg", encryption="none"))
        (place.source / "honest").write_text("honest\n")
        (place.top / "outside").mkdir()
        (place.top / "outside/precious").write_text("precious\n")
        assert place.run().outcome.good
        yield Shelf(place)


@contextmanager
def stage(shelf: Shelf) -> Iterator[int]:
    path = shelf.place.top / "stage"
    path.mkdir()
    with closing(os.open(path, os.O_RDONLY | os.O_DIRECTORY)) as fd:
        yield fd
    shutil.rmtree(path)


@pytest.mark.skipif(not write_rights(landlock_abi()), reason="this kernel has no Landlock")
def test_they_do_not_get_past_the_kernel_either(shelf: Shelf) -> None:
    """Copied without a look at their names, which nothing of ours does."""
    outside = shelf.place.top / "outside"
    before = everything(outside)
    chosen = ("dots within, over a file", "behind a link, over a file", "a hard link, written through")
    made = archives(outside)
    hostile = forge(shelf, {name: made[name] for name in chosen})

    async def copied(snapshot: Opened) -> None:
        with stage(shelf) as fd, suppress(UsbbackupError):
            await snapshot.copy([], fd)

    for number, name in enumerate(hostile):
        shelf.with_snapshot(copied, number)
        assert everything(outside) == before, name


def test_what_leads_out_is_refused(shelf: Shelf) -> None:
    outside = shelf.place.top / "outside"
    before = everything(outside)
    hostile = forge(shelf, archives(outside))

    async def refused(snapshots: Sequence[Opened]) -> None:
        for name, snapshot in zip(hostile, snapshots, strict=False):
            with (
                closing(os.open(shelf.target, os.O_RDONLY | os.O_DIRECTORY)) as root,
                pytest.raises(UsbbackupError) as said,
            ):
                await restore.prepared(snapshot, [], root, overwrite=True)
            assert "would lead out of it" in said.value.message, name
            assert everything(outside) == before, name
            assert list(shelf.target.iterdir()) == [], name

    shelf.with_snapshots(refused)
    assert shelf.restore().whole
    assert everything(shelf.where()) == everything(shelf.place.source)


def test_directories_that_an_archive_does_not_tell_of_are_made(shelf: Shelf) -> None:
    forge(shelf, {"bare": [{"path": "deep/er/letter", "data": "bare\n"}]})
    to = shelf.place.top / "bare"
    to.mkdir()
    assert shelf.restore(number=0, to=to).whole
    assert (to / "deep/er/letter").read_text() == "bare\n"
    (to / "deep/er").chmod(0o700)
    (to / "deep/er/letter").unlink()
    assert shelf.restore(number=0, to=to, overwrite=True).whole
    assert (to / "deep/er/letter").read_text() == "bare\n"
    assert (to / "deep/er").stat().st_mode & 0o777 == 0o700  # nobody knows better
