"""Running other programs, and always ending them."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.clock import SystemClock
from usbbackup.errors import UsbbackupError
from usbbackup.kernel import opens_pipe, process_start_time
from usbbackup.outcome import Outcome, Stop
from usbbackup.programs import Ended, Lines, Program, SystemPrograms

ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "NOTIFY_SOCKET": "/run/notify",
    "COLOUR": "red",
}


class HandClock(SystemClock):
    """Timers fall due when the test says so."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.was_set = asyncio.Event()

    def later(self, seconds: float, callback: Callable[[], None]) -> "HandTimer":
        self.timers.append((seconds, callback))
        self.was_set.set()
        return HandTimer(self, self.timers[-1])

    def pass_time(self) -> float:
        """The newest timer falls due; how long it was set for."""
        seconds, callback = self.timers.pop()
        callback()
        return seconds


class HandTimer:
    def __init__(self, clock: HandClock, timer: tuple[float, Callable[[], None]]) -> None:
        self.clock, self.timer = clock, timer

    def cancel(self) -> None:
        if self.timer in self.clock.timers:
            self.clock.timers.remove(self.timer)


class Heard:
    """The lines that a program wrote, and a wait for one of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.changed = asyncio.Event()
        self.sink = Lines(self.take)

    def take(self, line: bytes) -> None:
        self.lines.append(line.decode())
        self.changed.set()

    async def first(self) -> str:
        await self.changed.wait()
        return self.lines[0]


def sh(script: str, **options) -> Program:
    return Program(("sh", "-c", script), **options)


def run(program: Program, **options) -> tuple[Ended, list[str]]:
    async def main() -> tuple[Ended, list[str]]:
        heard = Heard()
        programs = SystemPrograms(SystemClock(), ENVIRON)
        ended = await programs.run(program, stop=Stop(), on_stdout=heard.sink, **options)
        return ended, heard.lines

    return asyncio.run(main())


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_it_tells_exit_code_output_and_last_words():
    ended, lines = run(sh("echo one; printf 'two\\rthree'; echo oh >&2; exit 3"))
    assert ended == Ended(3, ("oh",))
    assert lines == ["one", "two", "three"]
    assert ended.how == "ended with exit code 3"


def test_it_tells_which_signal_killed_a_program():
    ended, _ = run(sh("kill -SEGV $$"))
    assert ended.code == -signal.SIGSEGV
    assert ended.how == "was killed by SIGSEGV"


def test_a_program_has_the_users_environment_and_what_it_is_given():
    ended, lines = run(
        sh('echo "$HOME $COLOUR ${SHAPE-none} ${NOTIFY_SOCKET-none}"', env={"SHAPE": "round", "COLOUR": None})
    )
    assert lines == ["/nonexistent  round none"]
    assert ended.code == 0


def test_a_program_starts_as_in_a_login_shell(tmp_path):
    """Nothing to read, umask 022, no privilege lost, default signals; in the directory opened for it."""
    fd = os.open(tmp_path, os.O_RDONLY)
    previous = os.umask(0o077)
    try:
        _, lines = run(sh("cat; umask; pwd; grep -E 'NoNewPrivs|SigIgn|SigBlk' /proc/self/status", cwd_fd=fd))
    finally:
        os.umask(previous)
        os.close(fd)
    assert lines[:2] == ["0022", str(tmp_path)]
    told = {name: int(value, 16) for name, value in (line.split() for line in lines[2:])}
    of_libc = 0b11 << 31  # 32 and 33, which it keeps for itself and a parent like make may leave ignored
    assert told["SigIgn:"] & ~of_libc == 0
    assert (told["SigBlk:"], told["NoNewPrivs:"]) == (0, 0)


def test_a_program_leads_its_own_session():
    _, lines = run(sh("echo $$; cut -d' ' -f5,6 /proc/$$/stat"))
    assert lines[1] == f"{lines[0]} {lines[0]}"


def test_a_gentle_program_has_low_priority_and_the_idle_io_class():
    own = os.getpriority(os.PRIO_PROCESS, 0)
    _, lines = run(sh("nice; ionice", gentle=True))
    assert lines == [str(max(10, own)), "idle"]
    _, lines = run(sh("nice"))
    assert lines == [str(own)]


def test_names_that_are_no_text_reach_the_program():
    ended, _ = run(Program(("test", b"\xff\n", "=", os.fsdecode(b"\xff\n"))))
    assert ended.code == 0


def test_it_is_fed_far_more_than_a_pipe_holds():
    def feed(out):
        for _ in range(1000):
            out.write(b"x" * 10_000)

    _, lines = run(sh("wc -c", stdin=feed))
    assert lines == ["10000000"]


def test_a_program_that_does_not_want_to_hear_it_all_is_no_trouble():
    ended, _ = run(sh("head -c 1 >/dev/null; exit 0", stdin=lambda out: out.write(b"x" * 10_000_000)))
    assert ended.code == 0


def test_where_the_feed_fails_the_program_never_takes_half_for_all(tmp_path):
    def feed(out):
        out.write(b"half")
        out.flush()
        raise LookupError("the source is gone")

    program = sh(f"cat > {tmp_path}/got; touch {tmp_path}/thought-it-was-all", stdin=feed)
    with pytest.raises(LookupError):
        run(program)
    assert not (tmp_path / "thought-it-was-all").exists()


def test_a_feed_that_fails_because_of_a_stop_does_not_make_the_stop_less_polite():
    stop, stopped = Stop(), threading.Event()

    def feed(out):
        stopped.wait()
        raise LookupError("not wanted any more")

    def hear(line: bytes) -> None:
        if line == b"ready":
            stop.set(Outcome.CANCELLED, "you said so")
            stopped.set()
        lines.append(line)

    async def main() -> Ended:
        script = "trap 'echo INT; exit 7' INT; trap 'echo TERM' TERM; echo ready; sleep 1000 & wait"
        return await SystemPrograms(SystemClock(), ENVIRON).run(
            sh(script, stdin=feed), stop=stop, on_stdout=Lines(hear)
        )

    lines: list[bytes] = []
    with suppress(LookupError):  # the program may have ended before that is heard
        asyncio.run(main())
    assert lines == [b"ready", b"INT"]


def test_what_a_sink_raises_ends_the_program_and_is_raised():
    def sink(chunk: bytes) -> None:
        raise ValueError(chunk)

    async def main() -> None:
        await SystemPrograms(SystemClock(), ENVIRON).run(
            sh("echo hello; sleep 1000"), stop=Stop(), on_stdout=sink
        )

    with pytest.raises(ValueError, match="hello"):
        asyncio.run(main())


def test_a_stop_is_int_then_term_then_kill():
    script = "trap 'echo INT' INT; trap 'echo TERM' TERM; echo ready; while :; do sleep 1000 & wait $!; done"

    async def main() -> tuple[Ended, list[float], list[str]]:
        clock, stop, seconds, lines = HandClock(), Stop(), [], []

        def hear(line: bytes) -> None:
            lines.append(line.decode())
            if line == b"ready":
                stop.set(Outcome.CANCELLED, "you said so")
            else:
                seconds.append(clock.pass_time())

        ended = await SystemPrograms(clock, ENVIRON).run(sh(script), stop=stop, on_stdout=Lines(hear))
        assert clock.timers == []
        return ended, seconds, lines

    ended, seconds, lines = asyncio.run(main())
    assert ended.code == -signal.SIGKILL
    assert lines == ["ready", "INT", "TERM"]
    assert seconds == [30.0, 10.0]


def test_a_program_may_have_its_own_way_of_being_stopped():
    async def main() -> Ended:
        stop = Stop()
        program = replace(
            sh("trap 'exit 9' USR1; echo ready; sleep 1000 & wait"), stopping=((signal.SIGUSR1, 5.0),)
        )
        return await SystemPrograms(SystemClock(), ENVIRON).run(
            program, stop=stop, on_stdout=lambda _: stop.set(Outcome.CANCELLED, "")
        )

    assert asyncio.run(main()).code == 9


def test_cancelled_it_is_killed_at_once_with_all_its_children():
    async def main() -> list[int]:
        heard = Heard()
        programs = SystemPrograms(SystemClock(), ENVIRON)
        program = sh("trap '' INT TERM; sleep 1000 & echo $$ $!; wait")
        task = asyncio.create_task(programs.run(program, stop=Stop(), on_stdout=heard.sink))
        pids = [int(pid) for pid in (await heard.first()).split()]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pids

    assert not any(alive(pid) for pid in asyncio.run(main()))


def test_what_a_program_leaves_in_the_background_is_ended_and_does_not_keep_us_waiting():
    ended, lines = run(sh("sleep 1000 & echo $!; exit 4"))
    assert ended.code == 4
    assert not alive(int(lines[0]))


def test_what_is_left_and_will_not_go_is_killed(tmp_path):
    stubborn = f"(trap '' TERM; echo > {tmp_path}/ready; while :; do sleep 1000; done) & echo $!"

    async def main() -> tuple[Ended, int]:
        clock, heard = HandClock(), Heard()
        program = sh(f"mkfifo {tmp_path}/ready; {stubborn}; read -r _ < {tmp_path}/ready; exit 5")
        running = asyncio.create_task(
            SystemPrograms(clock, ENVIRON).run(program, stop=Stop(), on_stdout=heard.sink)
        )
        await clock.was_set.wait()
        assert clock.pass_time() == 10.0
        return await running, int(await heard.first())

    ended, left = asyncio.run(main())
    assert ended == Ended(5)
    assert not alive(left)


def test_a_daemon_that_holds_our_pipe_does_not_keep_us_waiting(tmp_path):
    daemon = f"setsid sh -c 'echo $$; echo > {tmp_path}/ready; exec sleep 1000' &"
    ended, lines = run(sh(f"mkfifo {tmp_path}/ready; {daemon} read -r _ < {tmp_path}/ready"))
    os.kill(int(lines[0]), signal.SIGKILL)
    assert ended.code == 0


def test_it_is_known_before_it_does_anything(tmp_path):
    seen = []

    def on_start(pid: int, start_time: int) -> None:
        seen.append((pid, start_time, process_start_time(pid), (tmp_path / "did-something").exists()))

    _, lines = run(sh(f"touch {tmp_path}/did-something; echo $$"), on_start=on_start)
    ((pid, start_time, really, did_something),) = seen
    assert pid == int(lines[0])
    assert start_time == really
    assert not did_something
    assert (tmp_path / "did-something").exists()


def test_where_it_cannot_be_recorded_it_does_nothing(tmp_path):
    def on_start(pid: int, start_time: int) -> None:
        raise OSError("home is full")

    with pytest.raises(OSError, match="home is full"):
        run(sh(f"touch {tmp_path}/did-something"), on_start=on_start)
    assert not (tmp_path / "did-something").exists()


def test_a_missing_program_is_named_with_its_package():
    with pytest.raises(UsbbackupError) as caught:
        run(Program(("borgg", "create"), package="borgbackup"))
    assert caught.value.message == "the program 'borgg' is not installed"
    assert caught.value.hint == "install the package borgbackup"


def test_a_script_that_may_not_be_executed_is_named(tmp_path):
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(UsbbackupError, match=r"script\.sh' is missing or not executable"):
        run(Program((str(script),)))


def test_a_script_without_a_first_line_runs_as_in_a_shell(tmp_path):
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o700)
    assert run(Program((str(script),)))[1] == ["hello"]


def test_programs_run_side_by_side_and_leave_no_descriptor_and_no_thread_behind():
    async def main() -> list[int]:
        programs = SystemPrograms(SystemClock(), ENVIRON)
        runs = (programs.run(sh(f"cat; exit {code}", stdin=lambda _: None), stop=Stop()) for code in range(8))
        return [ended.code for ended in await asyncio.gather(*runs)]

    before = set(Path("/proc/self/fd").iterdir()), threading.active_count()
    assert asyncio.run(main()) == list(range(8))
    for thread in threading.enumerate():
        if thread.name.startswith(("child", "feed")):
            thread.join()
    assert (set(Path("/proc/self/fd").iterdir()), threading.active_count()) == before


def test_the_death_of_the_agent_is_the_end_of_the_program():
    agent = """
