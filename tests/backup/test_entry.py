"""A snapshot's entries: each has a place of its own below the top, or the snapshot is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.backup.borg.archive import Listing
from usbbackup.backup.entry import Entry, Kind, relative, sound
from usbbackup.errors import UsageError, UsbbackupError


def entry(path: bytes, kind: Kind = Kind.FILE) -> Entry:
    return Entry(path, kind, 0o644, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "paths",
    [
        [b"../etc/passwd"],
        [b"home/../../etc/passwd"],
        [b"/etc/passwd"],
        [b"home//etc"],
        [b"."],
        [b""],
        [b"home/."],
        [b"nul\0"],
        [b"twice", b"twice"],
    ],
)
def test_a_path_that_leads_out_is_refused(paths: list[bytes]) -> None:
    with pytest.raises(UsbbackupError, match="lead out of it"):
        sound(map(entry, paths))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.DIRECTORY])
def test_nothing_lies_behind_what_is_no_directory(kind: Kind) -> None:
    with pytest.raises(UsbbackupError, match="lead out of it"):
        sound([entry(b"home/link", kind), entry(b"home/link/deep/passwd")])


def test_a_directory_comes_before_what_is_in_it() -> None:
    paths = [b"a/b", b"a-b", b"a", b"a/b/c"]
    found = sound(entry(path, Kind.DIRECTORY) for path in paths)
    assert [one.path for one in found] == [b"a", b"a/b", b"a/b/c", b"a-b"]


@pytest.mark.parametrize("word", ["..", "home/../..", "", "./x"])
def test_a_word_that_names_no_path_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        relative(word)


def dumped(items: list[dict]) -> bytes:
    """As borg prints an archive: its entries in JSON, indented by four blanks."""
    texts = ["\n".join("    " + line for line in json.dumps(item, indent=4).split("\n")) for item in items]
    return ('{\n    "_name": "a",\n    "_items": [\n' + ",\n".join(texts) + "\n    ]\n}\n").encode()


ITEM = {"path": "a", "mode": 0o100644, "uid": 1, "gid": 2, "mtime": 5, "chunks": [["x", 3, 2]], "size": 3}


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(1, 50))
def test_borgs_account_is_read_however_it_is_cut(texts: list[str], size: int) -> None:
    texts = [text.replace("\x7f", "") for text in texts]
    account = dumped([ITEM | {"path": "a/" + text} for text in texts])
    found: list[Entry] = []
    listing = Listing(found.append)
    for start in range(0, len(account), size):
        listing(account[start : start + size])
    listing.close()
    assert [one.path for one in found] == [("a/" + text).encode("utf-8", "surrogatepass") for text in texts]


def test_an_account_that_ends_early_is_none() -> None:
    account = dumped([ITEM, ITEM | {"path": "b"}])
    for end in (0, 40, len(account) - 8):
        listing = Listing(lambda entry: None)
        listing(account[:end])
        with pytest.raises(UsbbackupError, match="cannot be read"):
            listing.close()


@pytest.mark.parametrize(
    "wrong", [{"mode": "x"}, {"path": 5}, {"path": "\x7fzz"}, {"mtime": None}, {"mode": 7}]
)
def test_an_account_that_makes_no_sense_is_none(wrong: dict) -> None:
    with pytest.raises(UsbbackupError, match="cannot be read"):
        Listing(lambda entry: None)(dumped([ITEM | wrong]))


def test_other_names_of_a_file_have_its_size_and_content() -> None:
    first = ITEM | {"hardlink_master": True}
    second = {"path": "b", "source": "a", "mode": 0o100644, "uid": 1, "gid": 2, "mtime": 5}
    found: list[Entry] = []
    Listing(found.append)(dumped([first, second]))
    assert found[0]._replace(path=b"b") == found[1]
    assert found[0].size == 3
    assert found[0].node


def test_directories_above_that_nobody_tells_of_are_made_up() -> None:
    found = sound([entry(b"a/b/c"), entry(b"a", Kind.DIRECTORY)])
    assert [(one.path, one.kind, one.made_up) for one in found] == [
        (b"a", Kind.DIRECTORY, False),
        (b"a/b", Kind.DIRECTORY, True),
        (b"a/b/c", Kind.FILE, False),
    ]
    with pytest.raises(UsbbackupError):
        sound([entry(b"a/b/c"), entry(b"a", Kind.SYMLINK)])
