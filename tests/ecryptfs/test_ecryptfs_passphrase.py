"""From the login passphrase to the keys."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ecryptfs.encrypted import PASSPHRASE, ecb
from usbbackup.ecryptfs import passphrase
from usbbackup.ecryptfs.damage import DamagedError
from usbbackup.ecryptfs.passphrase import Key, Keys, WrongPassphraseError, unwrapped
from usbbackup.errors import UsbbackupError

LOGIN = b"correct horse"


def wrapped(secret: bytes, login: bytes, salt: bytes | None) -> bytes:
    """A wrapped passphrase of version 2, or without a salt of version 1."""
    key = Key.derived(login, salt or passphrase.SALT)
    blocks = ecb(key.value[:16], secret + bytes(-len(secret) % 16))
    return (b":\x02" + salt if salt else b"") + key.signature.encode() + blocks


@pytest.mark.parametrize("salt", [None, b"saltsalt"], ids=["version 1", "version 2"])
@pytest.mark.parametrize("secret", [b"p", b"p" * 16, PASSPHRASE, b"p" * 64])
def test_a_login_passphrase_opens_what_it_wrapped(salt: bytes | None, secret: bytes) -> None:
    assert unwrapped(wrapped(secret, LOGIN, salt), LOGIN) == secret


@pytest.mark.parametrize("salt", [None, b"saltsalt"], ids=["version 1", "version 2"])
def test_a_wrong_login_passphrase_is_told_as_that(salt: bytes | None) -> None:
    with pytest.raises(WrongPassphraseError):
        unwrapped(wrapped(PASSPHRASE, LOGIN, salt), b"incorrect horse")


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: b"",
        lambda good: good[:25],
        lambda good: good[:26],
        lambda good: good[:-1],
        lambda good: good + bytes(16),
        lambda good: b":\x03" + good[2:],
        lambda good: b":",
        lambda good: b"x" * 48,
    ],
)
def test_what_is_no_wrapped_passphrase_is_damaged_and_no_wrong_passphrase(damage) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DamagedError):
        unwrapped(damage(wrapped(b"p" * 64, LOGIN, b"saltsalt")), LOGIN)


@settings(max_examples=300)
@given(st.binary(max_size=120).filter(lambda data: len(data) < 16 or not data[:26].isascii()))
def test_any_bytes_are_refused_in_order(data: bytes) -> None:
    with pytest.raises((DamagedError, WrongPassphraseError)):
        unwrapped(data, LOGIN)


@pytest.mark.parametrize("secret", [b"", b"x" * 65])
def test_a_passphrase_that_ecryptfs_would_not_take_is_refused(secret: bytes) -> None:
    with pytest.raises(UsbbackupError, match=f"has {len(secret)} bytes"):
        Keys.of(secret)


def test_the_key_of_names_is_not_that_of_contents(keys: Keys) -> None:
    """Both are known from a keyring that the real ecryptfs-add-passphrase has filled."""
    assert (keys.contents.signature, keys.names.signature) == ("849d6b79848a0296", "9487d0e1beb5be83")
    assert keys.named("9487d0e1beb5be83") is keys.names
    with pytest.raises(DamagedError, match="another passphrase, whose signature is 00"):
        keys.named("0" * 16)


def test_no_key_shows_itself(keys: Keys) -> None:
    assert keys.contents.value.hex()[:8] not in repr(keys)
    assert repr(keys.contents.value)[2:10] not in repr(keys)
    assert hashlib.sha512(keys.contents.value).hexdigest()[:16] == keys.contents.signature
