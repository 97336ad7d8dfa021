"""What can go wrong with the whole product: drives pulled, agents killed, drives full, sources doubtful."""

import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
from agent_process import alive, family, until
from trees import noise, portrait

pytestmark = pytest.mark.root
ENGINES = ["rsync", "borg"]
PEOPLE = ["myself", "ordinary_user"]
SIZE = {"rsync": 3_000_000, "borg": 20_000_000}  # seconds of work for each, when it is slow


def ready_drive(house, stick, **options):
    """A drive that is plugged in and enrolled, with nobody there yet to use it."""
    drive = stick(**options)
    drive.plug()
    drive.mount()
    house.done("drives", "enrol")
    return drive


def in_mid_run(house, stick, engine, **options):
    """Start an agent and wait until it copies; returns the drive and every process that was started."""
    noise(house.documents / "zz noise", SIZE[engine], house.person.owner)
    house.be_slow()
    house.configure(house.job(engine))
    drive = ready_drive(house, stick, **options)
    house.start()
    house.wait_for_transfer(engine)
    engines = family(house.agent.pid)
    assert engines
    return drive, engines


def outcomes(runs):
    return [run["outcome"] for run in runs]


def job_folder(drive, job):
    (folder,) = drive.mount_point.glob(f"usbbackup/*/*/{job}")
    return folder


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@contextmanager
def nothing_appears_in(directory):
    """The directory itself, whatever is mounted there meanwhile, stays empty at every moment."""
    directory.mkdir(exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        before = os.fstat(fd).st_mtime_ns  # changes with every name that comes or goes
        yield
        assert os.listdir(fd) == []  # noqa: PTH208 - pathlib knows no descriptors
        assert os.fstat(fd).st_mtime_ns == before
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("house", "engine", "fs_type"),
    [
        ("myself", "rsync", "ext4"),
        ("myself", "borg", "ext4"),
        ("myself", "rsync", "btrfs"),
        ("myself", "rsync", "xfs"),
        ("ordinary_user", "rsync", "ext4"),
        ("ordinary_user", "borg", "btrfs"),
    ],
    indirect=["house"],
)
def test_a_drive_that_is_pulled_during_a_run_is_completed_at_the_next_plug(
    house, stick, ground, engine, fs_type
):
    """And nothing is ever written to where it was mounted."""
    with nothing_appears_in(ground / "drive0.mounted"):
        drive, engines = in_mid_run(house, stick, engine, fs_type=fs_type)
        drive.pull()
        (run,) = house.wait_ended(1)
        assert (run["outcome"], run["snapshot"]) == ("interrupted", None)
        assert "unplugged" in run["message"] or "unmounted" in run["message"]
        assert not alive(engines)
        house.wait_for_drive("absent")
        house.be_quick()
        drive.plug()
        drive.mount()
        runs = house.wait_ended(2)
        assert outcomes(runs) == ["interrupted", "success"], house.done("history", runs[-1]["run"])
        (snapshot,) = house.snapshots()
        assert house.restored(snapshot) == portrait(house.documents)
        drive.unmount()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_agent_that_is_killed_leaves_no_engine_and_the_next_one_completes(house, stick, engine):
    _, engines = in_mid_run(house, stick, engine)
    house.agent.kill()
    until(lambda: not alive(engines), "the engines to end")
    house.be_quick()
    house.start()
    (run,) = house.runs()
    assert run["outcome"] == "interrupted"
    assert run["message"].startswith("the agent ended before the run did")  # and its engine, perhaps
    house.done("start", "--wait")
    assert outcomes(house.runs()) == ["interrupted", "success"]
    (snapshot,) = house.snapshots()
    assert house.restored(snapshot) == portrait(house.documents)


