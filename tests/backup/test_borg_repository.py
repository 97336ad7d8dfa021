"""What is read of a borg repository without asking borg: files on a drive, so anything at all."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from usbbackup.backup.borg.repository import holds_key, identity, lock_holders

ANYTHING = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
ID = "0123456789abcdef" * 4


@pytest.fixture
def job(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "borg").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_id_and_key_are_found_in_a_configuration_of_borgs(job: int, tmp_path: Path) -> None:
    text = f"[repository]\nversion = 1\nid = {ID}\nkey = hqlhbGdvcml0aG2mc2hhMjU2\n\tpGRhdGHaAN4\n"
    (tmp_path / "borg/config").write_text(text)
    assert (identity(job), holds_key(job)) == (ID, True)
    (tmp_path / "borg/config").write_text(text.partition("key")[0])
    assert (identity(job), holds_key(job)) == (ID, False)


@pytest.mark.parametrize("kind", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_in_place_of_the_configuration_says_nothing(job: int, tmp_path: Path, kind) -> None:
    kind(tmp_path / "borg/config")
    assert (identity(job), holds_key(job), lock_holders(job)) == (None, False, [])


@ANYTHING
@given(st.binary(max_size=300))
@example(b"id = " + b"0" * 63)
def test_no_configuration_is_too_strange(job: int, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "borg/config").write_bytes(data)
    assert (found := identity(job)) is None or len(found) == 64
    assert holds_key(job) in (True, False)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
).map(lambda value: json.dumps(value).encode())


@ANYTHING
@given(st.binary(max_size=100) | JSON)
@example(b'{"shared": [["evil\\u001b[2J@1", 7, 0]]}')
@example(b"[" * 5000)
def test_no_lock_is_too_strange_and_its_holder_is_shown_harmlessly(
    job: int, tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "borg/lock.roster").write_bytes(data)
    assert all(holder.isprintable() for holder in lock_holders(job))
