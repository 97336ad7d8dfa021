"""The marker on a drive, whatever a drive makes of it."""

import os
import re
import shutil
import socket
import subprocess

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from usbbackup.drives import marker
from usbbackup.drives.host import Host
from usbbackup.folders import LayoutError, closing

HOST = Host("0badcafe", "laptop", "david")


@pytest.fixture
def top(tmp_path):
    with closing(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)) as fd:
        yield fd


def test_a_marker_is_read_as_it_was_written(top, tmp_path):
    written = marker.new_marker(HOST, 1_800_000_000.0)
    marker.write_marker(top, written)
    assert marker.read_marker(top) == written
    assert [path.name for path in tmp_path.iterdir()] == ["drive.json"]
    assert (tmp_path / "drive.json").stat().st_mode & 0o444 == 0o444


def test_a_marker_tells_people_who_made_it_and_when(top, tmp_path):
    marker.write_marker(top, marker.new_marker(HOST, 1_800_000_000.0))
    shown = (tmp_path / "drive.json").read_text()
    for word in ('"laptop"', '"david"', '"0badcafe"', '"2027-01-15T08:00:00+00:00"'):
        assert word in shown


def test_every_drive_gets_a_token_of_its_own():
    tokens = {marker.new_marker(HOST, 0.0).token for _ in range(50)}
    assert len(tokens) == 50
    assert all(re.fullmatch("[0-9a-f]{32}", token) for token in tokens)


def test_no_marker_is_none(top):
    assert marker.read_marker(top) is None


def test_what_an_interrupted_moment_left_is_in_nobodys_way(top, tmp_path):
    (tmp_path / ".drive.json.new").write_text('{"half')
    assert marker.read_marker(top) is None
    marker.write_marker(top, marker.new_marker(HOST, 0.0))
    assert [path.name for path in tmp_path.iterdir()] == ["drive.json"]


def test_a_link_left_for_the_new_file_is_not_followed(top, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".drive.json.new").symlink_to(victim)
    marker.write_marker(top, marker.new_marker(HOST, 0.0))
    assert victim.read_text() == "precious"


def device(path):
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root can make devices")


def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def huge(path):
    with path.open("wb") as file:
        file.truncate(1 << 30)


GOOD = msgspec.json.encode(marker.new_marker(HOST, 0.0))
HOSTILE = {
    "a pipe": (os.mkfifo, "is a pipe, not a file of usbbackup"),
    "a folder": (lambda path: path.mkdir(), "is a folder, not a file"),
    "a device": (device, "is a device, not a file"),
    "a socket": (bound_socket, "is a socket, not a file"),
    "a link to a file": (lambda path: path.symlink_to("/etc/hostname"), "is a symbolic link"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), "is a symbolic link"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "is a symbolic link"),
    "a gigabyte": (huge, "too large"),
    "64 KiB and a byte": (lambda path: path.write_bytes(GOOD + b" " * (65_537 - len(GOOD))), "too large"),
    "nothing": (lambda path: path.write_bytes(b""), "is damaged"),
    "garbage": (lambda path: path.write_bytes(os.urandom(500)), "is damaged"),
    "half": (lambda path: path.write_bytes(GOOD[:50]), "is damaged"),
    "a list": (lambda path: path.write_bytes(b"[1, 2]"), "is damaged"),
    "deep": (lambda path: path.write_bytes(b"[" * 60_000), "is damaged"),
    "deep in an unknown key": (lambda path: path.write_bytes(b'{"x":' + b"[" * 60_000), "is damaged"),
    "no token": (lambda path: path.write_bytes(b'{"format": 1}'), "is damaged"),
    "invalid UTF-8": (lambda path: path.write_bytes(GOOD.replace(b"laptop", b"\xff\xff")), "is damaged"),
    "another format": (lambda path: path.write_bytes(GOOD.replace(b":1,", b":2,", 1)), "unknown format 2"),
    "a strange token": (
        lambda path: path.write_bytes(re.sub(rb"[0-9a-f]{32}", b"../..", GOOD)),
        "no valid token",
    ),
}


