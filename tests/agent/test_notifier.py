"""What the person at the screen is told, and what they can do there."""

import asyncio
from pathlib import Path

import pytest

from tests.agent.played import Agent, Play, a_job, run
from usbbackup.agent.control import reload
from usbbackup.agent.notices import Action, Ended, Notice, Stay, Urgency, notice
from usbbackup.agent.tree import MONITOR
from usbbackup.config import Config, DriveConfig, Notify
from usbbackup.otp import exit
from usbbackup.outcome import Outcome, Result

DAY = 86400.0
BACKUP = DriveConfig(name="backup", label="backup")


def ended(outcome: Outcome, message: str = "that was that", **more: object) -> Ended:
    return Ended("a run", Result(outcome, message, **more), 125.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stay", "shown"),
    [
        (Stay("x"), None),
        (
            Stay("x\x1b", stranger=True),
            Notice(
                "Use 'x\\x1b' for backups?",
                "It was never enrolled here, so nothing is written to it.",
                actions=(Action.ENROL,),
            ),
        ),
        (Stay("x", waits="It is locked."), Notice("'x' cannot be backed up to yet", "It is locked.")),
        (Stay("x", doubt="It has errors."), Notice("'x' is in doubt", "It has errors.")),
        (
            Stay("x", ended={"home": ended(Outcome.SUCCESS)}, doubt="It has errors."),
            Notice("Backed up to 'x'", "home: 2 min 5 s\nIt has errors.", actions=(Action.EJECT,)),
        ),
        (
            Stay("x", running={"home": 130.0, "music": None}),
            Notice("Backing up to 'x'", "home: about 2 min 10 s, as last time\nmusic", Urgency.LOW),
        ),
        (
            Stay("x", ended={"home": ended(Outcome.SUCCESS, bytes=3_100_000_000, files=412)}),
            Notice("Backed up to 'x'", "home: 3.1 GB, 412 files, 2 min 5 s", actions=(Action.EJECT,)),
        ),
        (
            Stay("x", ended={"home": ended(Outcome.SUCCESS)}, held="vlc holds it."),
            Notice("Backed up to 'x'", "home: 2 min 5 s\nvlc holds it.", actions=(Action.EJECT,)),
        ),
        (
            Stay("x", ended={"home": ended(Outcome.SUCCESS)}, safe="It is switched off."),
            Notice("Safe to unplug 'x'", "home: 2 min 5 s"),
        ),
        (
            Stay("x", ended={"a": ended(Outcome.FAILED, "full", hint="buy"), "b": ended(Outcome.SUCCESS)}),
            Notice("The backup of a to 'x' failed", "full.\nbuy", Urgency.CRITICAL, (Action.LOG,)),
        ),
        (
            Stay("x", ended={"home": ended(Outcome.INTERRUPTED, "the drive was unplugged")}),
            Notice(
                "The backup of home to 'x' was interrupted",
                "the drive was unplugged.\nPlug the drive in again: the next backup goes on from there.",
            ),
        ),
        (
            Stay("x", ended={"home": ended(Outcome.WARNING, "3 files were not read")}),
            Notice(
                "Backed up home to 'x', with warnings",
                "3 files were not read.",
                actions=(Action.LOG, Action.EJECT),
            ),
        ),
        (
            Stay("x", ended={"home": ended(Outcome.WARNING, "3 files were not read")}, safe="It is."),
            Notice("Safe to unplug 'x'", "3 files were not read.", actions=(Action.LOG,)),
        ),
        (
            Stay("x", ended={"home": ended(Outcome.CANCELLED)}),
            Notice("The backup of home to 'x' was cancelled", "", Urgency.LOW),
        ),
        (
            Stay("x", ended={"home": ended(Outcome.SKIPPED, "there is no passphrase", hint="unlock it")}),
            Notice("home was not backed up to 'x'", "there is no passphrase.\nunlock it"),
        ),
    ],
)
def test_each_moment_has_its_notice(stay: Stay, shown: Notice | None) -> None:
    assert notice(stay) == shown


def screen(play: Play) -> list[str]:
    return [notice.summary for notice in play.desktop.now.values()]


async def told(agent: Agent) -> None:
    """Wait until everybody has heard of everything."""
    for _ in range(3):
        await agent.busy()
        await asyncio.sleep(0.01)


def test_one_notification_follows_a_drive_from_plug_to_done(tmp_path: Path) -> None:
    """Updated in place; a later good run of the same stay disturbs nobody; a new stay has a new one."""
    play = Play(tmp_path, a_job(every=3600.0))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            running = await agent.started()
            await told(agent)
            assert screen(play) == ["Backing up to 'backup'"]
            play.clock.pass_by(120)
            running.end()
            await agent.ended()
            await told(agent)
            assert screen(play) == ["Backed up to 'backup'"]
            assert play.desktop.now[1].body == "script: 2 min"
            play.clock.pass_by(3600)
            (await agent.started()).end()
            await agent.ended()
            await told(agent)
            play.clock.pass_by(3600)
            (await agent.started()).end(1)
            await agent.ended()
            await told(agent)
            assert screen(play) == ["The backup of script to 'backup' failed"]
            drive.pull()
            await told(agent)
            drive.plug()
            await agent.started()
            await told(agent)
            assert play.desktop.now[4].body == "script: about 0 s, as last time"

    run(main)
    assert play.desktop.told == [
        "Backing up to 'backup'",
        "Backed up to 'backup'",
        "The backup of script to 'backup' failed",
        "Backing up to 'backup'",
    ]
    assert screen(play) == ["The backup of script to 'backup' failed"]  # what was going on is taken back


