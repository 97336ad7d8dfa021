"""From plug to recorded outcome, with played drives, time and programs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from demo.directory_drive import DirectoryDrive
from tests.agent.played import Play, a_job, run
from usbbackup.agent import desk, status
from usbbackup.agent.dispatcher import CancelRuns, running
from usbbackup.agent.run import DISPATCHER
from usbbackup.config import DriveConfig, JobConfig
from usbbackup.drives.admit import Ready
from usbbackup.drives.monitor import LookAgain
from usbbackup.otp import call, cast, exit, which_children
from usbbackup.outcome import Outcome

HOUR, DAY = 3600.0, 86400.0


def outcomes(play: Play) -> list[Outcome | None]:
    return [record.outcome for record in play.history()]


def test_a_drive_that_is_plugged_in_gets_its_jobs_in_order(tmp_path: Path) -> None:
    """Two jobs, one worker: the second starts when the first has ended."""
    play = Play(tmp_path, a_job("one"), a_job("two"))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            first = await agent.started()
            assert first.job == "one"
            assert [running.job for running in play.programs.now] == ["one"]
            first.end()
            second = await agent.started()
            assert second.job == "two"
            second.end()
            assert (await agent.ended()).job == "one"
            assert (await agent.ended()).job == "two"

    run(main)
    assert [(r.job, r.outcome) for r in play.history()] == [("one", "success"), ("two", "success")]


def test_a_drive_that_was_there_at_start_counts_like_one_that_comes(tmp_path: Path) -> None:
    """Enumerated after subscribing, announced the same way."""
    play = Play(tmp_path, a_job())
    play.a_drive().plug()

    async def main() -> None:
        async with play.agent() as agent:
            (await agent.started()).end()
            assert (await agent.ended()).result is not None

    run(main)
    assert outcomes(play) == [Outcome.SUCCESS]


def test_a_stranger_gets_no_run_and_not_one_byte(tmp_path: Path) -> None:
    """A drive that only carries the label is refused, which is told; enrolled, it gets its run."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive(enrolled=False)

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await agent.settled()
            assert list(drive.directory.iterdir()) == []
            assert not play.programs.now
            play.enrol(drive)
            await agent.look_again()
            (await agent.started()).end()
            await agent.ended()

    run(main)
    assert play.reasons(drive=str(drive.device.fs_uuid))[0][0] == "refused"
    assert outcomes(play) == [Outcome.SUCCESS]


def test_trust_by_label_enrols_at_first_use(tmp_path: Path) -> None:
    """The configuration may say so."""
    play = Play(tmp_path, a_job(), drives=(DriveConfig(name="backup", label="backup", trust="label"),))
    drive = play.a_drive(enrolled=False)

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            await agent.ended()

    run(main)
    assert (drive.directory / "usbbackup/drive.json").exists()


def test_plug_unplug_plug_runs_twice(tmp_path: Path) -> None:
    """Without `every` a job runs once per attachment."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            for _ in range(2):
                drive.plug()
                (await agent.started()).end()
                await agent.ended()
                drive.pull()
                play.clock.pass_by(1)
                await agent.quiet()

    run(main)
    records = play.history()
    assert [record.outcome for record in records] == [Outcome.SUCCESS] * 2
    assert records[0].attachment != records[1].attachment


def test_a_restarted_agent_does_not_run_again_what_succeeded(tmp_path: Path) -> None:
    """The attachment is recognised."""
    play = Play(tmp_path, a_job())
    play.a_drive().plug()

    async def main() -> None:
        async with play.agent() as agent:
            (await agent.started()).end()
            await agent.ended()
        async with play.agent() as agent:
            await agent.settled()
            await agent.quiet()
            assert not play.programs.now

    run(main)
    assert len(play.history()) == 1


def test_a_drive_pulled_during_a_run_interrupts_it_and_the_next_plug_runs_again(tmp_path: Path) -> None:
    """The engine is ended, the outcome says why."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await agent.started()
            drive.pull()
            play.clock.pass_by(1)
            ended = await agent.ended()
            assert ended.result is not None
            assert ended.result.outcome is Outcome.INTERRUPTED
            assert not play.programs.now
            drive.plug()
            play.clock.pass_by(1)
            (await agent.started()).end()
            await agent.ended()

    run(main)
    assert outcomes(play) == [Outcome.INTERRUPTED, Outcome.SUCCESS]


