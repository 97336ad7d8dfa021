"""Running other programs: the one place where they are started, listened to, and always ended.

A program runs as the leader of its own process group, and `run` returns when nothing of that group is left:
what it leaves behind in the background is ended too. (Only a process that makes itself a session of its own
gets away, as it would from a login shell; systemd ends it together with the agent.)
"""

import contextlib
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from usbbackup.child import Child, Start
from usbbackup.clock import Clock, Timer
from usbbackup.errors import UsbbackupError
from usbbackup.outcome import Stop
from usbbackup.running import FIRMLY, LAST, Feed, Running, Sink, Steps
from usbbackup.sandbox import Sandbox
from usbbackup.text import safe

POLITELY: Steps = ((signal.SIGINT, 30.0), *FIRMLY)

_LOOK = 30.0  # seconds; who waits for a pipe at two looks in a row would wait for ever
_LINE = 1 << 16  # bytes
_LAST_WORDS = 20  # lines
_SIGNALS = {number.value: number.name for number in signal.Signals}
_NOT_FOR_CHILDREN = {  # what systemd says to the agent alone (sd_notify(3), sd_listen_fds(3))
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
}


@dataclass(frozen=True)
class Program:
    """What to run, and with what around it."""

    argv: tuple[str | bytes, ...]
    env: Mapping[str, str | None] = field(default_factory=dict)  # differs from the user's; None: not set
    package: str | None = None  # what to install where the program is missing
    cwd_fd: int | None = None  # an open directory
    pass_fds: tuple[int, ...] = ()
    stdin: Feed | None = None  # None: /dev/null
    sandbox: Sandbox | None = None  # None: as in a login shell
    gentle: bool = False  # low priority, idle I/O class
    stopping: Steps = POLITELY  # how it is asked to stop, before SIGKILL
    opens_pipes: bool = True  # False: it is stopped where it waits for somebody to open a named pipe, too


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int  # as a shell's `$?`, but minus the signal where one killed it
    last_words: tuple[str, ...] = ()  # the last lines of its stderr, safe to show
    left: tuple[
        int, ...
    ] = ()  # processes that even SIGKILL did not end: a drive hangs, and the kernel with it
    waited: bool = False  # it was stopped, because it waited for the other end of a named pipe

    @property
    def how(self) -> str:
        """For a sentence that begins with the program's name.

        >>> Ended(3).how, Ended(-9).how
        ('ended with exit code 3', 'was killed by SIGKILL')
        """
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        return f"was killed by {_SIGNALS.get(-self.code, f'signal {-self.code}')}"


class Programs(Protocol):
    """Something that runs programs."""

    async def run(
        self,
        program: Program,
        *,
        stop: Stop,
        on_stdout: Sink | None = None,
        on_stderr: Sink | None = None,
        on_start: Callable[[int, int], None] | None = None,
    ) -> Ended:
        """Run it to its end, which `stop` hastens; cancelled, it is killed at once.

        Sinks get chunks as they come, and `b""` once at the end (see `Lines`). `on_start` gets process id and
        start time (kernel.process_start_time) before the program does anything. What a sink or `stdin` raises
        ends the program and is raised here; its stdin is not closed before that, so that it never takes half
        of its input for all. Raises UsbbackupError where the program is not installed.
        """
        ...


class Lines:
    """A sink that cuts chunks into lines, at newlines and carriage returns, and leaves out empty ones.

    A line longer than `limit` bytes comes in pieces.
    """

    def __init__(self, line: Sink, limit: int = _LINE) -> None:
        self._line = line
        self._limit = limit
        self._rest = bytearray()

    def __call__(self, chunk: bytes) -> None:
        """Take the next chunk; an empty one is the end."""
        *whole, rest = chunk.replace(b"\r", b"\n").split(b"\n")
        for end in whole:
            self._rest += end
            self._give(at_least=1)
        self._rest += rest
        self._give(at_least=self._limit if chunk else 1)

    def _give(self, at_least: int) -> None:
        while len(self._rest) >= at_least:
            piece = bytes(self._rest[: self._limit])
            del self._rest[: self._limit]
            self._line(piece)


class SystemPrograms:
    """The machine's own programs, run in the environment `environ`."""

    def __init__(self, clock: Clock, environ: Mapping[str, str]) -> None:
        self._clock = clock
        self._environ = {name: value for name, value in environ.items() if name not in _NOT_FOR_CHILDREN}

    async def run(
        self,
        program: Program,
        *,
        stop: Stop,
        on_stdout: Sink | None = None,
        on_stderr: Sink | None = None,
        on_start: Callable[[int, int], None] | None = None,
    ) -> Ended:
        """Start, listen, end; see `Programs`."""
        last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        keep_last = Lines(lambda line: last_words.append(safe(line)))
        running = Running(self._started(program), self._clock)
        try:
            running.begin(program.stdin, _sinks(on_stdout), _sinks(keep_last, on_stderr), on_start)
            with (
                _heard(stop, lambda: running.climb(program.stopping + LAST)),
                _Pipes(program, running, self._clock) as pipes,
            ):
                code, left = await running.end()
        except BaseException:
            await running.kill()
            raise
        finally:
            running.close()
        if running.trouble is not None:
            raise running.trouble
        return Ended(code, tuple(last_words), left, pipes.waited)

    def _started(self, program: Program) -> Child:
        changed = self._environ | dict(program.env)
        env = {name: value for name, value in changed.items() if value is not None}
        _require("setpriv", "util-linux", env)
        _require(os.fsdecode(program.argv[0]), program.package, env)
        return Child(
            Start(
                argv=program.argv,
                env=env,
                cwd_fd=program.cwd_fd,
                pass_fds=program.pass_fds,
                fed=program.stdin is not None,
                sandbox=program.sandbox,
                gentle=program.gentle,
            )
        )


class _Pipes:
    """Stops a program that opens a named pipe, though it is not to: a file that became one in the meantime.

    Neither rsync nor borg have a way to leave such a file alone, or a limit for their waiting.
    """

    def __init__(self, program: Program, running: Running, clock: Clock) -> None:
        self.waited = False
        self._program, self._running, self._clock = program, running, clock
        self._last: set[int] = set()
        self._timer: Timer | None = None

    def __enter__(self) -> Self:
        if not self._program.opens_pipes:
            self._timer = self._clock.later(_LOOK, self._look)
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        found = self._running.opening_pipes()
        if self._last & found:
            self.waited = True
            self._running.climb(self._program.stopping + LAST)
        else:
            self._last, self._timer = found, self._clock.later(_LOOK, self._look)


def _sinks(*sinks: Sink | None) -> tuple[Sink, ...]:
    return tuple(sink for sink in sinks if sink is not None)


def _require(program: str, package: str | None, env: Mapping[str, str]) -> None:
    if shutil.which(program, path=env.get("PATH", os.defpath)) is not None:
        return
    if os.sep in program:
        raise UsbbackupError(
            f"the program '{safe(program)}' is missing or not executable",
            "check its path, and that `ls -l` shows an x",
        )
    hint = f"install the package {package}" if package else "install it, or write its whole path"
    raise UsbbackupError(f"the program '{safe(program)}' is not installed", hint)


@contextlib.contextmanager
def _heard(stop: Stop, callback: Callable[[], None]) -> Iterator[None]:
    stop.on_set(callback)
    try:
        yield
    finally:
        stop.off(callback)