def test_pulled_in_mid_run_it_says_that_the_next_one_goes_on(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await agent.started()
            await told(agent)
            drive.pull()
            await agent.ended()
            await told(agent)

    run(main)
    assert screen(play) == ["The backup of script to 'backup' was interrupted"]


def test_a_stranger_can_be_enrolled_from_its_notification(tmp_path: Path) -> None:
    """Chosen, it is enrolled and backed up to; gone unanswered, nothing is asked any more."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive(enrolled=False)

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await told(agent)
            assert screen(play) == ["Use 'backup' for backups?"]
            drive.pull()
            await told(agent)
            assert screen(play) == []
            drive.plug()
            await told(agent)
            (number,) = play.desktop.now
            play.desktop.chosen(number + 7, Action.ENROL)  # another program's
            await told(agent)
            assert play.world.records.read() == {}
            play.desktop.chosen(number, Action.ENROL)
            (await agent.started()).end()
            await agent.ended()
            await told(agent)
            assert screen(play) == ["Backed up to 'backup'"]

    run(main)


def test_it_can_be_ejected_from_its_notification(tmp_path: Path) -> None:
    """And where something holds it, that is said in the same place."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive()
    play.disks.held = True

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            await agent.ended()
            await told(agent)
            play.desktop.chosen(1, Action.EJECT)
            await told(agent)
            assert "in use by" in play.desktop.now[1].body
            play.disks.held = False
            play.desktop.chosen(1, Action.EJECT)
            await told(agent)
            assert screen(play) == ["Safe to unplug 'backup'"]

    run(main)
    assert drive.device.devnode not in play.udev.present


def test_the_log_of_what_failed_is_opened(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end(1)
            await agent.ended()
            await told(agent)
            play.desktop.chosen(1, Action.LOG)
            opened = await agent.started()
            (record,) = play.history()
            assert opened.program.argv == ("xdg-open", record.log)
            opened.end()

    run(main)


@pytest.mark.parametrize("switched_off", [True, False])
def test_without_a_desktop_backups_go_on_and_one_line_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, switched_off: bool
) -> None:
    caplog.set_level("INFO", "usbbackup")
    play = Play(tmp_path, a_job())
    play.config = replace_notify(play.config, Notify(desktop=not switched_off))
    play.desktop.absent = "there is no message bus"
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            await agent.ended()
            await told(agent)

    run(main)
    said = [record.message for record in caplog.records if "notifications" in record.message]
    assert said == ([] if switched_off else ["notifications cannot be shown: there is no message bus"])
    assert [record.outcome for record in play.history()] == [Outcome.SUCCESS]


def replace_notify(config: Config, notify: Notify, *drives: DriveConfig) -> Config:
    return Config(jobs=config.jobs, drives=drives or config.drives, notify=notify)


def test_no_good_backup_for_too_long_is_told_once_a_day_until_it_is_solved(
    tmp_path: Path,
) -> None:
    """Also across a restart of the agent; a good backup takes it back."""
    play = Play(tmp_path, a_job(every=DAY))
    play.config = replace_notify(play.config, Notify(stale_after=14 * DAY))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            play.clock.pass_by(14 * DAY - 5)
            await told(agent)
            assert screen(play) == []
            play.clock.pass_by(5)
            await told(agent)
            assert screen(play) == ["No good backup of script for 14 d"]
        play.desktop.now.clear()
        async with play.agent() as agent:
            await told(agent)
            assert screen(play) == []
            play.clock.pass_by(DAY)
            await told(agent)
            assert screen(play) == ["No good backup of script for 15 d"]
            drive.plug()
            (await agent.started()).end()
            await agent.ended()
            await told(agent)
            assert screen(play) == ["Backed up to 'backup'"]
            play.clock.pass_by(13 * DAY)
            await told(agent)

    run(main)
    assert [verdict for verdict, _ in play.reasons() if verdict == "stale"] == ["stale"] * 2


def test_a_drive_can_be_watched_by_itself_and_a_reload_takes_that_back(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    watched = replace_drive(BACKUP, stale_after=2 * DAY)
    play.config = replace_notify(play.config, Notify(), watched)
    play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            play.clock.pass_by(2 * DAY)
            await told(agent)
            assert screen(play) == ["No good backup on the drive 'backup' for 2 d"]
            play.config = replace_notify(play.config, Notify(), BACKUP)
            reload(play.world, play.world.registry.via(MONITOR))
            await told(agent)
            assert screen(play) == []

    run(main)


def replace_drive(drive: DriveConfig, **more: object) -> DriveConfig:
    return DriveConfig(name=drive.name, label=drive.label, **more)  # type: ignore[arg-type]


def test_a_notifier_that_is_started_again_knows_the_drives(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive(enrolled=False)

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await told(agent)
            exit(agent.pid("notifier"), "kill")
            await told(agent)
            assert play.desktop.told == ["Use 'backup' for backups?"] * 2

    run(main)
