"""How far something is, where nobody watches."""

import io

from usbbackup.cli.main import Terminal
from usbbackup.cli.progress import bar
from usbbackup.clock import SystemClock


class Clock(SystemClock):
    """Set by the test."""

    seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


def told(*, quiet: bool = False) -> list[str]:
    clock, err = Clock(), io.StringIO()
    with bar("restoring", Terminal({}, io.StringIO(), err, clock), quiet=quiet) as begin:
        moved = begin(4_000_000)
        for seconds, done in ((0, 0), (29, 1_000_000), (30, 2_000_000), (31, 2_100_000), (61, 3_000_000)):
            clock.seconds = 1000.0 + seconds
            moved(done)
    return err.getvalue().splitlines()


def test_what_takes_long_says_so_in_plain_lines_half_a_minute_apart() -> None:
    assert told() == ["restoring: 2.0 MB of 4.0 MB", "restoring: 3.0 MB of 4.0 MB"]


def test_who_asked_for_json_gets_nothing_else() -> None:
    assert told(quiet=True) == []
