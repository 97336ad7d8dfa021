"""What XFS does in its own way: to root it shows each access control list once more, as an attribute."""

import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from filesystems import mounted
from runs import ROOT, Place, everything
from shelf import Shelf

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not ROOT, reason="mounting needs root"),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed"),
]

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
# user::rw-, user:1234:rw-, group::r--, mask::rw-, other::--- (acl(5)), as the kernel stores it
LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *one) for one in ((1, 6, -1), (2, 6, 1234), (4, 4, -1), (0x10, 6, -1), (0x20, 0, -1))
)


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    with mounted("xfs", tmp_path) as where:
        yield where


def planted(source: Path) -> None:
    (source / "shared").mkdir()
    (source / "shared/letter").write_text("for two")
    for name, path in ((ACCESS, "shared/letter"), (DEFAULT, "shared"), (ACCESS, "shared")):
        os.setxattr(source / path, name, LIST)
    os.setxattr(source / "shared/letter", "trusted.note", b"kept")


@pytest.mark.parametrize("by_manifest", [True, False])
def test_lists_stay_when_something_else_of_a_file_changes(
    xfs: Path, tmp_path: Path, *, by_manifest: bool
) -> None:
    place = Place(tmp_path, xfs)
    planted(place.source)
    place.run()
    for path in ("shared/letter", "shared"):
        os.setxattr(place.source / path, "user.colour", b"green")
    (place.source / "shared/new").write_text("it inherits the list")
    if not by_manifest:
        shutil.rmtree(place.top / "home/.cache")
    place.run()
    stored = everything(place.stored())
    assert stored == everything(place.source)
    assert stored["shared/letter"][4] == {ACCESS: LIST, "user.colour": b"green", "trusted.note": b"kept"}
    place.run()
    assert everything(place.stored()) == stored


def test_a_mirror_and_a_restore_keep_them_too(xfs: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, xfs)
    place.job = place.with_job(layout="mirror")
    planted(place.source)
    place.run()
    os.setxattr(place.source / "shared/letter", "user.colour", b"green")
    os.setxattr(place.source / "shared", "user.colour", b"green")
    place.run()
    mirror = next(place.job_folder.glob("mirror*")) / str(place.source)[1:]
    assert everything(mirror) == everything(place.source)

    place = Place(tmp_path / "other", xfs / "other")
    planted(place.source)
    place.run()
    to = xfs / "restored"
    to.mkdir()
    assert Shelf(place).restore(to=to).whole
    for path in ("shared/letter", "shared"):
        (to / str(place.source)[1:] / path).chmod(0o700)
    assert Shelf(place).restore(to=to, overwrite=True).whole
    assert everything(to / str(place.source)[1:]) == everything(place.source)


def test_the_lists_of_an_xfs_source_are_kept_once(xfs: Path, tmp_path: Path) -> None:
    source = xfs / "source"
    source.mkdir()
    planted(source)
    place = Place(tmp_path)
    place.job = place.with_job(sources=(str(source),))
    place.run()
    assert everything(place.stored(of=source)) == everything(source)
    held = place.stored(of=source)
    assert not [name for path in (held, held / "shared") for name in os.listxattr(path) if "SGI" in name]
