"""Whoever waits for a run hears of its end, however late or slowly it listens."""

import asyncio
from pathlib import Path

from tests.agent.played import Play, a_job, run
from usbbackup.agent.control import until_ended
from usbbackup.agent.events import BACKLOG, Event, Hub
from usbbackup.agent.run import Order
from usbbackup.outcome import Outcome, Phase, Progress


def test_a_run_that_is_over_already_is_told_of_at_once(tmp_path: Path) -> None:
    """Asked for between its end and the end of its process, it used to be waited for in vain."""
    play = Play(tmp_path, a_job())
    play.a_drive().plug()

    async def main() -> None:
        async with play.agent() as agent:
            program = await agent.started()
            (order,) = (
                agent.world.registry.lookup(name) for name in agent.world.registry.names() if name[0] == "run"
            )
            assert order is not None and isinstance(order.value, Order)
            program.end()
            await agent.ended()
            with agent.world.hub.stream() as events:
                told = [event async for event in until_ended(events, [order.value])]
        assert [(event.event, event.result and event.result.outcome) for event in told] == [
            ("ended", Outcome.SUCCESS)
        ]

    run(main)


def test_a_reader_that_lags_misses_how_far_runs_are_never_their_ends() -> None:
    hub = Hub()

    async def main() -> list[Event]:
        with hub.stream() as events:
            hub.tell(Event("queued", "r", "j", "d"))
            for _ in range(BACKLOG + 5):
                hub.tell(Event("progress", "r", "j", "d", Progress(Phase.TRANSFER)))
            hub.tell(Event("ended", "r", "j", "d"))
            hub.tell(Event("progress", "r", "j", "d", Progress(Phase.TRANSFER)))
            return [await anext(events) for _ in range(BACKLOG + 1)]

    told = asyncio.run(main())
    assert (told[0].event, told[-1].event) == ("queued", "ended")
    assert all(event.event == "progress" for event in told[1:-1])
