"""The list of what is backed up."""

import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from usbbackup.backup.engine import Over
from usbbackup.backup.matcher import Matcher
from usbbackup.backup.scan import Scan
from usbbackup.backup.sources import Place, Tally, locate
from usbbackup.backup.walk import Rules
from usbbackup.mountinfo import MountRow, parse
from usbbackup.outcome import Outcome, Stop

ROWS = parse(Path("/proc/self/mountinfo").read_bytes()).rows
ROOT = os.geteuid() == 0


def rules(*patterns: str, presets: tuple[str, ...] = (), **changes: object) -> Rules:
    said: dict[str, object] = {
        "matcher": Matcher(patterns, presets),
        "one_file_system": True,
        "mounts": {row.mount_point: row for row in ROWS},
        "avoid": frozenset(),
        "stop": Stop(),
        **changes,
    }
    return Rules(**said)  # type: ignore[arg-type] # a test's own shorthand


def placed(*sources: Path) -> list[Place]:
    found = [locate(str(source), ROWS) for source in sources]
    assert all(isinstance(place, Place) for place in found)
    return found  # type: ignore[return-value] # just asserted


def listed(scan: Scan) -> list[bytes]:
    return [entry for batch in scan.batches() for entry in batch]


def below(top: Path, entries: list[bytes]) -> set[str]:
    """What was listed inside `top`, relative to it."""
    start = os.fsencode(str(top.resolve())[1:]) + b"/"
    return {os.fsdecode(entry[len(start) :]) for entry in entries if entry.startswith(start)}


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "s/d/e").mkdir(parents=True)
    (tmp_path / "s/d/file").write_text("x")
    (tmp_path / "s/link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "s/fifo")
    return tmp_path / "s"


def test_lists_every_entry_once_parents_first(top: Path) -> None:
    entries = listed(Scan(placed(top), rules()))
    assert below(top, entries) == {"d", "d/e", "d/file", "link", "fifo"}
    assert len(entries) == len(set(entries))
    for entry in entries:
        parent = entry.rpartition(b"/")[0]
        assert not parent or parent in entries[: entries.index(entry)]


def test_the_order_is_the_same_every_time(top: Path) -> None:
    for name in ("z", "a", "m"):
        (top / "d" / name).touch()
    assert listed(Scan(placed(top), rules())) == listed(Scan(placed(top), rules()))


def test_writes_a_prefix_before_and_a_null_after_each_entry(top: Path) -> None:
    out = io.BytesIO()
    scan = Scan(placed(top), rules())
    scan.write(out, b"./")
    assert out.getvalue() == b"".join(b"./" + entry + b"\0" for entry in listed(Scan(placed(top), rules())))
    assert scan.files == 3


def test_counts_files_and_directories_of_each_source(top: Path) -> None:
    scan = Scan(placed(top), rules())
    listed(scan)
    assert scan.tallies == {os.fsencode(top.resolve()): Tally(files=3, directories=3)}


def test_names_of_any_bytes_come_through(top: Path) -> None:
    names = [b"#x", b";x", b"-x", b"new\nline", b"caf\xe9", b" ", b"\\#012", b"\x1b[31m"]
    for name in names:
        (top / os.fsdecode(name)).touch()
    assert {os.fsdecode(name) for name in names} <= below(top, listed(Scan(placed(top), rules())))


def test_sockets_are_left_out(top: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(top / "sock"))
        assert "sock" not in below(top, listed(Scan(placed(top), rules())))


@pytest.mark.skipif(not ROOT, reason="only root makes device nodes")
def test_device_nodes_are_kept_for_root_only(top: Path) -> None:
    os.mknod(top / "null", 0o020600, os.makedev(1, 3))
    assert "null" in below(top, listed(Scan(placed(top), rules())))
    assert "null" not in below(top, listed(Scan(placed(top), rules(root=False))))


def test_excludes_are_relative_to_each_source(top: Path) -> None:
    (top / "d/s").mkdir()
    assert "d" not in below(top, listed(Scan(placed(top), rules("/d"))))
    assert "e" not in below(top / "d", listed(Scan(placed(top / "d"), rules("/e"))))
    assert "d/e" in below(top, listed(Scan(placed(top), rules("/e"))))


def test_a_tagged_cache_is_emptied_by_the_preset_only_and_never_the_source_itself(top: Path) -> None:
    tag = "Signature: 8a477f597d28d172789f06886806bc55\n# by some program"
    (top / "CACHEDIR.TAG").write_text(tag)
    (top / "d/CACHEDIR.TAG").write_text(tag)
    (top / "d/e/CACHEDIR.TAG").write_text("no such signature")
    entries = below(top, listed(Scan(placed(top), rules(presets=("caches",)))))
    assert entries == {"link", "fifo", "CACHEDIR.TAG", "d"}, "an empty directory is kept in its place"
    assert {"d/file", "d/e/CACHEDIR.TAG"} <= below(top, listed(Scan(placed(top), rules())))


def test_a_fifo_named_like_the_tag_blocks_nothing(top: Path) -> None:
    os.mkfifo(top / "d/CACHEDIR.TAG")
    assert "d/file" in below(top, listed(Scan(placed(top), rules(presets=("caches",)))))


def whole(scan: Scan, path: Path) -> bool:
    return next(group.whole for group in scan.groups() if group.directory == os.fsencode(path.resolve()))


def test_a_directory_of_which_nothing_is_left_out_is_whole(top: Path) -> None:
    assert whole(Scan(placed(top), rules()), top)
    assert whole(Scan(placed(top), rules("/d/e")), top)
    assert not whole(Scan(placed(top), rules("/d/e")), top / "d")
    assert not whole(Scan(placed(top), rules("/link")), top)
    assert whole(Scan(placed(top), rules("/link")), top / "d")


def test_a_directory_with_a_socket_is_not_whole(top: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(top / "sock"))
        assert not whole(Scan(placed(top), rules()), top)


def test_a_directory_that_is_kept_empty_is_not_whole(top: Path) -> None:
    tag = "Signature: 8a477f597d28d172789f06886806bc55"
    (top / "d/CACHEDIR.TAG").write_text(tag)
    scan = Scan(placed(top), rules(presets=("caches",)))
    assert not whole(scan, top / "d")


def test_a_single_file_can_be_a_source(top: Path) -> None:
    scan = Scan(placed(top / "d/file"), rules())
    assert below(top, listed(scan)) == {"d", "d/file"} - ({"d"} if not os.access(top, os.R_OK) else set())
    assert scan.files == 1


def test_a_source_inside_another_is_walked_once_by_its_own_patterns(top: Path) -> None:
    entries = listed(Scan(placed(top, top / "d"), rules("/e")))
    assert below(top, entries) == {"d", "d/file", "link", "fifo"}
    assert len(entries) == len(set(entries))


def test_the_drive_that_is_written_to_is_never_entered(top: Path) -> None:
    drive = (top / "d").stat()
    avoid = frozenset({(drive.st_dev, drive.st_ino)})
    assert below(top, listed(Scan(placed(top), rules(avoid=avoid)))) == {"link", "fifo", "d"}


def mounted(path: Path, fs_type: str) -> dict[bytes, MountRow]:
    point = os.fsencode(path)
    return {point: MountRow(999, 1, (0, 999), b"/", point, frozenset(), fs_type, b"x", frozenset())}


@pytest.mark.parametrize(
    ("fs_type", "one_file_system", "seen"),
    [
        ("ext4", True, {"d"}),
        ("ext4", False, {"d", "d/e", "d/file"}),
        ("fuse.sshfs", True, set()),
        ("autofs", True, set()),
        ("fuse.sshfs", False, {"d", "d/e", "d/file"}),
        ("proc", False, {"d"}),
    ],
)
def test_mount_points_are_kept_empty_or_left_alone_or_entered(
    top: Path, fs_type: str, one_file_system: bool, seen: set[str]
) -> None:
    heeded = rules(mounts=mounted(top / "d", fs_type), one_file_system=one_file_system)
    assert below(top, listed(Scan(placed(top), heeded))) == {"link", "fifo"} | seen


def test_what_may_not_be_read_is_counted_named_and_left_out(top: Path) -> None:
    (top / "d/file").chmod(0)
    (top / "d/e").chmod(0o300)
    (top / "entered").mkdir(mode=0o400)
    scan = Scan(placed(top), rules(root=False))
    if ROOT:
        pytest.skip("root may read everything")
    assert below(top, listed(scan)) == {"d", "link", "fifo"}
    assert scan.tallies[os.fsencode(top.resolve())].unreadable == 3
    assert sorted(line.rpartition("/")[2] for line in scan.unread.lines) == [
        "e: Permission denied",
        "entered: Permission denied",
        "file: Permission denied",
    ]


def test_a_wish_to_stop_ends_the_walk_with_its_result(top: Path) -> None:
    stop = Stop()
    walk: Iterator[list[bytes]] = Scan(placed(top), rules(stop=stop)).batches()
    next(walk)
    stop.set(Outcome.CANCELLED, "the user said so")
    with pytest.raises(Over) as over:
        list(walk)
    assert over.value.result.outcome is Outcome.CANCELLED


def test_a_list_that_is_not_fit_to_be_used_never_comes_to_its_end(top: Path) -> None:
    def doubtful() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        Scan(placed(top), rules(), doubtful).write(io.BytesIO(), b"")
