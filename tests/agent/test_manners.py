"""No sleep in mid-run, no run on a low battery, no trust in drives after sleep."""

import asyncio
from pathlib import Path

import pytest

from tests.agent.played import Agent, Play, a_job, run
from usbbackup.agent import due
from usbbackup.agent.control import reload
from usbbackup.agent.login1 import Logind
from usbbackup.agent.tree import MONITOR
from usbbackup.agent.upower import Supply
from usbbackup.bus import Answer, BusError, NobodyThereError, Place
from usbbackup.config import Config, Power
from usbbackup.drives.admit import Ready
from usbbackup.otp import stop
from usbbackup.outcome import Outcome


async def told(agent: Agent) -> None:
    """Wait until everybody has heard of everything."""
    for _ in range(3):
        await agent.quiet()
        await asyncio.sleep(0.01)


def test_the_machine_is_kept_awake_for_exactly_as_long_as_something_runs(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job("one"), a_job("two"))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            assert play.login.given == []
            drive.plug()
            for _ in range(2):
                running = await agent.started()
                await told(agent)
                assert play.login.held
                running.end()
                await agent.ended()
            await told(agent)
            assert not play.login.held

    run(main)


def test_with_the_agent_or_its_manners_gone_nothing_is_held_up(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await agent.started()
            await told(agent)
            await stop(agent.pid("manners"))
            assert not play.login.held

    run(main)
    assert not play.login.held


def test_where_it_is_not_allowed_one_line_says_so_and_backups_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "usbbackup")
    play = Play(tmp_path, a_job(every=3600.0))
    play.login.refuses = BusError("org.freedesktop.DBus.Error.AccessDenied", "logind says: no")
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            for runs in (1, 2):
                (await agent.started()).end()
                await agent.ended()
                assert play.login.asked == runs  # not again with every word of how far it is
                play.clock.pass_by(3600)

    run(main)
    assert [record.outcome for record in play.history()][:2] == [Outcome.SUCCESS] * 2
    said = [record.message for record in caplog.records if "held up" in record.message]
    assert said == ["sleep and shutdown are not held up while backups run: logind says: no"]


class Refusing:
    """A bus on which logind gives only some locks."""

    def __init__(self, *refused: tuple[str, str], absent: bool = False) -> None:
        self.refused, self.absent = refused, absent
        self.asked: list[tuple[str, str]] = []

    async def call(self, to: Place, method: str, signature: str = "", *body: object) -> Answer:
        what, _, _, mode = map(str, body)
        self.asked.append((what, mode))
        if self.absent:
            raise NobodyThereError("", "nobody is there")
        if (what, mode) in self.refused:
            raise BusError("org.freedesktop.DBus.Error.AccessDenied", f"no {mode} of {what}")
        return [len(self.asked)]

    async def listen(self, place: Place, signal: str, listener: object) -> None:
        raise AssertionError

    async def close(self) -> None:
        pass


def test_who_may_not_block_delays_and_each_lock_is_asked_for_by_itself() -> None:
    bus = Refusing(("sleep", "block"))
    assert asyncio.run(Logind(bus).inhibit("why")) == [2, 3]
    assert bus.asked == [("sleep", "block"), ("sleep", "delay"), ("shutdown", "block")]


def test_one_lock_is_better_than_none_and_none_is_an_error() -> None:
    no_sleep = (("sleep", "block"), ("sleep", "delay"))
    assert len(asyncio.run(Logind(Refusing(*no_sleep)).inhibit("why"))) == 1
    with pytest.raises(BusError, match="no delay of shutdown"):
        asyncio.run(Logind(Refusing(*no_sleep, ("shutdown", "block"), ("shutdown", "delay"))).inhibit("why"))
    nobody = Refusing(absent=True)
    with pytest.raises(NobodyThereError):
        asyncio.run(Logind(nobody).inhibit("why"))
    assert len(nobody.asked) == 1


def with_power(play: Play, least: int | None) -> None:
    play.config = Config(jobs=play.config.jobs, power=Power(min_battery=least))


def test_on_a_low_battery_a_backup_waits_and_says_so_until_there_is_power(tmp_path: Path) -> None:
    """What the user asks for runs all the same."""
    play = Play(tmp_path, a_job())
    with_power(play, 30)
    play.battery.now = Supply(True, 29.4)
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            await told(agent)
            drive.plug()
            await agent.settled()
            assert not play.programs.now
            (verdict,) = (await agent.picture()).verdicts.values()
            assert verdict == due.Verdict(
                False, "the battery has 29 %, less than min_battery: 30; it runs on mains power"
            )
            await agent.wish(play.config.jobs[0], str(drive.device.fs_uuid))
            (await agent.started()).end(1)
            await agent.ended()
            play.battery.be(True, 25)
            await told(agent)
            play.clock.pass_by(3600)
            await told(agent)
            assert not play.programs.now
            play.battery.be(False, 25)
            (await agent.started()).end()
            await agent.ended()

    run(main)


@pytest.mark.parametrize(
    ("supply", "least", "waits"),
    [
        (Supply(True, 30), 30, False),
        (Supply(True, 29), 30, True),
        (Supply(False, 1), 30, False),
        (Supply(True, 1), None, False),
    ],
)
def test_only_a_battery_that_is_used_and_low_holds_a_backup_up(
    supply: Supply, least: int | None, waits: bool
) -> None:
    assert (supply.below(least) is not None) is waits


def test_a_reload_takes_the_wish_for_a_full_battery_back(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    with_power(play, 30)
    play.battery.now = Supply(True, 5)
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            await told(agent)
            drive.plug()
            await agent.settled()
            assert not play.programs.now
            with_power(play, None)
            reload(play.world, play.world.registry.via(MONITOR))
            (await agent.started()).end()
            await agent.ended()

    run(main)


def test_without_upower_a_line_says_that_the_wish_has_no_effect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "usbbackup")
    play = Play(tmp_path, a_job())
    with_power(play, 30)
    play.battery.absent = NobodyThereError("", "org.freedesktop.UPower is not there")
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            await agent.ended()

    run(main)
    said = "min_battery has no effect, the battery cannot be asked: org.freedesktop.UPower is not there"
    assert said in [record.message for record in caplog.records]


def test_after_sleep_a_drive_is_proven_again_and_stays_the_same_stay(tmp_path: Path) -> None:
    """A clock that was only set proves nothing anew."""
    play = Play(tmp_path, a_job(every=3600.0))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            await agent.ended()
            (before,) = (await agent.picture()).sightings
            play.clock.sleep(0)
            await told(agent)
            assert (await agent.picture()).sightings[0].decision is before.decision
            play.clock.sleep(600)
            await told(agent)
            await agent.settled()
            (after,) = (await agent.picture()).sightings
            assert isinstance(before.decision, Ready)
            assert isinstance(after.decision, Ready)
            assert after.decision is not before.decision
            assert after.decision.attachment == before.decision.attachment
            play.clock.sleep(600)
            await told(agent)

    run(main)
    assert len(play.history()) == 1


def test_a_drive_that_does_not_take_a_byte_after_sleep_is_ready_no_more(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(every=3600.0))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            await agent.ended()
            (drive.directory / "usbbackup").rename(drive.directory / "elsewhere")
            play.clock.sleep(7200)
            await told(agent)
            await agent.settled()
            (after,) = (await agent.picture()).sightings
            assert not isinstance(after.decision, Ready)
            await told(agent)

    run(main)
    assert [record.outcome for record in play.history() if record.outcome == "success"] == [Outcome.SUCCESS]