import asyncio, os, sys
from usbbackup.clock import SystemClock
from usbbackup.outcome import Stop
from usbbackup.programs import Program, SystemPrograms

programs = SystemPrograms(SystemClock(), os.environ)
program = Program(("sh", "-c", "echo $$; exec sleep 1000"))
asyncio.run(programs.run(program, stop=Stop(), on_stdout=lambda chunk: os.write(1, chunk)))
"""
    with subprocess.Popen([sys.executable, "-c", agent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        watched = os.pidfd_open(pid)
        process.kill()
    ended, _, _ = select.select([watched], [], [], 60)
    os.close(watched)
    assert ended


@given(st.lists(st.binary(max_size=12), max_size=8), st.integers(1, 6))
def test_lines_do_not_depend_on_how_the_chunks_fall(chunks, limit):
    whole, pieces = [], []
    at_once, bit_by_bit = Lines(whole.append, limit), Lines(pieces.append, limit)
    at_once(b"".join(chunks))
    at_once(b"")
    for chunk in chunks:
        if chunk:
            bit_by_bit(chunk)
    bit_by_bit(b"")
    assert whole == pieces
    assert b"".join(whole) == b"".join(chunks).replace(b"\n", b"").replace(b"\r", b"")
    assert all(0 < len(line) <= limit for line in whole)


@pytest.mark.parametrize("opens_pipes", [False, True])
def test_who_is_not_to_open_pipes_is_stopped_where_nobody_comes(tmp_path: Path, *, opens_pipes: bool) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = Program(("cat", str(fifo)), opens_pipes=opens_pipes)

    async def it() -> Ended:
        clock, stop, started = HandClock(), Stop(), list[int]()
        programs = SystemPrograms(clock, ENVIRON)
        begun = programs.run(program, stop=stop, on_start=lambda pid, _: started.append(pid))
        running = asyncio.create_task(begun)
        while not any(map(opens_pipe, started)):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
        if opens_pipes:
            assert clock.timers == []
            stop.set(Outcome.CANCELLED, "enough")
        else:
            assert (clock.pass_time(), clock.pass_time()) == (30.0, 30.0)
        return await asyncio.wait_for(running, 60)

    ended = asyncio.run(it())
    assert ended.code == -signal.SIGINT
    assert ended.waited == (not opens_pipes)
