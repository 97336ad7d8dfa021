"""`usbbackup recover-home`, as somebody uses it whose computer has died."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ecryptfs.conftest import keys, tree
from tests.ecryptfs.encrypted import PASSPHRASE, EncryptedTree
from tests.ecryptfs.test_home import LOGIN, with_keys
from usbbackup.cli.main import Terminal, main
from usbbackup.ecryptfs.directory import DAMAGED

__all__ = ["keys", "tree"]  # fixtures


def run(*arguments: str | Path, said: str | None = LOGIN.decode() + "\n") -> tuple[int, str, str]:
    """Exit code, answer and complaints; `said` is the standard input."""
    out, err = io.StringIO(), io.StringIO()
    env = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    stdin = io.StringIO(said) if said is not None else None
    code = main(["recover-home", *map(str, arguments)], Terminal(env, out, err, stdin=stdin))
    return code, out.getvalue(), err.getvalue()


def answer(*arguments: str | Path, said: str | None = LOGIN.decode() + "\n") -> tuple[int, dict[str, Any]]:
    code, out, err = run(*arguments, "--json", said=said)
    assert err == ""
    return code, json.loads(out)


@pytest.fixture
def home(tree: EncryptedTree) -> EncryptedTree:
    """A home with a few files, and all that belongs to its keys."""
    with_keys(tree)
    tree.write("letters/to anna", b"dear")
    tree.write("photos/one", b"1" * 5000)
    tree.link("link", b"photos/one")
    return tree


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """Where to recover to; not there yet."""
    return tmp_path / "rescued/home"


def test_one_command_gives_everything_back(home: EncryptedTree, to: Path) -> None:
    code, out, err = run(home.lower.parent, "--to", to)
    assert (code, err) == (0, "")
    assert out == f"3 files (5.0 kB written) are in {to}\n"
    assert (to / "letters/to anna").read_bytes() == b"dear"
    assert (to / "link").read_bytes() == b"1" * 5000
    assert to.stat().st_mode & 0o777 == 0o700
    code, out, _ = run(home.lower.parent, "--to", to)
    assert (code, out) == (0, f"3 files (0 B written, 3 of them there already) are in {to}\n")


@pytest.mark.parametrize("order", ["paths last", "paths first"])
def test_paths_may_stand_before_or_behind_the_options(home: EncryptedTree, to: Path, order: str) -> None:
    where, what = ("--to", to), ("photos", "/home/david/letters")
    words = (*where, *what) if order == "paths last" else (*what, *where)
    code, told = answer(home.lower, *words)
    assert (code, told["files"], told["directories"]) == (0, 2, 2)


def test_scripts_get_every_field(home: EncryptedTree, to: Path) -> None:
    assert answer(home.lower, "--to", to) == (
        0,
        {
            "from": str(home.lower),
            "to": str(to),
            "files": 3,
            "directories": 2,
            "already_there": 0,
            "bytes": 5004,
            "attributes_lost": 0,
            "damaged": [],
            "notes": [],
        },
    )


def test_listing_writes_nothing(home: EncryptedTree, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, told = answer(home.lower, "--list")
    assert code == 0
    assert [(one["path"], one["type"], one["size"]) for one in told["entries"]] == [
        ("letters", "directory", 0),
        ("letters/to anna", "file", 4),
        ("link", "symlink", 0),
        ("photos", "directory", 0),
        ("photos/one", "file", 5000),
    ]
    assert told["entries"][2]["target"] == "photos/one"
    assert set(told["entries"][1]) == {"path", "type", "mode", "size", "mtime", "target"}
    code, out, _ = run(home.lower, "letters", "--list")
    assert (code, len(out.splitlines())) == (0, 2)
    assert out.endswith("  letters/to anna\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_damage_is_told_listed_and_the_exit_code(home: EncryptedTree, to: Path) -> None:
    os.truncate(home.path("photos/one"), 9000)
    code, out, err = run(home.lower, "--to", to, ".", said=None)
    assert code == 2
    code, out, err = run(home.lower, "--to", to, "letters", "photos", "nowhere")
    assert code == 1
    assert out.startswith("1 files (4 B written)")
    assert "photos/one is cut off: 9000 of 16384 bytes are there" in err
    assert "nowhere is not there" in err
    assert DAMAGED in err
    assert (to / DAMAGED).read_text().splitlines() == [
        "photos/one: is cut off: 9000 of 16384 bytes are there",
        "nowhere: is not there",
    ]
    assert not (to / "photos/one").exists()
    code, told = answer(home.lower, "--list")
    assert (code, [one["path"] for one in told["damaged"]]) == (1, ["photos/one"])
    assert run(home.lower, "--to", to, "letters")[0] == 0
    assert not (to / DAMAGED).exists()


def test_a_wrong_passphrase_writes_nothing(home: EncryptedTree, to: Path) -> None:
    code, out, err = run(home.lower, "--to", to, said="wrong\n")
    assert (code, out) == (1, "")
    assert "the login passphrase is wrong" in err
    assert not to.exists()


def test_the_mount_passphrase_is_taken_where_that_is_said(home: EncryptedTree, to: Path) -> None:
    assert run(home.lower, "--to", to, "--mount-passphrase", said=PASSPHRASE.decode())[0] == 0


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("echo 'correct horse'", 0, ""),
        ("sh -c 'exit 3'", 1, "the passcommand ended with exit code 3"),
        ("no-such-program", 1, "'no-such-program' is not installed"),
        ("echo 'half", 2, "cannot be understood"),
        ("", 2, "names no command"),
    ],
)
def test_a_command_may_print_the_passphrase(
    home: EncryptedTree, to: Path, command: str, code: int, says: str
) -> None:
    found, _, err = run(home.lower, "--to", to, "--passcommand", command, said=None)
    assert (found, says in err) == (code, True)


def test_with_nobody_to_ask_there_is_no_passphrase(home: EncryptedTree, to: Path) -> None:
    for said in (None, ""):
        code, _, err = run(home.lower, "--to", to, said=said)
        assert (code, "there is no passphrase" in err) == (2, True)


def test_what_is_no_encrypted_home_is_said(tmp_path: Path, to: Path) -> None:
    code, _, err = run(tmp_path, "--to", to)
    assert (code, "there is no encrypted home" in err) == (2, True)


def test_of_several_homes_one_is_named(tmp_path: Path, home: EncryptedTree, to: Path) -> None:
    EncryptedTree(tmp_path / "anna", home.keys)
    code, _, err = run(tmp_path, "--to", to)
    assert (code, "several encrypted homes" in err, str(home.lower) in err) == (2, True, True)
    assert run(tmp_path, "--to", to, "--user", "david")[0] == 0


def test_nothing_is_recovered_into_the_encrypted_home_itself(home: EncryptedTree) -> None:
    code, _, err = run(home.lower, "--to", home.lower / "plain")
    assert (code, "lies in the encrypted home itself" in err) == (2, True)


def test_at_a_terminal_it_asks_hides_what_is_typed_and_lets_mistype(home: EncryptedTree, to: Path) -> None:
    command = [sys.executable, "-m", "usbbackup", "recover-home", str(home.lower), "--to", str(to)]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, command)  # noqa: S606 - in a child that is its own
    said = b""
    for typed in (b"wrong\n", LOGIN + b"\n"):
        while not said.endswith(b"passphrase of david: "):
            said += os.read(terminal, 1024)
        os.write(terminal, typed)
        said += b"|"
    try:
        while chunk := os.read(terminal, 1024):
            said += chunk
    except OSError:  # EIO: the other end is closed (pty(7))
        pass
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"the login passphrase is wrong" in said
    assert b"wrong|" not in said and LOGIN not in said
    assert (to / "letters/to anna").read_bytes() == b"dear"


def test_without_the_library_the_command_that_installs_it_is_told(home: EncryptedTree, to: Path) -> None:
    """A Python in which `cryptography` cannot be imported; nothing else of the product needs it."""
    blocked = "import sys; sys.modules['cryptography'] = None; from usbbackup.cli.main import entry; entry()"
    done = subprocess.run(
        [sys.executable, "-c", blocked, "recover-home", str(home.lower), "--to", str(to)],
        input=LOGIN,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"the Python package 'cryptography' is missing" in done.stderr
    assert b"install" in done.stderr
    assert not to.exists()


def test_of_a_drive_that_is_not_known_here_the_newest_snapshot_is_taken(
    home: EncryptedTree, tmp_path: Path, to: Path
) -> None:
    """The day on which there is a new computer, and the drive."""
    mount = tmp_path / "media/backup"
    snapshots = mount / "usbbackup/host-12345678/david/home/snapshots"
    for time in ("2026-11-23T101500Z", "2026-11-24T101500Z"):
        place = snapshots / time / "home/.ecryptfs"
        place.mkdir(parents=True)
        subprocess.run(["cp", "-a", home.lower.parent, place], check=True)
    code, told = answer(mount, "--to", to)
    assert (code, told["files"]) == (0, 3)
    assert told["from"] == f"{snapshots}/2026-11-24T101500Z/home/.ecryptfs/david/.Private"
