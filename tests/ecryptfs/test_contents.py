"""The plain text of single files."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ecryptfs import encrypted
from usbbackup.ecryptfs.contents import PIECE, Decryption, plain_text, signatures
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.header import XATTR
from usbbackup.ecryptfs.passphrase import Keys
from usbbackup.folders import closing


def read(path: Path, keys: Keys, *, is_named: bool = True) -> bytes:
    with closing(os.open(path, os.O_RDONLY)) as file:
        text = plain_text(file, keys, encrypted=is_named)
        plain = b"".join(text.pieces)
    assert len(plain) == text.size
    return plain


@settings(max_examples=50)
@given(st.binary(min_size=1, max_size=3 * 4096), st.sampled_from([16, 24, 32]), st.integers(0, 2**40))
def test_extents_decrypted_together_are_as_if_decrypted_alone(plain: bytes, size: int, first: int) -> None:
    key = bytes(range(size))
    extents = encrypted.contents(bytes(4096) * (first % 3) + plain, key)
    skipped = first % 3 * 4096
    together = Decryption(key).plain(extents[skipped:], first % 3)
    assert bytes(together[: len(plain)]) == plain


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 5000])
def test_a_file_of_several_pieces_is_whole(tmp_path: Path, keys: Keys, size: int) -> None:
    plain = (b"%08d" % size * (size // 8 + 1))[:size]
    path = tmp_path / "large"
    path.write_bytes(encrypted.file(plain, keys))
    assert read(path, keys) == plain


def test_a_header_may_lie_in_an_attribute(tmp_path: Path, keys: Keys) -> None:
    path, own, plain = tmp_path / "file", bytes(range(16)), b"x" * 5000
    path.write_bytes(encrypted.contents(plain, own))
    try:
        os.setxattr(path, XATTR, encrypted.header(len(plain), own, keys.contents)[:200])
    except OSError:
        pytest.skip("the file system for temporary files has no extended attributes")
    assert read(path, keys) == plain


def test_an_empty_lower_file_is_an_empty_file_as_it_is_for_the_kernel(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "file"
    path.touch()
    assert read(path, keys) == b""


@pytest.mark.parametrize("size", [1, 8191, 8193, 3 * 4096 + 1])
def test_what_was_never_encrypted_is_given_as_it_is(tmp_path: Path, keys: Keys, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"p" * size)
    assert read(path, keys, is_named=False) == b"p" * size
    with pytest.raises(DamagedError, match="no eCryptfs header"):
        read(path, keys)


@pytest.mark.parametrize("size", [8192, 12288])
def test_what_looks_like_an_encrypted_file_is_not_given_as_it_is(
    tmp_path: Path, keys: Keys, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"p" * size)
    with pytest.raises(DamagedError, match="look at it by hand"):
        read(path, keys, is_named=False)


@pytest.mark.parametrize("lost", [1, 4096, 4097, 8192])
def test_a_file_that_is_cut_off_gives_nothing(tmp_path: Path, keys: Keys, lost: int) -> None:
    path = tmp_path / "file"
    whole = encrypted.file(b"x" * 5000, keys)
    path.write_bytes(whole[:-lost])
    with (
        closing(os.open(path, os.O_RDONLY)) as file,
        pytest.raises(DamagedError, match=r"cut off: \d+ of 16384"),
    ):
        plain_text(file, keys, encrypted=True)


def test_a_file_that_is_cut_off_while_it_is_read_is_noticed(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "file"
    path.write_bytes(encrypted.file(b"x" * (PIECE + 1), keys))
    with closing(os.open(path, os.O_RDONLY)) as file:
        text = plain_text(file, keys, encrypted=True)
        next(text.pieces)
        os.truncate(path, 8192 + PIECE)
        with pytest.raises(DamagedError, match="became shorter"):
            next(text.pieces)


def test_a_file_of_another_home_is_named_as_that(tmp_path: Path, keys: Keys) -> None:
    other = Keys.of(b"another passphrase")
    path = tmp_path / "file"
    path.write_bytes(encrypted.file(b"x", other))
    with pytest.raises(DamagedError, match=other.contents.signature):
        read(path, keys)
    with closing(os.open(path, os.O_RDONLY)) as file:
        assert signatures(file) == (other.contents.signature,)


def test_a_huge_size_in_a_header_is_only_a_file_that_is_cut_off(tmp_path: Path, keys: Keys) -> None:
    path = tmp_path / "file"
    path.write_bytes(encrypted.header(2**62, bytes(16), keys.contents) + bytes(4096))
    with pytest.raises(DamagedError, match="cut off"):
        read(path, keys)
