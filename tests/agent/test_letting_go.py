"""Drives that nobody mounts are mounted; those whose work is done are made safe to unplug."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from demo.directory_drive import DirectoryDrive, directory_row
from tests.agent.played import Agent, Play, a_job, run
from usbbackup.agent.control import Control
from usbbackup.agent.tree import MONITOR
from usbbackup.config import DriveConfig, Unlock
from usbbackup.drives.mounts import MountRow
from usbbackup.drives.ready import Ejected, Waiting, Why
from usbbackup.errors import NotNowError, UsageError
from usbbackup.outcome import Outcome


def entry(**more: object) -> tuple[DriveConfig, ...]:
    return (DriveConfig(name="backup", label="backup", **more),)  # type: ignore[arg-type]


async def a_good_run(agent: Agent) -> None:
    (await agent.started()).end()
    await agent.ended()
    await agent.busy()


async def decision(agent: Agent) -> object:
    (sighting,) = (await agent.picture()).sightings
    return sighting.decision


def done_with(play: Play) -> list[tuple[str, str]]:
    words = ("mounted", "unlocked", "held", "kept", "safe")
    return [(verdict, reason) for verdict, reason in play.reasons() if verdict in words]


def test_a_drive_that_nobody_mounts_is_mounted_after_ten_seconds(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(9)
            await agent.busy()
            assert play.disks.asked == []
            play.clock.pass_by(1)
            await a_good_run(agent)

    run(main)
    assert play.disks.asked == ["mount"]
    assert [verdict for verdict, _ in done_with(play)] == ["mounted"]


@pytest.mark.parametrize(
    ("drives", "enrolled", "asked"),
    [
        (entry(mount="wait"), True, []),
        (entry(), False, []),  # a stranger
        (entry(trust="label"), False, ["mount"]),
    ],
)
def test_only_drives_that_may_be_used_are_mounted(
    tmp_path: Path, drives: tuple[DriveConfig, ...], enrolled: bool, asked: list[str]
) -> None:
    play = Play(tmp_path, a_job(), drives=drives)
    drive = play.a_drive(enrolled=enrolled)

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(60)
            await agent.busy()
            for running in list(play.programs.now):
                running.end()
            await agent.busy()

    run(main)
    assert play.disks.asked == asked


def test_a_drive_that_the_user_unmounts_stays_unmounted_until_it_is_plugged_in_anew(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await a_good_run(agent)
            drive.unmount()
            await agent.busy()
            play.clock.pass_by(3600)
            await agent.busy()
            assert play.disks.asked == []
            drive.pull()
            await agent.busy()
            drive.plug(mount=False)
            play.clock.pass_by(1)  # udev's news is gathered
            await agent.busy()
            play.clock.pass_by(10)
            await a_good_run(agent)

    run(main)
    assert play.disks.asked == ["mount"]


def a_stub(drive: DirectoryDrive) -> MountRow:
    """What waits at the mount point of a drive that is mounted on demand."""
    row = directory_row(drive.directory, drive.device)
    return replace(row, devnum=(0, 50), fs_type="autofs", source=b"systemd-1")


def mounting(drive: DirectoryDrive, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """What opening the stub does: whoever opens it waits until the drive is mounted."""

    def visit() -> None:
        mounted = threading.Event()
        loop.call_soon_threadsafe(lambda: (drive.mount(), mounted.set()))
        assert mounted.wait(20)

    return visit


def test_a_drive_that_is_mounted_on_demand_is_opened_once_for_each_stay(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry())
    drive = play.a_drive()
    play.mounts.put(a_stub(drive))

    async def main() -> None:
        play.mounts.on_visit = mounting(drive, asyncio.get_running_loop())
        async with play.agent() as agent:
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(10)
            await a_good_run(agent)
            drive.unmount()  # its time of being idle is over, or the user has unmounted it
            await agent.busy()
            play.clock.pass_by(3600)
            await agent.busy()
            assert len(play.mounts.visited) == 1
            drive.pull()
            await agent.busy()
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(10)
            await a_good_run(agent)

    run(main)
    assert play.mounts.visited == [os.fsencode(drive.directory)] * 2
    assert play.disks.asked == []
    assert [verdict for verdict, _ in done_with(play)] == ["mounted"] * 2


def test_a_mount_point_that_mounts_nothing_when_opened_is_the_reason_to_wait(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry())
    drive = play.a_drive()
    play.mounts.put(a_stub(drive))

    def refuse() -> None:
        raise OSError(errno.ENODEV, "No such device")

    play.mounts.on_visit = refuse

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(10)
            await agent.busy()
            waiting = await decision(agent)
            assert isinstance(waiting, Waiting)
            assert waiting.reason.endswith("did not mount the drive: No such device.")

    run(main)
    assert play.disks.asked == []


def test_where_another_drive_is_mounted_on_demand_now_udisks_is_asked(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry())
    drive = play.a_drive()
    play.mounts.put(a_stub(drive))

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(10)
            await a_good_run(agent)

    run(main)
    assert (len(play.mounts.visited), play.disks.asked) == (1, ["mount"])


@pytest.mark.parametrize(("mount", "enrolled"), [("wait", True), ("auto", False)])
def test_only_mount_points_of_drives_that_may_be_used_are_opened(
    tmp_path: Path, mount: str, enrolled: bool
) -> None:
    play = Play(tmp_path, a_job(), drives=entry(mount=mount))
    drive = play.a_drive(enrolled=enrolled)
    play.mounts.put(a_stub(drive))

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(60)
            await agent.busy()

    run(main)
    assert play.mounts.visited == []


def test_where_a_drive_was_mounted_is_remembered_when_it_leaves(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry())
    drive = play.a_drive()
    elsewhere = tmp_path / "elsewhere"
    drive.directory = drive.directory.rename(elsewhere)

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await a_good_run(agent)
            drive.pull()
            await agent.busy()

    run(main)
    (record,) = play.world.records.read().values()
    assert record.mount_point == str(elsewhere)


def test_what_keeps_a_drive_from_being_mounted_is_its_reason_to_wait(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive()
    play.disks.refuses = NotNowError("polkit does not allow it", "log in at the screen")

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(10)
            await agent.busy()
            waiting = await decision(agent)
            assert waiting == Waiting(Why.NOT_MOUNTED, "polkit does not allow it", "log in at the screen")
            drive.mount()
            await a_good_run(agent)
            drive.unmount()
            await agent.busy()
            waiting = await decision(agent)
            assert isinstance(waiting, Waiting)
            assert waiting.reason != "polkit does not allow it"

    run(main)
    assert ("waiting", "polkit does not allow it log in at the screen") in play.reasons()


def test_after_its_last_job_a_drive_is_unmounted_and_left_alone_by_the_next_agent_too(
    tmp_path: Path,
) -> None:
    play = Play(tmp_path, a_job("one"), a_job("two"), drives=entry(after="unmount"))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            await agent.ended()
            await agent.busy()
            assert play.disks.asked == []  # the second job runs
            await a_good_run(agent)
            assert play.disks.asked == ["unmount"]
            assert await decision(agent) == Ejected()
            play.clock.pass_by(3600)
            await agent.busy()
        async with play.agent() as agent:
            play.clock.pass_by(3600)
            await agent.busy()
            assert await decision(agent) == Ejected()
            drive.mount()  # by the user: then it is as any other
            await a_good_run(agent)
            await a_good_run(agent)

    run(main)
    assert play.disks.asked == ["unmount", "unmount"]
    assert done_with(play)[0] == ("safe", "It is unmounted and safe to unplug.")


def test_switched_off_means_that_udev_has_said_it_is_gone(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry(after="power-off"))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await a_good_run(agent)

    run(main)
    assert play.disks.asked == ["unmount", "power off"]
    assert done_with(play) == [("safe", "It is switched off and safe to unplug.")]
    assert play.udev.present == {}


def test_nothing_is_safe_to_unplug_before_the_kernel_says_that_it_is_gone(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry(after="power-off"))
    drive = play.a_drive()
    play.disks.leaves_late = True

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            await agent.ended()
            while "power off" not in play.disks.asked:
                await agent.quiet()
                await asyncio.sleep(0.001)
            await agent.quiet()
            assert done_with(play) == []
            drive.pull()
            await agent.busy()

    run(main)
    assert done_with(play) == [("safe", "It is switched off and safe to unplug.")]


def test_plugged_in_anew_an_ejected_drive_is_as_any_other(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry(after="unmount"))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await a_good_run(agent)
            assert await decision(agent) == Ejected()
            drive.pull()
            await agent.busy()
            drive.plug(mount=False)
            await agent.busy()
            play.clock.pass_by(10)
            await a_good_run(agent)

    run(main)
    assert play.disks.asked == ["unmount", "mount", "unmount"]


def test_one_job_that_is_tried_again_keeps_the_drive_for_all(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job("one"), a_job("two"), drives=entry(after="unmount"))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            (await agent.started()).end(1)
            await agent.ended()
            await agent.ended()
            await agent.busy()
            assert play.disks.asked == []
            play.clock.pass_by(15 * 60)
            await a_good_run(agent)

    run(main)
    assert play.disks.asked == ["unmount"]


def test_a_drive_without_a_switch_is_only_unmounted(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry(after="power-off"))
    drive = play.a_drive()
    play.disks.has_switch = False

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await a_good_run(agent)

    run(main)
    assert done_with(play) == [("safe", "It is unmounted and safe to unplug.")]


def test_a_drive_stays_for_what_is_tried_again_and_where_nothing_was_due(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(every=86400.0), drives=entry(after="unmount"))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end(1)
            await agent.ended()
            await agent.busy()
            assert play.disks.asked == []
            play.clock.pass_by(15 * 60)
            await a_good_run(agent)
            assert play.disks.asked == ["unmount"]
            drive.pull()
            await agent.busy()
            drive.plug()  # somebody wants a file back
            await agent.busy()
            play.clock.pass_by(60)
            await agent.busy()

    run(main)
    assert play.disks.asked == ["unmount"]


def test_a_busy_drive_is_told_of_once_and_let_go_of_when_it_is_free(tmp_path: Path) -> None:
    """The program that holds it is named: here it is this one."""
    play = Play(tmp_path, a_job(), drives=entry(after="unmount"))
    drive = play.a_drive()
    play.disks.held = True

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            with (drive.directory / "film.mkv").open("w"):
                await a_good_run(agent)
                play.clock.pass_by(5)
                await agent.busy()
                play.clock.pass_by(15)
                await agent.busy()
            assert not isinstance(await decision(agent), Ejected)
            play.disks.held = False
            play.clock.pass_by(30)
            await agent.busy()
            assert await decision(agent) == Ejected()

    run(main)
    assert play.disks.asked == ["unmount"] * 4
    assert [verdict for verdict, _ in done_with(play)] == ["held", "safe"]
    assert f"(process {play.world.pid})" in done_with(play)[0][1]


def test_nothing_is_safe_to_unplug_while_another_part_of_the_drive_is_mounted(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job(), drives=entry(after="power-off"))
    drive, other = play.a_drive(), play.a_drive("other", enrolled=False, label="music")

    async def main() -> None:
        async with play.agent() as agent:
            other.device = replace(other.device, disk=drive.device.disk)
            other.plug()
            drive.plug()
            await a_good_run(agent)

    run(main)
    assert play.disks.asked == ["unmount"]
    ((verdict, sentence),) = done_with(play)
    assert verdict == "kept"
    assert str(other.directory) in sentence


def test_ejected_by_hand_a_drive_is_safe_and_its_jobs_go_before(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive()
    play.disks.has_switch = False

    async def main() -> None:
        async with play.agent() as agent:
            control = Control(agent.world, agent.world.registry.via(MONITOR))
            drive.plug()
            running = await agent.started()
            with pytest.raises(NotNowError, match="job 'script' runs on the drive 'backup'"):
                await control.eject({"drive": "backup"})
            running.end()
            await agent.ended()
            answer = await control.eject({"drive": "backup"})
            assert answer["message"] == "It is unmounted and safe to unplug."
            assert answer["drive"]["state"] == "ejected"
            drive.pull()
            await agent.busy()
            with pytest.raises(NotNowError, match="not plugged in"):
                await control.eject({"drive": "backup"})
            with pytest.raises(UsageError):
                await control.eject({"drive": "nonsense"})

    run(main)


def test_a_drive_that_something_holds_is_not_ejected_and_not_marked_so(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    drive = play.a_drive()
    play.disks.held = True

    async def main() -> None:
        async with play.agent() as agent:
            control = Control(agent.world, agent.world.registry.via(MONITOR))
            drive.plug()
            await a_good_run(agent)
            with pytest.raises(NotNowError, match="in use by"):
                await control.eject({"drive": "backup"})

    run(main)
    (record,) = play.world.records.read().values()
    assert record.ejected is None


def locked(play: Play, outer: str) -> "tuple[object, object]":
    """A drive inside a container: what is plugged in before and after it is opened."""
    drive = play.a_drive(enrolled=False)
    container = replace(
        drive.device,
        devnode="/dev/container1",
        sys_name="container1",
        devnum=(241, 1),
        fs_uuid=outer,
        fs_label="backup",
        fs_type="crypto_LUKS",
        fs_usage="crypto",
        diskseq=77,
    )
    drive.device = replace(drive.device, luks_uuid=outer, slaves=("container1",), diskseq=77)
    return drive, container


def test_an_enrolled_container_is_opened_with_the_passcommand_and_closed_again(tmp_path: Path) -> None:
    """Once in one stay: what was closed again is safe to unplug, and not opened anew."""
    unlock = Unlock(passcommand=("secret-tool",))
    play = Play(tmp_path, a_job(), drives=entry(after="unmount", unlock=unlock))
    drive, container = locked(play, "0uter")
    play.enrol(drive)
    secrets = []

    def open_it(secret: bytes) -> None:
        secrets.append(secret)
        play.udev.put(replace(container, holders=(drive.device.sys_name,)))
        play.udev.put(drive.device)
        drive.mount()

    def close_it() -> None:
        play.udev.take(drive.device.devnode)
        play.udev.put(container)

    play.disks.opens, play.disks.closes = open_it, close_it

    async def main() -> None:
        async with play.agent() as agent:
            play.udev.put(container)
            await agent.busy()
            asked = await agent.started()
            assert asked.program.argv == ("secret-tool",)
            asked.say(b"hunter2\n")
            asked.end()
            await agent.busy()
            play.clock.pass_by(1)
            await a_good_run(agent)
            play.clock.pass_by(60)
            await agent.busy()
            assert isinstance(await decision(agent), Ejected)
            assert play.programs.now == []

    run(main)
    assert secrets == [b"hunter2"]
    assert play.disks.asked == ["unlock", "unmount", "lock"]
    assert "hunter2" not in repr(play.reasons())


def test_a_key_file_may_end_with_a_new_line(tmp_path: Path) -> None:
    """Of a passphrase the last new line is no part, of a key file it is."""
    unlock = Unlock(passcommand=("cat", "/key"))
    play = Play(tmp_path, a_job(), drives=entry(unlock=unlock))
    drive, container = locked(play, "0uter")
    play.enrol(drive)

    def open_it(secret: bytes) -> None:
        if secret != b"\x07\n":
            raise NotNowError("Wrong passphrase.")
        play.udev.put(replace(container, holders=(drive.device.sys_name,)))
        play.udev.put(drive.device)
        drive.mount()

    play.disks.opens = open_it

    async def main() -> None:
        async with play.agent() as agent:
            play.udev.put(container)
            await agent.busy()
            asked = await agent.started()
            asked.say(b"\x07\n")
            asked.end()
            await agent.busy()
            play.clock.pass_by(1)
            await a_good_run(agent)

    run(main)
    assert play.disks.asked == ["unlock", "unlock"]


def test_a_container_that_only_carries_the_label_is_never_tried(tmp_path: Path) -> None:
    unlock = Unlock(passcommand=("secret-tool",))
    play = Play(tmp_path, a_job(), drives=entry(unlock=unlock))
    drive, container = locked(play, "0uter")
    play.enrol(drive)

    async def main() -> None:
        async with play.agent() as agent:
            play.udev.put(replace(container, fs_uuid="an0ther"))
            await agent.busy()
            play.clock.pass_by(60)
            await agent.busy()
            assert play.programs.now == []

    run(main)
    assert play.disks.asked == []


def test_a_passcommand_that_gives_nothing_is_the_reason_to_wait(tmp_path: Path) -> None:
    unlock = Unlock(passcommand=("secret-tool",))
    play = Play(tmp_path, a_job(), drives=entry(unlock=unlock))
    drive, container = locked(play, "0uter")
    play.enrol(drive)

    async def main() -> None:
        async with play.agent() as agent:
            play.udev.put(container)
            await agent.busy()
            (await agent.started()).end(1)
            await agent.busy()
            waiting = await decision(agent)
            assert isinstance(waiting, Waiting)
            assert waiting.reason == "The drive is locked, and its passcommand ended with exit code 1."

    run(main)
    assert play.disks.asked == []


def test_without_the_desktop_backups_go_on(tmp_path: Path) -> None:
    """What fails too often is left out, and takes nothing else along."""
    from usbbackup.otp import exit

    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            for _ in range(4):
                exit(agent.pid("mounter"), "kill")
                await agent.busy()
            assert agent.world.registry.whereis("mounter") is None
            drive.plug()
            await a_good_run(agent)

    run(main)
    assert [record.outcome for record in play.history()] == [Outcome.SUCCESS]
