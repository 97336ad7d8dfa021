"""Passphrases, asked of the user's passcommand."""

import asyncio
import os
from collections.abc import Callable

import pytest

from usbbackup.backup.secret import Secret, WaitingForSecret, ask
from usbbackup.clock import SystemClock, Timer
from usbbackup.errors import UsbbackupError
from usbbackup.outcome import Outcome, Stop
from usbbackup.programs import SystemPrograms


class SwiftClock(SystemClock):
    """A minute is over at once."""

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return super().later(seconds / 600, callback)


def asked(*passcommand: str, clock: SystemClock | None = None, stop: Stop | None = None):
    programs = SystemPrograms(SystemClock(), os.environ)
    return asyncio.run(ask(passcommand, programs, clock or SystemClock(), stop or Stop()))


@pytest.mark.parametrize(
    ("printed", "passphrase"), [("a b\\n", b"a b"), ("a", b"a"), ("a\\n\\n", b"a\n"), ("\\377", b"\xff")]
)
def test_the_passphrase_is_what_is_printed_less_the_last_newline(printed, passphrase):
    assert asked("printf", printed) == Secret(passphrase)


def test_a_passphrase_does_not_show_itself():
    assert "hunter2" not in repr(Secret(b"hunter2"))
    assert "hunter2" not in str(asked("echo", "hunter2"))


def test_a_passphrase_can_be_read_once():
    with Secret(b"hunter2").readable() as fd:
        assert os.read(fd, 100) == b"hunter2"
        assert os.read(fd, 100) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo hunter2; echo hunter2 >&2; exit 1", "ended with exit code 1"),
        ("kill -9 $$", "was killed by SIGKILL"),
        ("true", "printed nothing"),
        ("head -c 5000 /dev/zero", "printed more than 4096 bytes"),
    ],
)
def test_a_passcommand_that_gives_none_is_a_value_of_its_own_and_shows_no_output(script, reason):
    result = asked("sh", "-c", script)
    assert isinstance(result, WaitingForSecret)
    assert result.outcome is Outcome.SKIPPED
    assert result.message == f"there is no passphrase: the passcommand {reason}"
    assert "hunter2" not in repr(result)


def test_a_passcommand_has_a_time_limit():
    result = asked("sleep", "1000", clock=SwiftClock())
    assert isinstance(result, WaitingForSecret)
    assert result.message == "there is no passphrase: the passcommand did not answer within 60 seconds"


def test_a_stop_ends_the_passcommand():
    stop = Stop()
    stop.set(Outcome.CANCELLED, "you said so")
    assert isinstance(asked("sleep", "1000", stop=stop), WaitingForSecret)


def test_a_missing_passcommand_is_named():
    with pytest.raises(UsbbackupError, match="'secret-toool' is not installed"):
        asked("secret-toool")
