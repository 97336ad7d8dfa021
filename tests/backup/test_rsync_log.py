"""What rsync says, line by line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.backup.rsync.log import Account, Kind, Moved, complaint, is_full, item, progress, unfit
from usbbackup.programs import Ended


@pytest.mark.parametrize(
    ("line", "moved"),
    [
        (b"          32768   0%    0.00kB/s    0:00:00  ", Moved(32768, 0.0)),
        (b"  8388608  25%  498.05MB/s    0:00:00 (xfr#1, to-chk=3/5)", Moved(8388608, 40.0, 33554432)),
        (b"  1,000 100%  1.00kB/s    0:00:00 (xfr#1, ir-chk=900/1000)", Moved(1000, 100.0, 1000)),
        (b"  7 50%  1.00kB/s    0:00:00 (xfr#1, to-chk=9/0)", Moved(7, 50.0, 14)),
        (b"Number of files: 18 (reg: 5, dir: 12, link: 1)", None),
        (b"", None),
    ],
)
def test_progress_is_the_larger_share_of_bytes_and_entries(line: bytes, moved: Moved | None) -> None:
    assert progress(line) == moved


def test_statistics_are_kept() -> None:
    account = Account()
    for line in (
        b"Number of regular files transferred: 1,204",
        b"Total file size: 120,000,002 bytes",
        b"Total transferred file size: 8 bytes",
        b"total size is 12  speedup is 0.02",
    ):
        assert account.out(line) is None
    assert (account.copied, account.total_bytes, account.copied_bytes) == (1204, 120_000_002, 8)


@pytest.mark.parametrize(
    ("line", "kind", "about"),
    [
        (
            b'rsync: [sender] send_files failed to open "/s/a\\#012b": Permission denied (13)',
            Kind.MISSED,
            r"/s/a\nb: Permission denied",
        ),
        (
            b'rsync: [sender] send_files failed to open "/s/caf\xe9": Permission denied (13)',
            Kind.MISSED,
            r"/s/caf\xe9: Permission denied",
        ),
        (
            b'rsync: [sender] read errors mapping "/s/f": Input/output error (5)',
            Kind.MISSED,
            "/s/f: Input/output error",
        ),
        (
            b'rsync: [sender] read errors mapping "/s/f": No data available (61)',
            Kind.CHANGED,
            "/s/f: vanished or changed while it was read",
        ),
        (b'file has vanished: "/s/f"', Kind.CHANGED, "/s/f: vanished or changed while it was read"),
        (
            b"WARNING: s/f failed verification -- update discarded (will try again).",
            Kind.CHANGED,
            "s/f: vanished or changed while it was read",
        ),
        (
            b'rsync: [receiver] rsync_xal_set: fsetxattr("/m/f1","user.big") failed: No space left (28)',
            Kind.MISSED,
            "/m/f1: kept without all of its attributes: No space left on device",
        ),
        (
            b'rsync: [generator] get_acl: sys_acl_get_file("/m/f", A): No such file or directory (2)',
            Kind.MISSED,
            "/m/f: kept without all of its attributes: No such file or directory",
        ),
        (
            b'rsync: [generator] chown "/m/f" failed: Operation not permitted (1)',
            Kind.MISSED,
            "/m/f: kept without all of its attributes: Operation not permitted",
        ),
        (
            b'rsync: [receiver] mkstemp "/m/.a:b.Xy" failed: Invalid argument (22)',
            Kind.MISSED,
            "/m/.a:b.Xy: the drive cannot hold it: Invalid argument",
        ),
        (
            b'rsync: [receiver] write failed on "/m/f3": No space left on device (28)',
            Kind.FATAL,
            'write failed on "/m/f3": No space left on device',
        ),
        (
            b"rsync: [generator] set_acl: sys_acl_set_file(/m/f, ACL) failed: Read-only file system (30)",
            Kind.FATAL,
            "set_acl: sys_acl_set_file(/m/f, ACL) failed: Read-only file system",
        ),
        (
            b'rsync: [generator] recv_generator: mkdir "/m/d" failed: Permission denied (13)',
            Kind.FATAL,
            'recv_generator: mkdir "/m/d" failed: Permission denied',
        ),
        (b"rsync: [sender] write error: Broken pipe (32)", Kind.NOISE, None),
        (b"rsync error: error in file IO (code 11) at receiver.c(657) [receiver=3.5.0]", Kind.NOISE, None),
        (b"rsync: connection unexpectedly closed (45 bytes received so far) [sender]", Kind.NOISE, None),
        (b"--link-dest arg does not exist: /x", Kind.NOISE, None),
        (b"something nobody has ever heard", Kind.FATAL, "something nobody has ever heard"),
    ],
)
def test_each_complaint_has_its_meaning(line: bytes, kind: Kind, about: str | None) -> None:
    heard = complaint(line)
    assert heard.kind is kind
    assert about is None or heard.about == about


def after(*lines: bytes) -> Account:
    account = Account()
    for line in lines:
        account.err(line)
    return account


UNREAD = b'rsync: [sender] send_files failed to open "/s/f": Permission denied (13)'
NO_ROOM = b'rsync: [receiver] write failed on "/m/f3": No space left on device (28)'


@pytest.mark.parametrize(
    ("code", "lines", "why"),
    [
        (0, [], None),
        (24, [b'file has vanished: "/s/f"'], None),
        (23, [UNREAD], None),
        (23, [UNREAD, b"what is this"], "rsync ended with exit code 23: what is this"),
        (11, [NO_ROOM], 'rsync ended with exit code 11: write failed on "/m/f3": No space left on device'),
        (20, [], "rsync ended with exit code 20: last words"),
        (-9, [], "rsync was killed by SIGKILL: last words"),
        (12, [], "rsync ended with exit code 12: last words"),
        (
            2,
            [b"attempt to copy device contents without --copy-devices"],
            "rsync ended with exit code 2: a file became a device while it was to be copied",
        ),
    ],
)
def test_only_what_is_whole_may_be_published(code: int, lines: list[bytes], why: str | None) -> None:
    assert unfit(Ended(code, ("last words",)), after(*lines)) == why


def test_a_full_drive_is_told_from_the_error_and_not_from_the_exit_code() -> None:
    assert is_full(after(NO_ROOM))
    assert not is_full(after(b'rsync: [receiver] mkstemp "/m/x" failed: Permission denied (13)'))


def test_a_flood_of_complaints_is_counted_but_not_kept() -> None:
    account = after(*(UNREAD.replace(b"/s/f", b"/s/%d" % number) for number in range(1500)))
    assert account.missed == 1500
    assert len(account.lines(Kind.MISSED)) == 1000


PIECES = st.sampled_from(
    [
        b"rsync: [sender] ",
        b'"',
        b": ",
        b" (13)",
        b"%",
        b"to-chk=",
        b"1/0)",
        b"\\#999",
        b"\x00\xff",
        b"Total file size: ",
    ]
)


@given(st.lists(PIECES | st.binary(max_size=20), max_size=8).map(b"".join))
def test_no_line_is_too_odd(line: bytes) -> None:
    account = Account()
    account.out(line)
    account.err(line)
    assert all(about.isprintable() for kind in Kind for about in account.lines(kind))


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (b".f...p..... d/a//", (b"d/a",)),
        (b">f.st...... a => b//", (b"a => b",)),
        (b"cL+++++++++ l// -> d//e", (b"l",)),
        (b"hf+++++++++ c// => a", (b"c", b"a")),
        (b"hf.st...... c//", (b"c",)),
        (b".S...p..... pipe//", (b"pipe",)),
        (b".f...p..... \\#012\\#134#012\\#999//", (b"\n\\#012\\#999",)),
        (b".d..t...... ./", ()),
        (b".d..t...... d///", ()),
        (b"*deleting   d/", ()),
        (b"Number of files: 3", ()),
    ],
)
def test_an_itemized_line_names_what_differs(line: bytes, names: tuple[bytes, ...]) -> None:
    assert item(line) == names
