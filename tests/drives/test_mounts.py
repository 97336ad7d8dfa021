"""The mount table, with all that real systems put into it."""

import asyncio
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usbbackup.drives.mounts import KernelMountTable, MountRow, parse


def row(line: bytes) -> MountRow:
    (found,), malformed = parse(line + b"\n")
    assert malformed == 0
    return found


PLAIN = b"36 35 8:17 / /media/david/backup rw,nosuid,relatime shared:1 - ext4 /dev/sdb1 rw,errors=remount-ro"


def test_a_plain_line_is_read_field_by_field():
    assert row(PLAIN) == MountRow(
        mount_id=36,
        parent_id=35,
        devnum=(8, 17),
        root=b"/",
        mount_point=b"/media/david/backup",
        options=frozenset({"rw", "nosuid", "relatime"}),
        fs_type="ext4",
        source=b"/dev/sdb1",
        super_options=frozenset({"rw", "errors=remount-ro"}),
    )


GOOD = {
    "blank": (
        rb"36 35 8:17 / /media/my\040drive rw - ext4 /dev/sdb1 rw",
        {"mount_point": b"/media/my drive"},
    ),
    "tab": (rb"36 35 8:17 / /media/a\011b rw - ext4 /dev/sdb1 rw", {"mount_point": b"/media/a\tb"}),
    "newline": (rb"36 35 8:17 / /media/a\012b rw - ext4 /dev/sdb1 rw", {"mount_point": b"/media/a\nb"}),
    "backslash": (rb"36 35 8:17 / /media/a\134040 rw - ext4 /dev/sdb1 rw", {"mount_point": rb"/media/a\040"}),
    "hash": (rb"36 35 0:44 / /mnt rw - fuse.sshfs host:\043x rw", {"source": b"host:#x"}),
    "other white space": (
        b"36 35 8:17 / /media/a\rb\x0bc\x0cd\x85e rw - ext4 /dev/sdb1 rw",
        {"mount_point": b"/media/a\rb\x0bc\x0cd\x85e"},
    ),
    "a dash": (b"36 35 8:17 / /- rw - ext4 - rw", {"mount_point": b"/-", "source": b"-"}),
    "invalid UTF-8": (
        b"36 35 8:17 / /media/\xff\xfe rw - ext4 /dev/sdb1 rw",
        {"mount_point": b"/media/\xff\xfe"},
    ),
    "no optional field": (b"36 35 8:17 / /mnt rw - ext4 /dev/sdb1 rw", {"mount_id": 36}),
    "many optional fields": (
        b"36 35 8:17 / /mnt rw shared:7 master:2 propagate_from:1 unbindable future:9 - ext4 /dev/sdb1 rw",
        {"fs_type": "ext4", "source": b"/dev/sdb1"},
    ),
    "bind of a folder": (b"40 35 8:17 /pics /home/d/pics rw - ext4 /dev/sdb1 rw", {"root": b"/pics"}),
    "bind of a deleted folder": (
        b"40 35 8:17 /p//deleted /mnt rw - ext4 /dev/sdb1 rw",
        {"root": b"/p//deleted"},
    ),
    "btrfs subvolume": (
        b"41 35 0:71 /@backup /mnt rw - btrfs /dev/sdb1 rw,space_cache=v2,subvolid=256,subvol=/@backup",
        {"devnum": (0, 71), "root": b"/@backup", "fs_type": "btrfs"},
    ),
    "autofs": (
        b"42 35 0:50 / /mnt rw - autofs systemd-1 rw,fd=29,pgrp=1,timeout=0,minproto=5,maxproto=5,direct",
        {"fs_type": "autofs"},
    ),
    "overlay": (
        rb"43 35 0:60 / /mnt rw - overlay overlay rw,lowerdir=/a\134:b:/c\040d,upperdir=/u,workdir=/w",
        {
            "source": b"overlay",
            "super_options": frozenset({"rw", r"lowerdir=/a\:b:/c d", "upperdir=/u", "workdir=/w"}),
        },
    ),
    "ntfs-3g": (
        b"44 35 8:17 / /mnt rw - fuseblk /dev/sdb1 rw,user_id=0,group_id=0,allow_other,blksize=4096",
        {"devnum": (8, 17), "fs_type": "fuseblk"},
    ),
    "no source": (b"45 35 0:61 / /mnt rw - tmpfs  rw", {"source": b"", "fs_type": "tmpfs"}),
    "a blank in the super options": (b"46 35 0:62 / /mnt rw - fuse.x x rw,name=a b", {"fs_type": "fuse.x"}),
    "outside of our root": (b"47 47 0:2 / / rw - rootfs rootfs rw", {"parent_id": 47}),
    "extended device number": (
        b"48 35 259:1048575 / /mnt rw - ext4 /dev/nvme9n1p17 rw",
        {"devnum": (259, 1048575)},
    ),
}


@pytest.mark.parametrize(("line", "expected"), GOOD.values(), ids=GOOD)
def test_a_hard_line_is_read(line, expected):
    found = row(line)
    assert {name: getattr(found, name) for name in expected} == expected