def test_the_after_program_hears_that_the_drive_was_pulled(tmp_path: Path) -> None:
    """It always runs: what `before` has begun is to be ended."""
    play = Play(tmp_path, a_job(after=(("resume",),)))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await agent.started()
            drive.pull()
            play.clock.pass_by(1)
            after = await agent.started()
            assert after.program.env["USBBACKUP_OUTCOME"] == "interrupted"
            after.end()
            await agent.ended()

    run(main)
    assert outcomes(play) == [Outcome.INTERRUPTED]


def test_what_was_backed_up_stays_a_success_though_the_drive_leaves_before_the_run_has_ended(
    tmp_path: Path,
) -> None:
    """As while old snapshots are removed, or files are restored to be compared."""
    play = Play(tmp_path, a_job(after=(("resume",),)))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end()
            after = await agent.started()
            drive.pull()
            play.clock.pass_by(1)
            await agent.quiet()
            after.end()
            await agent.ended()

    run(main)
    assert outcomes(play) == [Outcome.SUCCESS]


@pytest.mark.parametrize(
    ("happens", "outcome", "told"),
    [
        (lambda drive: drive.pull(), Outcome.INTERRUPTED, "the drive 'backup' was unplugged"),
        (lambda drive: drive.unmount(), Outcome.INTERRUPTED, "the drive 'backup' was unmounted"),
        (
            lambda drive: drive.remount("ro"),
            Outcome.FAILED,
            "the drive 'backup' takes no more data: The drive is mounted read-only at ",
        ),
    ],
    ids=["pulled", "unmounted", "read-only"],
)
def test_the_history_tells_what_became_of_the_drive(
    tmp_path: Path, happens: Callable[[DirectoryDrive], None], outcome: Outcome, told: str
) -> None:
    """A drive that cannot be written to any more was not unplugged."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await agent.started()
            happens(drive)
            play.clock.pass_by(1)
            await agent.ended()

    run(main)
    (record,) = play.history()
    assert record.outcome is outcome
    assert record.message.startswith(told)


def test_a_drive_that_took_no_data_last_time_is_told_of_once(tmp_path: Path) -> None:
    """In `status` and `why`, at the next plug; then it has been well again."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive()
    uuid = str(drive.device.fs_uuid)
    notes: list[tuple[str, ...]] = []

    async def main() -> None:
        async with play.agent() as agent:
            for trouble in (False, True, False, False):
                drive.plug()
                play.clock.pass_by(1)
                (await agent.started()).end()
                await agent.ended()
                (sighting,) = (await agent.picture()).sightings
                assert isinstance(sighting.decision, Ready)
                notes.append(sighting.decision.notes)
                if trouble:
                    drive.remount("ro")
                    await agent.quiet()
                drive.pull()
                play.clock.pass_by(1)
                await agent.quiet()

    run(main)
    first, second, (told,), last = notes
    assert (first, second, last) == ((), (), ())
    assert told.startswith("Last time it took no data: The drive is mounted read-only at ")
    assert sum(told in reason for _, reason in play.reasons(drive=uuid)) == 1


def test_two_drives_work_side_by_side_and_fail_alone(tmp_path: Path) -> None:
    """One label, two drives, a pool each."""
    play = Play(tmp_path, a_job())
    drives = [play.a_drive("blue"), play.a_drive("red")]

    async def main() -> None:
        async with play.agent() as agent:
            for drive in drives:
                drive.plug()
            first, second = await agent.started(), await agent.started()
            assert len(play.programs.now) == 2
            first.end(1)
            second.end()
            await agent.ended()
            await agent.ended()

    run(main)
    assert sorted(map(str, outcomes(play))) == ["failed", "success"]


def test_a_job_with_every_runs_again_when_it_falls_due(tmp_path: Path) -> None:
    """While the drive stays attached, one timer waits for the next due job."""
    play = Play(tmp_path, a_job(every=DAY))
    play.a_drive().plug()

    async def main() -> None:
        async with play.agent() as agent:
            (await agent.started()).end()
            await agent.ended()
            assert len(play.clock.soon) == 1
            play.clock.pass_by(DAY - 60)
            await agent.quiet()
            assert not play.programs.now
            play.clock.pass_by(60)
            (await agent.started()).end()
            await agent.ended()

    run(main)
    assert outcomes(play) == [Outcome.SUCCESS] * 2