def test_what_a_stopped_agent_has_copied_is_used_by_the_next_run(house, stick):
    drive, engines = in_mid_run(house, stick, "rsync")
    folder, inside = job_folder(drive, "rsync"), house.documents.relative_to("/")
    until(lambda: [*folder.glob(f"incomplete-*/{inside}/note *.txt")], "something to be copied")
    assert house.agent.stop() == 0
    assert "STOPPING=1" in house.agent.told
    assert not alive(engines)
    (run,) = house.runs()
    assert (run["outcome"], run["message"]) == ("interrupted", "the agent was stopped")
    assert house.snapshots() == []
    (stage,) = [name for name in names(folder) if name.startswith("incomplete-")]
    assert stage.endswith(".synced")
    copied = {file.name: file.stat().st_ino for file in (folder / stage / inside).glob("note *.txt")}
    house.be_quick()
    house.done("start", "--wait")
    (snapshot,) = house.snapshots()
    assert house.restored(snapshot) == portrait(house.documents)
    assert not [name for name in names(folder) if name.startswith("incomplete-")]
    published = Path(snapshot["path"]) / inside
    assert copied
    assert {name: (published / name).stat().st_ino for name in copied} == copied


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_is_cancelled_ends_and_is_not_begun_again_by_itself(house, stick, engine):
    _, engines = in_mid_run(house, stick, engine)
    (running,) = house.json("status")["runs"]
    assert (running["job"], running["phase"]) == (engine, "transfer")
    assert house.drive()["state"] == "busy"
    assert house.json("cancel", engine)["cancelled"] == [running["run"]]
    (run,) = house.wait_ended(1)
    assert (run["run"], run["outcome"]) == (running["run"], "cancelled")
    assert not alive(engines)
    (job,) = house.json("status")["jobs"]
    assert job["drives"][0]["due"] is False
    house.be_quick()
    house.done("start", "--wait")
    assert outcomes(house.runs()) == ["cancelled", "success"]


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "the backup was ended; the next one goes on from there"),
        (signal.SIGTERM, 75, "told to stop"),
    ],
    ids=["INT", "TERM"],
)
def test_a_command_that_works_alone_ends_its_run_in_order_and_says_so(house, stick, number, code, said):
    noise(house.documents / "zz noise", SIZE["rsync"], house.person.owner)
    house.be_slow()
    house.configure(house.job("rsync"))
    ready_drive(house, stick)
    command = house.begun("start", "--wait")
    until(lambda: command.stdout.readline().startswith("rsync: copies, "), "the job to copy")
    engines = family(command.pid)
    command.send_signal(number)
    _, complained = command.communicate(timeout=60)
    assert (command.returncode, said in complained) == (code, True)
    assert engines
    assert not alive(engines)
    house.be_quick()
    house.done("start", "--wait")
    assert outcomes(house.runs()) == ["interrupted", "success"]
    (snapshot,) = house.snapshots()
    assert house.restored(snapshot) == portrait(house.documents)


def test_a_second_agent_names_the_first_and_ends(house):
    house.configure(house.job("rsync"))
    house.start()
    second = house.cli("daemon")
    assert second.returncode == 75
    assert f"another agent runs already, process {house.agent.pid}" in second.stderr


def test_a_full_drive_fails_the_run_and_keeps_earlier_snapshots(house, stick):
    """And when the source has become small enough, the next run is good again."""
    house.configure(house.job("rsync"), house.job("borg"))
    ready_drive(house, stick)
    house.done("start", "--wait")
    before = [(snapshot, house.restored(snapshot)) for snapshot in house.snapshots()]
    noise(house.documents / "zz noise", 60_000_000, house.person.owner)
    house.start()
    told = {"rsync": "is too small for this backup", "borg": "full"}  # borg finds out when it is there
    for engine in ENGINES:
        ended = house.cli("start", engine, "--wait")
        assert ended.returncode == 1, ended.stdout + ended.stderr
        assert told[engine] in house.runs()[-1]["message"]
    assert [(snapshot, house.restored(snapshot)) for snapshot in house.snapshots()] == before
    (house.documents / "zz noise").unlink()
    house.done("start", "--wait")
    assert outcomes(house.runs())[-2:] == ["success", "success"]


def test_a_doubtful_source_publishes_nothing_until_it_is_accepted(house, stick):
    """Missing, empty, or with half of its files gone."""
    house.configure(house.job("rsync"), house.job("borg"))
    ready_drive(house, stick)
    house.start()
    house.wait_ended(2)
    good = house.snapshots()
    elsewhere = house.person.home / "elsewhere"

    def refuses(why):
        ended = house.cli("start", "--wait")
        assert ended.returncode == 1
        assert "--accept-source" in ended.stdout
        for run in house.runs()[-2:]:
            assert run["outcome"] == "failed"
            assert why in run["message"]
        assert house.snapshots() == good

    house.documents.rename(elsewhere)
    refuses("is missing")
    house.documents.mkdir()
    refuses("holds no files")
    for note in sorted(elsewhere.glob("note *.txt"))[:10]:
        shutil.copy2(note, house.documents)
    refuses("last time it held")
    house.done("start", "--wait", "--accept-source")
    house.done("start", "--wait")  # this is now what it is compared with
    assert len(house.snapshots()) == len(good) + 4
    newest = house.snapshots("rsync")[-1]
    assert house.restored(newest) == portrait(house.documents)


@pytest.mark.parametrize("house", ["ordinary_user"], indirect=True)
def test_a_file_that_cannot_be_read_makes_a_good_backup_with_a_warning(house, stick):
    house.configure(house.job("rsync"), house.job("borg"))
    ready_drive(house, stick)
    secret = house.write(house.documents / "secret.txt", "of somebody else", 0o000)
    house.start()
    runs = house.wait_ended(2)
    house.done("start", "--wait")
    for run in runs:
        assert (run["outcome"], "1 could not be read" in run["message"]) == ("warning", True)
        assert "secret.txt" in house.done("history", run["run"])
    expected = portrait(house.documents)
    del expected[os.fsencode(secret.name)]
    assert all(house.restored(snapshot) == expected for snapshot in house.snapshots())
