"""Encrypted names and targets of symbolic links."""

import base64
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ecryptfs.encrypted import OWN, STANDARD, name, packet
from usbbackup.ecryptfs.damage import DamagedError, UnsupportedError
from usbbackup.ecryptfs.names import PREFIX, Names, signature
from usbbackup.ecryptfs.passphrase import Key, Keys

PLAIN = st.binary(min_size=1, max_size=143).filter(
    lambda plain: plain not in (b".", b"..") and not set(plain) & {0, ord("/")}
)
KEY = Key(bytes(range(64)), "0011223344556677")
NAMES = Names(Keys(KEY, KEY))


@given(PLAIN, st.sampled_from([16, 24, 32]))
def test_every_name_comes_out_as_it_went_in(plain: bytes, key_bytes: int) -> None:
    found = name(plain, KEY, key_bytes)
    assert len(found) <= 255
    assert NAMES.name(found) == plain
    assert signature(found) == KEY.signature


@given(st.binary(min_size=1, max_size=3000).filter(lambda plain: 0 not in plain))
def test_every_target_comes_out_as_it_went_in(plain: bytes) -> None:
    assert NAMES.target(name(plain, KEY)) == plain


@pytest.mark.parametrize("found", [b"lost+found", b"ECRYPTFS_FNEK", b"ECRYPTFS_FEK_ENCRYPTED.x"])
def test_a_name_that_is_not_encrypted_stays_as_it_is(found: bytes) -> None:
    assert NAMES.name(found) == found
    assert signature(found) is None


@settings(max_examples=500)
@given(PLAIN, st.data())
def test_a_damaged_name_is_never_taken_for_another_one_of_its_length(
    plain: bytes, data: st.DataObject
) -> None:
    """What its padding does not give away changes at least the name; nothing else comes out than an error."""
    found = bytearray(name(plain, KEY))
    at = data.draw(st.integers(len(PREFIX), len(found) - 1))
    found[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != found[at]))
    with suppress(DamagedError):
        assert 0 < len(NAMES.name(bytes(found))) <= 255


@pytest.mark.parametrize("at", range(15, 35))
def test_a_name_whose_padding_is_damaged_is_damaged(at: int) -> None:
    """The first block decrypts to something else then; the rest of the name may still look like one."""
    found = bytearray(name(b"a name of more than one block", KEY))
    found[len(PREFIX) + at] = ord("-") if found[len(PREFIX) + at] != ord("-") else ord("A")
    with pytest.raises(DamagedError, match="damaged"):
        NAMES.name(bytes(found))


@settings(max_examples=500)
@given(st.binary(max_size=300) | st.text("-.09AZaz", max_size=300).map(str.encode))
def test_any_letters_after_the_prefix_are_a_name_or_damaged(letters: bytes) -> None:
    with suppress(DamagedError):
        assert NAMES.name(PREFIX + letters)


@pytest.mark.parametrize("plain", [b".", b"..", b"a/b", b"/etc", b"\0x"[:1] + b"a"])
def test_a_name_that_would_lead_elsewhere_is_damaged(plain: bytes) -> None:
    with pytest.raises(DamagedError):
        NAMES.name(name(plain, KEY))


def test_other_ciphers_and_other_keys_are_named() -> None:
    found = name(b"letter", KEY)
    other = Names(Keys(Key(bytes(64), "0" * 16), Key(bytes(64), "1" * 16)))
    with pytest.raises(DamagedError, match="signature is 0011223344556677"):
        other.name(found)
    blowfish = spelled(packet(70, bytes.fromhex(KEY.signature) + b"\x04" + bytes(24)))
    with pytest.raises(UnsupportedError, match="Blowfish"):
        NAMES.name(blowfish)
    with pytest.raises(UnsupportedError, match="cipher number 99"):
        NAMES.name(spelled(packet(70, bytes.fromhex(KEY.signature) + b"\x63" + bytes(32))))


def spelled(data: bytes) -> bytes:
    """A name that stands for these bytes."""
    data += bytes(-len(data) % 3)
    return PREFIX + base64.b64encode(data).translate(bytes.maketrans(STANDARD, OWN))