BAD = {
    "no separator": b"36 35 8:17 / /mnt rw shared:1 ext4 /dev/sdb1 rw",
    "nothing after the separator": b"36 35 8:17 / /mnt rw -",
    "a kind and no source": b"36 35 8:17 / /mnt rw - ext4",
    "cut off": b"36 35 8:17 / /mnt",
    "words for numbers": b"a b c:d / /mnt rw - ext4 /dev/sdb1 rw",
    "a negative id": b"-36 35 8:17 / /mnt rw - ext4 /dev/sdb1 rw",
    "a device without minor": b"36 35 8 / /mnt rw - ext4 /dev/sdb1 rw",
    "three parts of a device": b"36 35 8:17:1 / /mnt rw - ext4 /dev/sdb1 rw",
    "a number without end": b"9" * 5000 + b" 35 8:17 / /mnt rw - ext4 /dev/sdb1 rw",
    "a relative mount point": b"36 35 8:17 / mnt rw - ext4 /dev/sdb1 rw",
    "blanks alone": b"       ",
    "a NUL": b"\0",
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD)
def test_a_malformed_line_is_skipped_counted_and_harms_no_other(line):
    rows, malformed = parse(PLAIN + b"\n" + line + b"\n" + PLAIN + b"\n")
    assert malformed == 1
    assert len(rows) == 2


def test_an_empty_table_has_no_rows():
    assert parse(b"") == ([], 0)
    assert parse(b"\n\n") == ([], 0)


def test_the_last_line_needs_no_newline():
    assert len(parse(PLAIN).rows) == 1


@pytest.mark.parametrize(
    ("options", "super_options", "read_only", "stopped"),
    [
        (b"rw", b"rw", False, False),
        (b"ro", b"rw", True, False),  # a read-only bind mount
        (b"rw", b"ro", True, False),
        (b"rw", b"rw,emergency_ro", False, True),  # ext4 after an error: it still says rw
        (b"rw", b"rw,shutdown", False, True),  # xfs, ext4, btrfs after a shutdown
        (b"rw,rocket", b"rw,errors=remount-ro", False, False),
    ],
)
def test_a_row_knows_whether_writing_makes_sense(options, super_options, read_only, stopped):
    found = row(b"36 35 8:17 / /mnt " + options + b" - ext4 /dev/sdb1 " + super_options)
    assert (found.read_only, found.stopped) == (read_only, stopped)


def escaped(raw: bytes) -> bytes:
    """As the kernel's mangle() writes it."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in raw)


names = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b""))
numbers = st.integers(0, 2**31)


@given(
    numbers,
    numbers,
    numbers,
    numbers,
    names,
    names,
    names,
    st.lists(st.sampled_from(["shared:1", "master:2"])),
)
def test_whatever_the_kernel_writes_is_read_back(mount, parent, major, minor, root, point, source, optional):
    fields = [
        b"%d %d %d:%d" % (mount, parent, major, minor),
        b"/" + escaped(root),
        b"/" + escaped(point),
        b"rw",
        *(field.encode() for field in optional),
        b"-",
        b"ext4",
        escaped(source),
        b"rw",
    ]
    found = row(b" ".join(fields))
    assert (found.mount_id, found.parent_id, found.devnum) == (mount, parent, (major, minor))
    assert (found.root, found.mount_point, found.source) == (b"/" + root, b"/" + point, source)


@given(st.binary(max_size=300))
@example(b"1 1 1:1 / / rw - \\777 \\400 \\08 \\")
def test_no_bytes_at_all_make_reading_fail(data):
    rows, malformed = parse(data)
    assert len(rows) + malformed == sum(1 for line in data.split(b"\n") if line)


@given(st.lists(st.sampled_from([*PLAIN.split(b" "), b"", b"\\", b"\xff"]), max_size=14))
def test_no_order_of_fields_makes_reading_fail(fields):
    parse(b" ".join(fields))


def test_ten_times_the_rows_take_ten_times_the_steps():
    def steps(count):
        line = b"%d 1 8:17 / /media/a\\040%d rw shared:1 - ext4 /dev/sdb1 rw\n"
        data = b"".join(line % (number, number) for number in range(count))
        taken = []
        sys.setprofile(lambda _frame, event, _what: taken.append(event))
        try:
            parsed = parse(data)
        finally:
            sys.setprofile(None)
        assert len(parsed.rows) == count
        return len(taken)

    assert steps(10_000) < 11 * steps(1_000)


def test_the_kernels_own_table_is_read_whole():
    table = KernelMountTable()
    rows = table.read()
    assert table.malformed == 0
    assert b"/proc" in {found.mount_point for found in rows}


def test_an_idle_watch_calls_nobody_and_gives_its_descriptors_back(open_descriptors):
    async def main():
        before = open_descriptors()
        calls = []
        watch = KernelMountTable().watch(lambda: calls.append(1))
        for _ in range(100):
            await asyncio.sleep(0)
        watch.cancel()
        watch.cancel()
        assert len(calls) < 10  # a reader on mountinfo itself would be called each round; others may mount
        assert open_descriptors() == before

    asyncio.run(main())
