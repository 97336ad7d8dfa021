"""What makes a source doubtful."""

import errno
import os
from pathlib import Path

import pytest

from usbbackup.backup.sources import (
    Place,
    Tally,
    doubt_after,
    doubt_before,
    doubt_closed,
    filesystem,
    locate,
    seen,
)
from usbbackup.mountinfo import MountRow, parse
from usbbackup.outcome import SourceSeen

ROWS = parse(Path("/proc/self/mountinfo").read_bytes()).rows


def row(fs_type: str = "ext4", source: bytes = b"/dev/none") -> MountRow:
    return MountRow(1, 0, (8, 1), b"/", b"/home", frozenset(), fs_type, source, frozenset())


def was(files: int = 100, unreadable: int = 0, filesystem: str = "ext4 x") -> SourceSeen:
    return SourceSeen("/home/d", files, unreadable, filesystem)


GONE = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
HERE = Place("/home/d", b"/home/d", True, 1, row())


@pytest.mark.parametrize(
    ("found", "last", "doubt"),
    [
        (HERE, None, None),
        (HERE, was(filesystem="ext4 /dev/none"), None),
        (HERE, was(filesystem="ecryptfs /home/.ecryptfs/d"), "another file system"),
        (HERE, was(filesystem=""), None),
        (GONE, None, "is missing: No such file"),
        (GONE, was(), "is missing: No such file"),
        (GONE, was(filesystem=""), None),
    ],
)
def test_a_source_that_is_missing_or_elsewhere_is_not_read(
    found: Place | OSError, last: SourceSeen | None, doubt: str | None
) -> None:
    said = doubt_before("/home/d", found, last)
    assert said is None if doubt is None else said is not None and doubt in said


@pytest.mark.parametrize(
    ("now", "last", "doubt"),
    [
        (was(1), None, None),
        (was(0), None, "holds no files"),
        (was(0), was(0), None),
        (was(0), was(1), "holds no files"),
        (was(50), was(100), None),
        (was(49), was(100), "holds 49 files, last time it held 100"),
        (was(95, 5), was(100), None),
        (was(94, 6), was(100), "6 of the 100 entries"),
        (was(0, 1), None, "1 of the 1 entries"),
        (was(90, 10), was(90, 10), None),
        (was(80, 20), was(90, 10), "20 of the 100 entries"),
        (was(0, 0, ""), None, None),
    ],
)
def test_a_source_that_is_empty_unreadable_or_halved_becomes_no_backup(
    now: SourceSeen, last: SourceSeen | None, doubt: str | None
) -> None:
    said = doubt_after(now, last)
    assert said is None if doubt is None else said is not None and doubt in said


def test_a_source_is_found_through_its_symlinks(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = locate(str(tmp_path / "link"), ROWS)
    assert isinstance(found, Place)
    assert found.path == os.fsencode((tmp_path / "real").resolve())
    assert found.directory


def test_a_source_that_is_not_there_is_an_error_value(tmp_path: Path) -> None:
    assert isinstance(locate(str(tmp_path / "none"), ROWS), FileNotFoundError)


def test_the_same_file_system_has_the_same_name(tmp_path: Path) -> None:
    one, two = locate(str(tmp_path), ROWS), locate(str(tmp_path.parent), ROWS)
    assert isinstance(one, Place)
    assert isinstance(two, Place)
    assert one.filesystem == two.filesystem != "unknown"


def test_a_file_system_without_uuid_is_named_by_what_is_mounted() -> None:
    assert filesystem(row("nfs4", b"server:/export\n")) == r"nfs4 server:/export\n"


def test_what_is_remembered_of_a_missing_source_is_that_it_was_missing() -> None:
    assert seen("/home/d", GONE, None) == SourceSeen("/home/d", 0, 0, "")
    assert seen("/home/d", HERE, Tally(3, 2, 1)) == SourceSeen("/home/d", 3, 1, "ext4 /dev/none")


def test_a_home_that_is_still_encrypted_is_never_backed_up_as_if_it_were_the_users_files(
    tmp_path: Path,
) -> None:
    found = locate(str(tmp_path), [])
    assert doubt_closed("~/", found) is None
    (tmp_path / ".ecryptfs").mkdir()
    (tmp_path / ".ecryptfs/Private.mnt").write_text(str(tmp_path))
    assert doubt_closed("~/", found) == "source ~/ is still encrypted (eCryptfs): is its owner logged in?"