def test_a_failed_job_is_tried_again_after_15_minutes(tmp_path: Path) -> None:
    """In the same attachment; the decision and its reason are kept."""
    play = Play(tmp_path, a_job())
    play.a_drive().plug()

    async def main() -> None:
        async with play.agent() as agent:
            (await agent.started()).end(3)
            await agent.ended()
            play.clock.pass_by(15 * 60)
            (await agent.started()).end()
            await agent.ended()

    run(main)
    assert outcomes(play) == [Outcome.FAILED, Outcome.SUCCESS]
    assert ("due", "the last run failed; trying again") in play.reasons(job="script")


def test_a_restarted_dispatcher_leaves_a_running_job_alone(tmp_path: Path) -> None:
    """It hears of the drive again, finds the run in the registry and starts no second one."""
    play = Play(tmp_path, a_job())
    play.a_drive().plug()

    async def main() -> None:
        async with play.agent() as agent:
            running = await agent.started()
            dispatcher = agent.pid(DISPATCHER)
            exit(dispatcher, "kill")
            await dispatcher.join()
            await which_children(agent.root)  # answers when the restart is over
            await agent.settled()
            assert play.programs.now == [running]
            running.end()
            await agent.ended()
            assert not play.programs.now

    run(main)
    assert outcomes(play) == [Outcome.SUCCESS]


def test_a_cancelled_run_ends_and_waits_for_the_next_plug(tmp_path: Path) -> None:
    """Queued ones too: what the user did not want is not begun again at once."""
    play = Play(tmp_path, a_job("one"), a_job("two"))
    play.a_drive().plug()

    async def main() -> None:
        async with play.agent() as agent:
            await agent.started()
            cancelled = await call(agent.world.registry.via(DISPATCHER), CancelRuns(None), None)
            assert [order.job.name for order in cancelled] == ["one", "two"]
            await agent.ended()
            await agent.ended()
            assert not play.programs.now

    run(main)
    assert {(r.job, r.outcome) for r in play.history()} == {("one", "cancelled"), ("two", "cancelled")}


def test_a_run_that_is_asked_for_runs_though_nothing_is_due(tmp_path: Path) -> None:
    """And the one that runs already serves as well."""
    job = a_job(every=DAY)
    play = Play(tmp_path, job)
    drive = play.a_drive()
    drive.plug()

    async def main() -> None:
        async with play.agent() as agent:
            running = await agent.started()
            (present,) = await agent.wish(job, str(drive.device.fs_uuid))  # type: ignore[misc]
            running.end()
            assert (await agent.ended()).run == present.run
            (order,) = await agent.wish(job, str(drive.device.fs_uuid))  # type: ignore[misc]
            (await agent.started()).end()
            assert (await agent.ended()).run == order.run != present.run

    run(main)
    assert outcomes(play) == [Outcome.SUCCESS] * 2


def test_stopping_the_agent_ends_the_run_as_interrupted(tmp_path: Path) -> None:
    """SIGTERM ends runs in order; the history says what happened."""
    play = Play(tmp_path, a_job())
    play.a_drive().plug()

    async def main() -> None:
        async with play.agent() as agent:
            await agent.started()

    run(main)
    (record,) = play.history()
    assert record.outcome is Outcome.INTERRUPTED
    assert record.message == "the agent was stopped"


def test_an_overflow_of_udev_means_enumerating_again(tmp_path: Path) -> None:
    """A drive whose event was lost is found."""
    from usbbackup.drives.udev import Changed

    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            play.udev.present[drive.device.devnode] = drive.device  # nobody is told
            drive.mount()
            await agent.quiet()
            assert not play.programs.now
            play.udev.tell(Changed(overflow=True))
            play.clock.pass_by(1)
            (await agent.started()).end()
            await agent.ended()

    run(main)
    assert outcomes(play) == [Outcome.SUCCESS]


