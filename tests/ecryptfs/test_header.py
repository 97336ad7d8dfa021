"""Headers of encrypted files, also hostile ones."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ecryptfs.encrypted import header, packet
from usbbackup.ecryptfs.damage import DamagedError, UnsupportedError
from usbbackup.ecryptfs.header import is_marked, parsed
from usbbackup.ecryptfs.passphrase import Key, Keys

KEY = Key(bytes(range(64)), "0011223344556677")
OTHER = Key(bytes(64), "ffeeddccbbaa9988")
KEYS = Keys(KEY, OTHER)
OWN = b"own key of a file, 32 bytes long"
GOOD = header(5000, OWN[:16], KEY)
PACKETS = 26  # where they begin


@given(st.integers(0, 2**63 - 1), st.sampled_from([16, 24, 32]), st.sampled_from([8192, 12288, 65536]))
def test_a_header_tells_size_place_and_key(size: int, key_bytes: int, length: int) -> None:
    found = parsed(header(size, OWN[:key_bytes], KEY, length=length)[:4096], in_file=True)
    assert (found.size, found.begins, found.key(KEYS)) == (size, length, OWN[:key_bytes])
    assert found.ends == length + -(-size // 4096) * 4096


def test_a_header_in_an_attribute_takes_no_room_in_the_file() -> None:
    found = parsed(GOOD.rstrip(b"\0") + b"\0", in_file=False)
    assert (found.begins, found.ends) == (0, 8192)


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", DamagedError, "no eCryptfs header"),
        (bytes(4096), DamagedError, "no eCryptfs header"),
        (GOOD[:8] + b"\xff" + GOOD[9:], DamagedError, "no eCryptfs header"),
        (b"\xff" + GOOD[1:], DamagedError, "impossible size"),
        (GOOD[:16] + b"\x04" + GOOD[17:], UnsupportedError, "version 4"),
        (GOOD[:22], DamagedError, "cut off"),
        (GOOD[:20] + struct.pack(">IH", 4096, 1) + GOOD[26:], DamagedError, "4096 bytes, which is too short"),
        (GOOD[:PACKETS] + b"\0" * 100, DamagedError, "without a key"),
        (GOOD[:PACKETS] + packet(1, bytes(140)), UnsupportedError, "public key"),
        (GOOD[: PACKETS + 20], DamagedError, "cut off"),
        (GOOD[:PACKETS] + b"\x8c\xff\xff\xff", DamagedError, "no such packet"),
        (GOOD[: PACKETS + 2] + b"\x05" + GOOD[PACKETS + 3 :], UnsupportedError, "version 5"),
        (GOOD[: PACKETS + 31] + b"\0" + GOOD[PACKETS + 32 :], DamagedError, "no such packet"),
    ],
)
def test_what_is_wrong_with_a_header_is_told(data: bytes, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as raised:
        parsed(data, in_file=True)
    assert type(raised.value) is error


def test_other_ciphers_and_other_keys_are_named() -> None:
    blowfish = parsed(GOOD[: PACKETS + 3] + b"\x04" + GOOD[PACKETS + 4 :], in_file=True)
    with pytest.raises(UnsupportedError, match="Blowfish"):
        blowfish.key(KEYS)
    with pytest.raises(DamagedError, match="signature is 0011223344556677"):
        parsed(GOOD, in_file=True).key(Keys(OTHER, OTHER))


def test_of_several_keys_the_one_that_is_ours_opens_it() -> None:
    ours = GOOD[PACKETS:].partition(b"\0" * 100)[0]
    theirs = header(0, OWN[:16], OTHER)[PACKETS:].partition(b"\0" * 100)[0]
    several = parsed(GOOD[:PACKETS] + packet(1, bytes(140)) + theirs + ours + bytes(100), in_file=True)
    assert [one.signature for one in several.wrapped] == [OTHER.signature, KEY.signature]
    assert several.key(Keys(KEY, KEY)) == OWN[:16]


@settings(max_examples=500)
@given(st.binary(max_size=600))
def test_any_packets_are_understood_or_refused(data: bytes) -> None:
    for in_file in (True, False):
        with suppress(DamagedError):
            assert parsed(GOOD[:PACKETS] + data, in_file=in_file).wrapped


@settings(max_examples=500)
@given(st.data())
def test_a_header_with_changed_bytes_is_understood_or_refused(data: st.DataObject) -> None:
    changed = bytearray(GOOD[:200])
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, 199))] = data.draw(st.integers(0, 255))
    del changed[data.draw(st.integers(0, 200)) :]
    with suppress(DamagedError):
        found = parsed(bytes(changed), in_file=True)
        assert found.begins >= 8192
        assert 0 <= found.size < 2**63
        found.key(KEYS)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_marker_is_two_halves_that_fit(one: int, other: int) -> None:
    assert is_marked(struct.pack(">QIII", 0, one, one ^ 0x3C81B7F5, 0))
    assert is_marked(struct.pack(">QIII", 0, one, other, 0)) == (one ^ other == 0x3C81B7F5)
