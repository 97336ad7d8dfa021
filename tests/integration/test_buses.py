"""What goes over the wire of D-Bus: a real bus, services played by python-dbusmock."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from mocked_bus import MOCK, MockedBus, mocked_bus

from usbbackup.agent.login1 import LOGIND, Logind, release
from usbbackup.agent.notices import Action, Notice, Urgency
from usbbackup.agent.notifications import SERVER, Notifications
from usbbackup.agent.upower import Supply, UPower
from usbbackup.bus import BusError, MessageBusAt, NobodyThereError, NoBus, Place, Typed

UPOWER = Place("org.freedesktop.UPower", "/org/freedesktop/UPower", "org.freedesktop.UPower")
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
        carried = [Typed("u", number), Typed("s", word)]
        signal = (SERVER.interface, "ActionInvoked", "us", carried)
        await bus.call(SERVER.at(SERVER.path, MOCK), "EmitSignal", "sssav", *signal)

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


def test_upower_tells_of_the_battery_and_of_its_changes(mocked: MockedBus) -> None:
    mocked.play("upower", "-p", '{"OnBattery": true}')
    heard: list[Supply] = []

    async def question(bus: MessageBusAt) -> None:
        async def be(percent: float) -> None:
            device = UPOWER.at(f"{UPOWER.path}/devices/DisplayDevice", "org.freedesktop.DBus.Properties")
            await bus.call(
                device, "Set", "ssv", f"{UPOWER.service}.Device", "Percentage", Typed("d", percent)
            )

        battery, changed = UPower(bus), asyncio.Event()
        await be(29.0)
        heard.append(await battery.supply())
        await battery.watch(changed.set)
        await be(12.0)
        async with asyncio.timeout(30):
            await changed.wait()
        heard.append(await battery.supply())

    on(mocked, UPOWER, question)
    assert heard == [Supply(True, 29.0), Supply(True, 12.0)]


def test_logind_gives_locks_that_are_descriptors(mocked: MockedBus) -> None:
    mocked.play("logind")
    held: list[list[object]] = []

    async def question(bus: MessageBusAt) -> None:
        locks = await Logind(bus).inhibit("a backup")
        for lock in locks:
            os.fstat(lock)
        (inhibitors,) = await bus.call(LOGIND, "ListInhibitors")
        held.extend([list(one[:4]) for one in inhibitors])
        release(locks)

    on(mocked, LOGIND, question)
    why = ("usbbackup", "a backup", "block")
    assert held == [["sleep", *why], ["shutdown", *why]]


@pytest.fixture
def screen(ground: Path) -> Iterator[str]:
    """An X server without a screen."""
    if shutil.which("Xvfb") is None or shutil.which("dunst") is None:
        pytest.skip("Xvfb or dunst is not installed")
    reading, writing = os.pipe()
    with subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    ) as server:
        os.close(writing)
        with os.fdopen(reading) as told:
            yield f":{told.readline().strip()}"
        server.terminate()


def test_a_real_notification_daemon_shows_and_withdraws_it(mocked: MockedBus, screen: str) -> None:
    """Dunst, which knows actions and markup; what it has shown is in its history."""
    env = {
        "DISPLAY": screen,
        "DBUS_SESSION_BUS_ADDRESS": mocked.address,
        "PATH": os.environ["PATH"],
        "HOME": "/nowhere",
    }
    shown: list[object] = []

    async def question(bus: MessageBusAt) -> None:
        desktop = Notifications(bus)
        first = await desktop.show(NOTICE)
        assert await desktop.show(Notice("Safe to unplug 'a<b'", "3 < 4"), first) == first
        await desktop.withdraw(first)
        shown.extend(
            await bus.call(SERVER.at(SERVER.path, "org.dunstproject.cmd0"), "NotificationListHistory")
        )

    with subprocess.Popen(["dunst"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dunst:
        try:
            on(mocked, SERVER, question)
        finally:
            dunst.terminate()
    assert "Safe to unplug 'a<b'" in repr(shown)
    assert "usbbackup" in repr(shown)
