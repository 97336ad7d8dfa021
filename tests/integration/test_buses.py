"""What goes over the wire of D-Bus: a real bus, services played by python-dbusmock."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from mocked_bus import MOCK, MockedBus, mocked_bus

from usbbackup.agent.notices import Action, Notice, Urgency
from usbbackup.agent.notifications import SERVER, Notifications
from usbbackup.bus import BusError, MessageBusAt, NobodyThereError, NoBus, Place

NOTICE = Notice("Backed up to 'a<b'", "3 < 4", Urgency.CRITICAL, (Action.EJECT, Action.LOG))


@pytest.fixture
def mocked(ground: Path) -> Iterator[MockedBus]:
    with mocked_bus(ground) as bus:
        yield bus


def on(mocked: MockedBus, place: Place, question: Callable[[MessageBusAt], Awaitable[None]]) -> None:
    async def main() -> None:
        bus = MessageBusAt(mocked.address)
        try:
            await mocked.ready(bus, place)
            await question(bus)
        finally:
            await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize("able", ["body body-markup actions", "body"])
def test_a_notification_is_shown_replaced_and_withdrawn_as_far_as_the_server_can(
    mocked: MockedBus, able: str
) -> None:
    """Without the word for it, no markup is escaped and no action offered."""
    mocked.play("notification_daemon", "-p", f'{{"capabilities": "{able}"}}')

    async def question(bus: MessageBusAt) -> None:
        desktop = Notifications(bus)
        assert await desktop.show(NOTICE) == 1
        assert await desktop.show(NOTICE, 1) == 1
        assert await desktop.show(NOTICE) == 2

    on(mocked, SERVER, question)
    first, second, _ = mocked.asked("notification_daemon", "Notify")
    assert first.startswith(' "usbbackup" 0 "drive-removable-media" "Backed up to \'a<b\'"')
    assert second.startswith(' "usbbackup" 1 ')
    assert ('"3 &lt; 4"' in first) is ("markup" in able)
    assert ('["eject", "Eject", "log", "Show log"]' in first) is ("actions" in able)
    assert '"urgency": 2' in first


def test_what_is_chosen_is_heard_also_after_the_bus_was_lost(mocked: MockedBus) -> None:
    """Foreign words, and signals of others than the notification server, are not."""
    mocked.play("notification_daemon")
    heard: list[tuple[int, Action]] = []

    async def choose(bus: MessageBusAt, number: int, word: str) -> None:
        signal = ("", "ActionInvoked", "us", [_u(number), _s(word)])
        await bus.call(SERVER.at(SERVER.path, MOCK), "EmitSignal", "sssav", SERVER.interface, *signal[1:])

    async def question(bus: MessageBusAt) -> None:
        desktop = Notifications(bus)
        await desktop.listen(lambda number, action: heard.append((number, action)))
        await choose(bus, 7, "enrol")
        await choose(bus, 8, "nonsense")
        mocked.end()
        mocked.start()
        mocked.play("notification_daemon")
        await mocked.ready(bus, SERVER)
        await choose(bus, 9, "log")
        await bus.call(SERVER, "GetCapabilities")

    on(mocked, SERVER, question)
    assert heard == [(7, Action.ENROL), (9, Action.LOG)]


def test_nobody_there_is_an_error_of_its_own(mocked: MockedBus, ground: Path) -> None:
    """No service, no bus, no such method: three sentences."""
    mocked.play("notification_daemon")

    async def question(bus: MessageBusAt) -> None:
        with pytest.raises(NobodyThereError, match=r"^org\.example\.None is not there$"):
            await bus.call(Place("org.example.None", "/", "org.example.None"), "Anything")
        with pytest.raises(BusError, match="says:") as refused:
            await bus.call(SERVER, "NoSuchMethod")
        assert not isinstance(refused.value, NobodyThereError)
        with pytest.raises(NobodyThereError, match=r"^there is no message bus at unix:path=.*: "):
            await MessageBusAt(f"unix:path={ground}/none").call(SERVER, "GetCapabilities")
        with pytest.raises(NobodyThereError, match="there is no message bus"):
            await NoBus().listen(SERVER, "ActionInvoked", lambda answer: None)

    on(mocked, SERVER, question)


def _u(value: int) -> object:
    from usbbackup.bus import Typed

    return Typed("u", value)


def _s(value: str) -> object:
    from usbbackup.bus import Typed

    return Typed("s", value)
