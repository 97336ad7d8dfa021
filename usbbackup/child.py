"""One child process and its group: started with everything in place, signalled, waited for, reaped.

How it starts. Nothing of ours runs between fork and exec: in a program with threads only C may (a lock that
another thread held would be held for ever), Python warns of it since 3.12, and it forbids the quick vfork. So

- what Linux keeps for each thread (Landlock, no_new_privs, niceness, I/O class) is set on a thread made for
  this one child, which it then inherits;
- the parent-death signal, which is not inherited, is set by setpriv(1), and a line of sh(1) holds the program
  back until we say go: 2 ms together, where a Python in between takes 9. If we die first, sh reads the end of
  the pipe and leaves, so there is no moment in which the program could outlive us unnoticed.

The signal counts from the death of the thread that forked, so that thread stays, and waits for the child.
"""

import asyncio
import contextlib
import ctypes
import io
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import cast

from usbbackup.sandbox import Sandbox

_UMASK = 0o022  # as in a login shell, whatever the agent's own is
_NICE = 10
_IOPRIO_IDLE = 3 << 13  # ioprio_set(2)
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_SET = {
    "x86_64": 251,
    "aarch64": 30,
    "riscv64": 30,
    "loongarch64": 30,
    "i686": 289,
    "armv7l": 314,
    "armv6l": 314,
    "ppc64le": 273,
    "s390x": 282,
}

# SIGTERM, not SIGKILL: borg then takes its lock away, which matters to the next computer the drive meets.
_HELD = ("setpriv", "--pdeathsig", "TERM", "/bin/sh", "-c")
_GO_THEN_NOTHING = 'read -r _ && exec "$@" </dev/null'
_GO_THEN_STDIN = 'read -r _ && exec "$@"'


@dataclass(frozen=True)
class Start:
    """Everything a child is started with."""

    argv: Sequence[str | bytes]
    env: Mapping[str, str]
    cwd_fd: int | None
    pass_fds: tuple[int, ...]
    fed: bool  # its stdin is ours to write; else it is /dev/null
    sandbox: Sandbox | None
    gentle: bool


class Child:
    """A started program, still held back; the leader of its own session and process group.

    `stdin`, `stdout` and `stderr` are our ends of its pipes; the read ends do not block.
    """

    def __init__(self, start: Start) -> None:
        """Start it; blocks for about two milliseconds. Raises OSError where it cannot be started."""
        self._exited: Future[None] = Future()
        self._exited.set_running_or_notify_cancel()  # one who stops waiting must not cancel it for the others
        started: Future[subprocess.Popen[bytes]] = Future()
        Thread(target=self._live, args=(start, started), name=f"child {start.argv[0]!r}", daemon=True).start()
        self._process = started.result()
        self.pid = self._process.pid
        self.stdin = cast(io.FileIO, self._process.stdin)
        self.stdout = cast(io.FileIO, self._process.stdout)
        self.stderr = cast(io.FileIO, self._process.stderr)
        os.set_blocking(self.stdout.fileno(), False)
        os.set_blocking(self.stderr.fileno(), False)

    def _live(self, start: Start, started: "Future[subprocess.Popen[bytes]]") -> None:
        try:
            process = _popen(start)
        except BaseException as error:  # noqa: BLE001 - it belongs to the one who starts
            started.set_exception(error)
            return
        started.set_result(process)
        # WNOWAIT: until it is reaped no other process can get its number, so signals cannot go astray.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self._exited.set_result(None)

    def go(self) -> None:
        """Let the program begin."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.stdin.fileno(), b"\n")

    async def exited(self) -> None:
        """Wait until the leader has ended; the others of its group may go on."""
        await asyncio.wrap_future(self._exited)

    def reap(self) -> int:
        """The exit code of the leader that has ended; negative: the signal that killed it."""
        return self._process.wait()

    def signal(self, number: int) -> None:
        """Signal the whole group; harmless where nobody is left."""
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # who became another user stays out of reach
            os.killpg(self.pid, number)

    def members(self) -> list[int]:
        """The processes of the group that have not ended yet."""
        return members(self.pid)


def members(group: int) -> list[int]:
    """The processes of a group that have not ended yet; zombies have."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:  # the usual case, and much quicker than reading /proc
        return []
    except PermissionError:
        pass
    return [pid for pid in _pids() if _living_member(pid, group)]


async def one_ends(pids: Sequence[int]) -> None:
    """Wait until any of these processes has ended (pidfd_open(2))."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    watched: list[int] = []
    try:
        for pid in pids:
            watched.append(os.pidfd_open(pid))
            loop.add_reader(watched[-1], _settle, ended)
        await ended
    except ProcessLookupError:
        return
    finally:
        for fd in watched:
            loop.remove_reader(fd)
            os.close(fd)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _popen(start: Start) -> "subprocess.Popen[bytes]":
    if start.gentle:
        _be_gentle()
    if start.sandbox is not None:
        start.sandbox.enter()
    begin = _GO_THEN_STDIN if start.fed else _GO_THEN_NOTHING
    return subprocess.Popen(
        (*_HELD, begin, "usbbackup", *start.argv),
        env=start.env,
        cwd=None if start.cwd_fd is None else f"/proc/self/fd/{start.cwd_fd}",
        pass_fds=start.pass_fds,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        umask=_UMASK,
        start_new_session=True,
    )


def _be_gentle() -> None:
    """Low priority and the idle I/O class for the calling thread and the programs that it starts."""
    if os.getpriority(os.PRIO_PROCESS, 0) < _NICE:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    if (ioprio_set := _IOPRIO_SET.get(platform.machine())) is not None:
        ctypes.CDLL(None).syscall(ioprio_set, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _living_member(pid: int, group: int) -> bool:
    try:
        state, _parent, of_group, *_ = (
            Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split(maxsplit=3)
        )
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(of_group) == group and state not in (b"Z", b"X")