def test_a_locked_keyring_leaves_no_run_and_the_drive_waits(tmp_path: Path) -> None:
    """Nothing failed: it is tried again at the next plug, or when the user says so."""
    job = JobConfig(name="home", engine="borg", sources=(str(tmp_path),), passcommand=("keyring",))
    play = Play(tmp_path, job)
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            asked = await agent.started()
            assert asked.program.argv == ("keyring",)
            asked.end(1)
            ended = await agent.ended()
            assert ended.result is not None
            assert ended.result.outcome.exit_code == 75
            (shown,) = desk.drives(await agent.picture())
            assert shown["state"] == "waiting"
            assert str(shown["reason"]).startswith("waiting-for-secret: job 'home'")
            assert not play.programs.now
            await agent.wish(job, str(drive.device.fs_uuid))
            (await agent.started()).end(1)
            await agent.ended()
            drive.pull()
            play.clock.pass_by(1)
            await agent.quiet()
            drive.plug()
            play.clock.pass_by(1)
            (await agent.started()).end(1)
            await agent.ended()

    run(main)
    assert play.history() == []
    assert play.reasons(job="home")[-1][1].startswith("there is no passphrase")


def test_a_drive_that_is_tried_again_keeps_its_run(tmp_path: Path) -> None:
    """Enrolled anew in mid-run, it is proven anew; as it stays the same, so does what runs on it."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive()
    drive.plug()

    async def main() -> None:
        async with play.agent() as agent:
            running = await agent.started()
            play.clock.pass_by(1)
            play.enrol(drive)
            await agent.look_again()
            assert play.programs.now == [running]
            running.end()
            assert (await agent.ended()).result is not None

    run(main)
    assert outcomes(play) == [Outcome.SUCCESS]


def test_a_home_that_cannot_be_written_to_stops_no_backup_and_repeats_none(tmp_path: Path) -> None:
    """The history is kept in memory; what was done is not done again because it could not be written down."""
    job = a_job()
    play = Play(tmp_path, job, a_job("daily", every=DAY))
    drive = play.a_drive()
    play.paths.state.parent.parent.mkdir(parents=True, exist_ok=True)
    play.paths.state.parent.write_text("a file where a directory should be")

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            for _ in range(2):
                (await agent.started()).end()
            for _ in range(2):
                await agent.ended()
            assert not play.programs.now
            play.paths.state.parent.unlink()
            play.clock.pass_by(30)
            await agent.quiet()

    run(main)
    assert [(r.job, r.outcome) for r in play.history()] == [("script", "success"), ("daily", "success")]


def test_a_repository_that_is_noted_is_no_news_of_the_drive(tmp_path: Path) -> None:
    """What is written into the record of a drive while it is used does not make it be tried again."""
    play = Play(tmp_path)
    drive = play.a_drive()
    drive.plug()

    async def main() -> None:
        async with play.agent() as agent:
            await agent.settled()
            play.world.records.repository(str(drive.device.fs_uuid), "home", "f" * 64)
            cast(agent.pid("monitor"), LookAgain())
            await agent.quiet()
            assert [one["state"] for one in desk.drives(await agent.picture())] == ["ready"]

    run(main)


def test_status_doubts_a_job_that_the_drives_file_system_cannot_keep(tmp_path: Path) -> None:
    play = Play(tmp_path, JobConfig(name="home", engine="rsync", sources=(str(tmp_path),)))
    drive = play.a_drive()
    drive.device = replace(drive.device, fs_type="vfat")

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await agent.settled()
            picture = await agent.picture()
            (job,) = status.job_records(play.world.config, picture.sightings, picture.verdicts, {}, 0.0)
            assert "vfat, cannot keep snapshots" in job["drives"][0]["reason"]

    run(main)


def test_processes_that_cannot_be_ended_are_told(tmp_path: Path) -> None:
    """Whatever came of the run: they may keep the drive busy."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            (await agent.started()).end(-9, left=(4711, 4712))
            ended = await agent.ended()
            assert ended.result is not None
            assert ended.result.outcome is Outcome.FAILED
            assert ended.result.message.endswith(
                "; processes 4711, 4712 did not end, not even by SIGKILL: the drive hangs"
            )
            assert ended.result.hint == "unplug the drive, then they go; restart the computer if not"

    run(main)
    assert "4711, 4712" in str(play.history()[0].message)


def test_the_end_of_a_run_that_died_of_a_bug_is_told_too(tmp_path: Path) -> None:
    """Or who waits for it would wait for ever."""
    play = Play(tmp_path, a_job())
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            await agent.started()
            (order,) = running(agent.world)
            exit(agent.pid(order.key), ValueError("odd"))
            event = await agent.ended()
            assert (event.run, event.result and event.result.outcome) == (order.run, Outcome.FAILED)

    run(main)
