"""drives.json: written whole, never emptied by mistake."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usbbackup.drives.records import Enrolled, Records
from usbbackup.errors import ConfigError, NotNowError

ONE = Enrolled(
    uuid="8fa257d1",
    token="a" * 32,
    label="backup",
    name="backup",
    fs_type="ext4",
    host="0badcafe",
    enrolled_at=5.0,
)
TWO = Enrolled(
    uuid="ABCD-1234",
    luks_uuid="0uter",
    token="b" * 32,
    serial="SanDisk",
    label="Größe\n",
    name="second",
    fs_type="vfat",
    host="0badcafe",
    enrolled_at=6.5,
    read_only=True,
    repositories={"home": "f00"},
    last_seen=7.0,
)


@pytest.fixture
def records(tmp_path):
    return Records(tmp_path / "data/usbbackup/drives.json")


def test_without_a_file_nothing_is_enrolled_and_reading_makes_none(records):
    assert records.read() == {}
    assert not records.path.parent.exists()


def test_what_is_put_is_read_back(records):
    records.put(ONE)
    records.put(TWO)
    assert records.read() == {"8fa257d1": ONE, "ABCD-1234": TWO}


def test_a_record_is_replaced_by_its_uuid(records):
    records.put(ONE)
    newer = Enrolled(
        uuid=ONE.uuid, token="c" * 32, label="b", name="b", fs_type="xfs", host="0badcafe", enrolled_at=9.0
    )
    records.put(newer)
    assert records.read() == {ONE.uuid: newer}


def test_a_drive_is_forgotten_and_the_others_are_not(records):
    records.put(ONE)
    records.put(TWO)
    records.remove(ONE.uuid)
    records.remove("never known")
    assert list(records.read()) == [TWO.uuid]


def test_being_seen_and_repositories_are_noted_for_enrolled_drives_alone(records):
    records.put(ONE)
    records.seen(ONE.uuid, 99.0, b"/mnt/backup")
    records.seen("unknown", 99.0, b"/mnt/backup")
    records.repository(ONE.uuid, "home", "1234")
    records.repository(ONE.uuid, "mail", "5678")
    records.repository("unknown", "home", "1234")
    (found,) = records.read().values()
    assert found.last_seen == 99.0
    assert found.repositories == {"home": "1234", "mail": "5678"}


def test_the_file_is_the_users_alone_and_nothing_else_is_left(records):
    records.put(ONE)
    assert records.path.stat().st_mode & 0o777 == 0o600
    assert records.path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in records.path.parent.iterdir()) == ["drives.json", "drives.json.lock"]


def test_putting_what_is_there_already_writes_nothing(records):
    records.put(ONE)
    before = records.path.stat().st_ino
    records.put(ONE)
    assert records.path.stat().st_ino == before


GOOD = b"""{"version": 1, "drives": [{"uuid": "u", "token": "t", "label": "l", "name": "n", "fs_type": "ext4",
 "host": "h", "enrolled_at": 1.0}]}"""


def test_a_file_written_by_hand_is_read(records):
    records.path.parent.mkdir(parents=True)
    records.path.write_bytes(GOOD)
    assert records.read()["u"].repositories == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is damaged"),
        (GOOD[:-20], "is damaged"),
        (b"\0" * 300, "is damaged"),
        (b"[]", "is damaged"),
        (b"{}", "is damaged"),
        (b'{"version": 1}', "is damaged"),
        (b'{"version": 1, "drives": [{}]}', "is damaged"),
        (b'{"version": 1, "drives": [], "more": 1}', "is damaged"),
        (GOOD.replace(b'"t"', b"7"), "is damaged"),
        (GOOD.replace(b'"t"', b'"\xff"'), "is damaged"),
        (GOOD.replace(b'"token"', b'"tokken"'), "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'{"version": 2, "disks": {}}', "another version of usbbackup (2)"),
    ],
)
def test_a_damaged_file_is_an_error_and_stays_as_it_is(records, content, told):
    records.path.parent.mkdir(parents=True)
    records.path.write_bytes(content)
    for attempt in (records.read, lambda: records.put(ONE), lambda: records.remove("u")):
        with pytest.raises(ConfigError, match=r"drives\.json") as raised:
            attempt()
        assert told in raised.value.message
        assert "untouched" in raised.value.hint
    assert records.path.read_bytes() == content


def test_a_file_that_cannot_be_read_is_an_error(records):
    records.path.mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        records.read()


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A limit on file sizes stands for the full disk."""
    records = Records(tmp_path / "drives.json")
    records.put(ONE)
    before = records.path.read_bytes()
    code = f"""
import resource, signal
from usbbackup.drives.records import Enrolled, Records
from usbbackup.errors import NotNowError
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    Records(Path({str(records.path)!r})).repository({ONE.uuid!r}, "home", "1" * 64)
except NotNowError as error:
    print(error.message)
Records(Path({str(records.path)!r})).seen({ONE.uuid!r}, 1.0, b"/mnt")  # not worth a word
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{records.path} cannot be written: File too large.\n"
    assert records.path.read_bytes() == before


def test_two_processes_that_write_at_once_lose_nothing_of_each_other(tmp_path):
    code = f"""
import sys
from pathlib import Path
from usbbackup.drives.records import Enrolled, Records
records = Records(Path({str(tmp_path / "drives.json")!r}))
sys.stdin.read()
for number in range(20):
    records.put(Enrolled(uuid=f"{{sys.argv[1]}}{{number}}", token="", label="", name="", fs_type="", host="",
                         enrolled_at=0.0))
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", code, name], stdin=subprocess.PIPE)
        for name in ("a", "b", "c")
    ]
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(Records(tmp_path / "drives.json").read()) == 60


def test_a_symbolic_link_left_for_the_new_file_is_not_followed(tmp_path):
    records = Records(tmp_path / "drives.json")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path(f"{records.path}.new").symlink_to(victim)
    with pytest.raises(NotNowError, match="cannot be written: Too many levels of symbolic links"):
        records.put(ONE)
    assert victim.read_text() == "precious"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_whatever_bytes_are_changed_they_are_records_or_an_error_and_the_file_stays(records, at, new):
    records.put(TWO)
    good = records.path.read_bytes()
    spoiled = good[: at % len(good)] + new + good[at % len(good) + len(new) :]
    records.path.write_bytes(spoiled)
    try:
        assert all(isinstance(record, Enrolled) for record in records.read().values())
    except ConfigError as error:
        assert error.message.isprintable()
        with pytest.raises(ConfigError):
            records.put(ONE)
        assert records.path.read_bytes() == spoiled
    records.path.unlink()


def test_a_drive_is_noted_as_ejected_for_one_stay_and_that_is_taken_back(records):
    records.put(ONE)
    records.eject(ONE.uuid, "b00t/12")
    assert records.read()[ONE.uuid].ejected == "b00t/12"
    records.eject(ONE.uuid, None)
    assert records.read() == {ONE.uuid: ONE}
