"""What borg says, read with suspicion."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.backup.borg.log import Account, Moved, Said, understand
from usbbackup.backup.borg.trouble import TABLE, good, is_full, trouble, unknown

SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = ["type", "levelname", "message", "msgid", "status", "path", "original_size", "nfiles"]
TYPES = st.sampled_from(["archive_progress", "file_status", "log_message", "question_prompt"])


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def heard(*lines: bytes) -> Account:
    account = Account()
    for each in lines:
        account.hear(understand(each))
    account.close()
    return account


def warning(text: str, **more: object) -> bytes:
    return line(type="log_message", levelname="WARNING", message=text, **more)


def error(text: str, **more: object) -> bytes:
    return line(type="log_message", levelname="ERROR", message=text, **more)


@given(st.binary() | SHAPES.map(lambda shape: json.dumps(shape).encode()))
def test_no_line_is_too_strange(data):
    heard(data)


@given(st.dictionaries(st.sampled_from(KEYS), TYPES | SHAPES))
def test_no_field_is_too_strange(fields):
    heard(json.dumps(fields).encode())


def test_deeply_nested_lines_are_text():
    assert understand(b"[" * 60_000) == Said("TEXT", "[" * 60_000)


def test_progress_is_understood():
    said = line(
        type="archive_progress", original_size=5, nfiles=2, compressed_size=4, path="a", finished=False
    )
    assert understand(said) == Moved(5, 2)
    assert understand(line(type="archive_progress", finished=True)) is None


@pytest.mark.parametrize(
    ("text", "unread", "notes"),
    [
        ("a: stat: [Errno 13] Permission denied: 'a'", ["a: Permission denied"], []),
        ("a: open: [Errno 2] No such file or directory: 'a'", [], ["a: vanished before it was read"]),
        ("a: read: [Errno 5] Input/output error", ["a: Input/output error"], []),
        (
            "a: file type or inode changed while we backed it up (race condition, skipped file)",
            [],
            ["a: was replaced while it was read, and left out"],
        ),
        ("something else", ["a: could not be read"], []),
    ],
)
def test_an_entry_that_is_not_in_the_archive_is_told_with_its_reason(text, unread, notes):
    account = heard(warning(text), line(type="file_status", status="E", path="a"))
    assert (account.unread, account.notes) == (unread, notes)


def test_a_name_that_looks_like_a_reason_is_no_reason():
    name = "a: stat: [Errno 2] No such file"
    text = f"{name}: open: [Errno 13] Permission denied: '{name}'"
    account = heard(warning(text), line(type="file_status", status="E", path=name))
    assert (account.unread, account.notes) == ([f"{name}: Permission denied"], [])


def test_a_file_that_changed_is_only_a_note():
    text = "a\x1b: file changed while we backed it up"
    account = heard(warning(text), line(type="file_status", status="C", path="a\x1b"))
    assert (account.unread, account.notes) == ([], ["a\\x1b: changed while it was read"])


def test_a_warning_about_nothing_known_is_not_passed_over():
    assert heard(warning("one"), warning("two")).unread == ["borg: one", "borg: two"]


def test_a_lock_that_a_killed_borg_left_is_no_entry_that_was_not_read():
    killed = "Killed stale lock laptop@3281355014145.23479-0."
    assert heard(warning(killed, name="borg.locking")).unread == []
    assert understand(warning(killed, name="borg.locking")) == Said("INFO", killed)


def test_only_so_many_names_are_kept():
    lines = [line(type="file_status", status="E", path=str(number)) for number in range(5000)]
    assert len(heard(*lines).unread) == 1000


def test_codes_of_a_good_run():
    assert [code for code in range(-15, 200) if good(code)] == [0, 1, *range(100, 126)]


@pytest.mark.parametrize("msgid", TABLE)
def test_a_message_id_and_its_modern_exit_code_mean_the_same(msgid):
    code, meaning = TABLE[msgid]
    assert trouble(2, heard(error("words", msgid=msgid))) == meaning
    assert trouble(code, heard()) == meaning


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Traceback\n  x\nOSError: [Errno 28] No space left on device\n", "the drive is full"),
        ("Traceback\nOSError: [Errno 30] Read-only file system: 'x'", "the drive became read-only"),
        ("PermissionError: [Errno 13] Permission denied: 'x'", "borg failed: Permission denied"),
    ],
)
def test_the_last_line_of_a_traceback_tells_what_the_system_refused(said, message):
    account = heard(error("Local Exception", msgid="Exception"), error(said))
    assert (trouble(2, account) or unknown("ended", account)).message == message


def test_by_how_much_a_drive_is_too_small_is_told_where_borg_knows():
    said = error(
        "Insufficient free space to complete transaction (required: 546.58 MB, available: 502.10 MB).",
        msgid="Repository.InsufficientFreeSpaceError",
    )
    found = trouble(2, heard(said))
    assert found is not None
    assert found.message == "the drive is full: borg needs 546.58 MB free, and 502.10 MB are"
    assert is_full(found)


def test_a_lock_that_cannot_be_made_is_a_read_only_drive_not_a_locked_one():
    said = error(
        "Failed to create/acquire the lock /x ([Errno 30] Read-only file system: '/x').", msgid="LockFailed"
    )
    found = trouble(2, heard(said))
    assert found is not None
    assert found.message == "the drive became read-only"


def test_what_nobody_knows_is_told_in_borgs_own_words():
    account = heard(error("first\x07\nmore"), error("second"))
    assert trouble(2, account) is None
    assert unknown("ended with exit code 2", account).message == "borg ended with exit code 2: first\\x07"


def test_errors_that_follow_each_other_without_end_are_not_all_kept():
    assert len(heard(*[error(str(number)) for number in range(1000)]).errors) < 50