@pytest.mark.parametrize(("make", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_marker_is_refused_with_a_reason(top, tmp_path, make, told):
    make(tmp_path / "drive.json")
    with pytest.raises(LayoutError) as raised:
        marker.read_marker(top)
    assert told in raised.value.message
    assert raised.value.message.isprintable()


SPOILED = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda at, new: GOOD[:at] + new + GOOD[at + len(new) :],
        st.integers(0, len(GOOD)),
        st.binary(min_size=1, max_size=8),
    ),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["format", "token", "host", "id", "name", "x"]), inner)
        ),
        max_leaves=8,
    ).map(msgspec.json.encode),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SPOILED)
@example(b'{"format":1e400}')
@example(b"\xef\xbb\xbf" + GOOD)
def test_any_bytes_are_a_marker_or_refused_in_one_harmless_sentence(top, tmp_path, data):
    (tmp_path / "drive.json").write_bytes(data)
    try:
        found = marker.read_marker(top)
    except LayoutError as error:
        assert error.message.isprintable()
    else:
        assert re.fullmatch("[0-9a-f]{32}", found.token)


def test_unknown_keys_are_no_trouble(top, tmp_path):
    (tmp_path / "drive.json").write_bytes(GOOD[:-1] + b', "colour": "red"}')
    assert marker.read_marker(top) is not None


def test_a_marker_of_exactly_64_kib_is_read(top, tmp_path):
    (tmp_path / "drive.json").write_bytes(GOOD + b" " * (65_536 - len(GOOD)))
    assert marker.read_marker(top) is not None


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("nowhere")]
)
def test_a_readme_that_is_there_stays(top, tmp_path, make):
    make(tmp_path / "README.txt")
    before = os.lstat(tmp_path / "README.txt")
    marker.write_readme(top)
    assert os.lstat(tmp_path / "README.txt").st_ino == before.st_ino


def commands(chapter: str, **names: str) -> str:
    """The indented commands of a chapter of the README, with its capital words replaced."""
    text = marker.README_TEXT.split(chapter)[1].split("\n\n\n")[0]
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    script = "\n".join(lines)
    for word, name in names.items():
        script = re.sub(rf"\b{word}\b", name, script)
    return script


def shell(script, cwd, home, **environment):
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"} | environment
    return subprocess.run(
        ["sh", "-euc", script], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def source(tmp_path):
    documents = tmp_path / "source/home/david/Documents"
    documents.mkdir(parents=True)
    (documents / "letter.txt").write_text("Dear reader")
    return tmp_path / "source"


NAMES = {"HOST-ID": "laptop-0badcafe", "USER": "david", "JOB": "home", "TIME": "2026-11-23T101500Z"}


def test_the_commands_of_the_readme_bring_back_files_of_a_snapshot(tmp_path, source):
    drive = tmp_path / "drive"
    snapshot = drive / "laptop-0badcafe/david/home/snapshots/2026-11-23T101500Z"
    shutil.copytree(source, snapshot)
    shell(commands("Plain files (rsync)", **NAMES), drive, tmp_path)
    assert (tmp_path / "restored/Documents/letter.txt").read_text() == "Dear reader"


def test_the_commands_of_the_readme_bring_back_files_of_a_borg_repository(tmp_path, source):
    if shutil.which("borg") is None:
        pytest.skip("borg is not installed")
    drive = tmp_path / "drive"
    job = drive / "laptop-0badcafe/david/home"
    job.mkdir(parents=True)
    yes = {"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    shell(f"borg init -e none {job}/borg", source, tmp_path, **yes)
    shell(f"borg create {job}/borg::home@2026-11-23T101500Z home", source, tmp_path, **yes)
    told = shell(commands("A borg repository", **NAMES), drive, tmp_path, **yes)
    assert "home@2026-11-23T101500Z" in told
    assert (tmp_path / "restored/home/david/Documents/letter.txt").read_text() == "Dear reader"
