"""The machine's clocks."""

import asyncio
import time

from usbbackup.clock import SystemClock, compact_utc, from_compact_utc, rfc3339


def test_a_wall_timer_fires_once_and_leaves_nothing_open() -> None:
    """A time that has passed fires at once; a cancelled timer never."""

    async def main() -> list[str]:
        fired: list[str] = []
        done = asyncio.Event()
        clock = SystemClock()
        never = clock.at(time.time() + 3600, lambda: fired.append("never"))
        never.cancel()
        never.cancel()
        clock.at(0, lambda: (fired.append("now"), done.set())[0])
        await asyncio.wait_for(done.wait(), 10)
        return fired

    assert asyncio.run(main()) == ["now"]


def test_times_are_written_for_people_scripts_and_snapshot_names() -> None:
    """RFC 3339 carries a zone; a snapshot's name is UTC and reads back."""
    assert rfc3339(0.0) is not None
    assert rfc3339(0.0)[-6] in "+-"  # type: ignore[index]  # not None, said the line before
    assert compact_utc(1_795_000_000.9) == "2026-11-18T110640Z"
    assert from_compact_utc("2026-11-18T110640Z") == 1_795_000_000
    assert from_compact_utc("2026-11-18T110640Z.synced") is None
