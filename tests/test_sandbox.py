"""What a program may write, held by the kernel."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from usbbackup.clock import SystemClock
from usbbackup.outcome import Stop
from usbbackup.programs import Ended, Lines, Program, SystemPrograms
from usbbackup.sandbox import Sandbox, landlock_abi

pytestmark = pytest.mark.skipif(landlock_abi() < 2, reason="this kernel has no usable Landlock")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    return tmp_path / "inside"


@pytest.fixture
def inside_fd(inside: Path) -> Iterator[int]:
    fd = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def run(program: Program, on_line=lambda _: None) -> Ended:
    programs = SystemPrograms(SystemClock(), os.environ)
    return asyncio.run(programs.run(program, stop=Stop(), on_stdout=Lines(on_line)))


def sandboxed(script: str, fd: int, **options) -> Program:
    return Program(("sh", "-c", script), cwd_fd=fd, sandbox=Sandbox((fd,)), **options)


def test_it_may_do_everything_inside(inside, inside_fd):
    script = """set -e
        mkdir a b; echo x > a/f; mv a/f b/f; ln b/f a/g; ln -s f b/l; mkfifo b/p
        : > b/f; echo y >> b/f; chmod 600 b/f; touch -d @0 b/f; rm a/g; rmdir a
        cat /etc/hostname > /dev/null"""
    assert run(sandboxed(script, inside_fd)) == Ended(0)
    assert sorted(path.name for path in (inside / "b").iterdir()) == ["f", "l", "p"]


@pytest.mark.parametrize(
    "attempt",
    [
        "echo x > ../outside/new",
        "echo x >> ../outside/old",
        ": > ../outside/old",
        "rm ../outside/old",
        "mkdir ../outside/dir",
        "ln mine ../outside/link",
        "mv mine ../outside/mine",
        "mv ../outside/old stolen",
        "ln -s x ../outside/symlink",
        "mkfifo ../outside/fifo",
        "ln -s ../outside way-out; echo x > way-out/new",
    ],
)
def test_it_can_change_nothing_outside(inside, inside_fd, attempt):
    old = inside.parent / "outside" / "old"
    old.write_text("precious")
    (inside / "mine").write_text("")
    ended = run(sandboxed(attempt, inside_fd))
    assert ended.code != 0
    assert [path.name for path in old.parent.iterdir()] == ["old"]
    assert old.read_text() == "precious"


def test_only_the_program_is_bound_not_we(inside, inside_fd):
    assert run(sandboxed("true", inside_fd)) == Ended(0)
    (inside.parent / "outside" / "ours").write_text("still free")
    run(Program(("touch", str(inside.parent / "outside" / "theirs"))))
    assert (inside.parent / "outside" / "theirs").exists()


def test_it_cannot_gain_privileges(inside_fd):
    lines = []
    run(sandboxed("grep NoNewPrivs /proc/self/status", inside_fd), lines.append)
    assert [line.split() for line in lines] == [[b"NoNewPrivs:", b"1"]]


@needs_root
@pytest.mark.root
def test_an_ordinary_user_can_bind_itself(inside):
    """No privilege is needed: nobody owns both directories, and may then write into one only."""
    fds = []
    for directory in (inside, inside.parent / "outside"):
        os.chown(directory, 65534, 65534)
        fds.append(os.open(directory, os.O_RDONLY))
    script = f"""
import os
from usbbackup.sandbox import Sandbox
os.setgid(65534); os.setuid(65534)
Sandbox(({fds[0]},)).enter()
os.close(os.open("yes", os.O_CREAT, dir_fd={fds[0]}))
os.close(os.open("no", os.O_CREAT, dir_fd={fds[1]}))
"""
    done = subprocess.run([sys.executable, "-c", script], pass_fds=fds, capture_output=True, text=True)
    for fd in fds:
        os.close(fd)
    assert "PermissionError" in done.stderr
    assert [len(list(directory.iterdir())) for directory in (inside, inside.parent / "outside")] == [1, 0]


@needs_root
@pytest.mark.root
def test_when_the_drive_is_detached_nothing_lands_in_the_bare_mount_point(inside):
    subprocess.run(["mount", "-t", "tmpfs", "drive", inside], check=True)
    fd = os.open(inside, os.O_RDONLY)
    detached = threading.Event()

    def detach(_: bytes) -> None:
        subprocess.run(["umount", "-l", inside], check=True)
        detached.set()

    def wait_for_that(out) -> None:
        detached.wait()
        out.write(b"\n")

    script = f'echo before > {inside}/f && echo ready && read -r _ && echo after > "{inside}/f"'
    try:
        ended = run(sandboxed(script, fd, stdin=wait_for_that), detach)
    finally:
        os.close(fd)
        if not detached.is_set():
            subprocess.run(["umount", "-l", inside], check=True)
    assert ended.code != 0
    assert "Permission denied" in ended.last_words[-1]
    assert list(inside.iterdir()) == []


def test_rsync_works_inside_and_fails_outside(inside, inside_fd, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    (inside / "previous").mkdir()
    copy = ("rsync", "-aHAX", "--link-dest=../previous", f"{source}/")
    assert run(Program((*copy, "new/"), cwd_fd=inside_fd, sandbox=Sandbox((inside_fd,)))) == Ended(0)
    assert (inside / "new" / "file").read_text() == "x"
    ended = run(Program((*copy, "../outside/new/"), cwd_fd=inside_fd, sandbox=Sandbox((inside_fd,))))
    assert ended.code == 11
    assert list((tmp_path / "outside").iterdir()) == []
