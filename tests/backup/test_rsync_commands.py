"""What rsync is asked, by value."""

import pytest
from runs import ROOT

from usbbackup.backup.fitness import Fitness
from usbbackup.backup.rsync.commands import Copy, above, common, copy, named
from usbbackup.backup.walk import Group

FAT = Fitness(*[False] * 7, case=False, huge=False, window=2)


def test_a_first_copy() -> None:
    assert copy(Copy(b"/home/d", "incomplete-T"), Fitness()) == (
        *(b"rsync", b"--files-from=-", b"--from0", b"--ignore-missing-args", b"--force", b"--numeric-ids"),
        *(b"--no-human-readable", b"--8-bit-output", b"--outbuf=L", b"--info=progress2,stats2,name0"),
        *(b"-tlDHpogXA", b"--modify-window=-1"),
        *((b"--filter=-x system.*", b"--filter=-x trusted.SGI_ACL_*") if ROOT else ()),
        *(b"/home/d/", b"incomplete-T/home/d/"),
    )


def test_links_are_named_relative_to_the_destination() -> None:
    asked = copy(Copy(b"/home/d", "incomplete-T", ("snapshots/S", "incomplete-U.synced")), Fitness())
    assert asked[-4:-2] == (
        b"--link-dest=../../../snapshots/S/home/d",
        b"--link-dest=../../../incomplete-U.synced/home/d",
    )
    assert copy(Copy(b"/", "incomplete-T", ("snapshots/S",)), Fitness())[-3:] == (
        b"--link-dest=../snapshots/S",
        b"/",
        b"incomplete-T/",
    )


@pytest.mark.parametrize(
    "wrong", [b"-r", b"--recursive", b"--inplace", b"--append", b"--delete", b"-a", b"--mkpath"]
)
def test_what_would_reach_into_older_snapshots_is_never_asked(wrong: bytes) -> None:
    for what in (Copy(b"/s", "t"), Copy(b"/s", "t", ("u",), by_content=True), Copy(b"/s", "t", dry=True)):
        assert wrong not in copy(what, Fitness())


def test_content_is_compared_and_nothing_written_only_where_wanted() -> None:
    assert {b"--checksum", b"--dry-run"}.isdisjoint(copy(Copy(b"/s", "t"), Fitness()))
    assert b"--checksum" in copy(Copy(b"/s", "t", by_content=True), Fitness())
    assert b"--dry-run" in copy(Copy(b"/s", "t", dry=True), Fitness())


def test_a_comparison_writes_nothing_and_names_what_differs() -> None:
    asked = copy(Copy(b"/s", "snapshots/S", itemized=True), Fitness())
    assert {b"--dry-run", b"--out-format=%i %n//%L"} <= set(asked)


def test_what_a_drive_cannot_keep_is_not_asked() -> None:
    assert copy(Copy(b"/s", "mirror"), FAT)[-4:-2] == (b"-t", b"--modify-window=2")


@pytest.mark.parametrize(
    ("places", "base"),
    [
        ([(b"/home/d", True)], b"/home/d"),
        ([(b"/home/d/file", False)], b"/home/d"),
        ([(b"/home/d", True), (b"/home/d/e", True)], b"/home/d"),
        ([(b"/home/d", True), (b"/home/dd", True)], b"/home"),
        ([(b"/home/d", True), (b"/etc", True)], b"/"),
        ([(b"/", True)], b"/"),
        ([(b"/file", False)], b"/"),
    ],
)
def test_the_base_is_the_directory_that_all_sources_have_in_common(
    places: list[tuple[bytes, bool]], base: bytes
) -> None:
    assert common(places) == base


def listed(group: Group, base: bytes) -> list[bytes]:
    return named(group, base).split(b"\0")[:-1]


@pytest.mark.parametrize(
    ("group", "base", "lines"),
    [
        (Group(b"/s", [b"/s/#f"], whole=True), b"/s", [b"./"]),
        (Group(b"/s", [b"/s/#f", b"/s/;g"]), b"/s", [b"/#f", b"/;g"]),
        (Group(b"/s/d", [b"/s/d/f"], whole=True), b"/s", [b"/d/"]),
        (Group(b"/s/d", [b"/s/d/f"]), b"/s", [b"/d", b"/d/f"]),
        (Group(b"/s/d", []), b"/s", [b"/d"]),
        (Group(b"/home", []), b"/home/d", []),
        (Group(None, [b"/home/d/f"]), b"/home/d", [b"/f"]),
        (Group(b"/", [b"/f"], whole=True), b"/", [b"./"]),
        (Group(b"/", [b"/f"]), b"/", [b"/f"]),
        (Group(b"/home", []), b"/", [b"/home"]),
    ],
)
def test_names_are_relative_to_the_base_and_whole_directories_end_in_a_slash(
    group: Group, base: bytes, lines: list[bytes]
) -> None:
    assert listed(group, base) == lines


def test_the_directories_above_are_listed_apart() -> None:
    assert above(b"/home/d") == b"/home\0/home/d\0"
    assert above(b"/") == b""
