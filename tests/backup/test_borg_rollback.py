"""A borg repository that is older than last time, or not encrypted any more, with the real borg."""

import shutil
from pathlib import Path

import pytest

from tests.backup.runs import Place
from usbbackup.backup.borg import memory as borg_memory
from usbbackup.config import JobConfig
from usbbackup.outcome import Outcome, Phase, Result

pytestmark = pytest.mark.skipif(shutil.which("borg") is None, reason="borg is not installed")

PASSPHRASE = "correct horse battery staple"  # noqa: S105 - of a repository that lives for a second
KINDS = {
    "encrypted": {"encryption": "repokey-blake2", "passcommand": ("echo", PASSPHRASE)},
    "plain": {"encryption": "none"},
}


class Rolled:
    """A drive with one good snapshot, and what borg and the agent know of it."""

    def __init__(self, top: Path, kind: str) -> None:
        self.place = Place(top, job=JobConfig(name="home", engine="borg", **KINDS[kind]))
        (self.place.source / "file").write_text("first")
        self.known: list[str] = []
        self.first = self.run(repository=None)
        self.repository = self.place.job_folder / "borg"
        self.old = top / "old"
        shutil.copytree(self.repository, self.old)

    def run(self, **known) -> Result:
        known = {"repository": self.known[-1] if self.known else None} | known
        return self.place.run(on_repository=self.known.append, **known)

    def put_back(self) -> None:
        """Copy the repository back to what it was after the first run."""
        shutil.rmtree(self.repository)
        shutil.copytree(self.old, self.repository)

    def run_after_a_loss(self, **known) -> Result:
        """A second run, of which the drive then knows nothing any more, and a third."""
        (self.place.source / "file").write_text("second")
        assert self.run().outcome is Outcome.SUCCESS
        self.put_back()
        self.place.progress.clear()
        return self.run(**known)

    def segments(self, repository: Path) -> list[str]:
        return sorted(path.name for path in (repository / "data/0").iterdir())

    def memory(self) -> dict[str, bytes]:
        """All files that borg keeps at home, by name."""
        home = self.place.top / "home"
        return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}

    def security(self) -> Path:
        return self.place.top / "home/.config/borg/security" / self.known[-1]


@pytest.fixture(params=KINDS)
def rolled(request, tmp_path: Path) -> Rolled:
    return Rolled(tmp_path / "place", request.param)


@pytest.fixture
def encrypted(tmp_path: Path) -> Rolled:
    return Rolled(tmp_path / "place", "encrypted")


def test_what_a_cut_off_run_has_lost_is_checked_and_the_backup_goes_on(rolled):
    """The last good snapshot is still there: nothing that was finished is missing."""
    result = rolled.run_after_a_loss(last_ended_well=False, last_snapshot=rolled.first.snapshot)
    assert result.outcome is Outcome.SUCCESS
    (note,) = result.notes
    assert note.startswith("the borg repository was older than last time, because the last run did not end")
    assert any("--repository-only" in program.argv for program in rolled.place.programs.seen)
    assert result.sources[0].files == 1  # though the walk began twice
    assert rolled.run(last_ended_well=True, last_snapshot=result.snapshot).notes == ()


def test_what_borg_remembered_stays_beside_and_used_nonces_stay_used(encrypted):
    """A nonce that is used twice would give away what is encrypted with it."""
    (encrypted.place.source / "file").write_text("second")
    encrypted.run()
    before, newest = encrypted.memory(), encrypted.security() / "manifest-timestamp"
    remembered, nonce = newest.read_bytes(), int(newest.with_name("nonce").read_bytes(), 16)
    encrypted.put_back()
    assert encrypted.run(last_ended_well=False).outcome is Outcome.SUCCESS
    (aside,) = newest.parent.glob("manifest-timestamp.aside-*")
    assert aside.read_bytes() == remembered < newest.read_bytes()
    assert int(newest.with_name("nonce").read_bytes(), 16) >= nonce
    (cache,) = (encrypted.place.top / "home/.cache/usbbackup/borg").glob("*.aside-*")
    config = f".cache/usbbackup/borg/{encrypted.known[-1]}/config"
    assert (cache / "config").read_bytes() == before[config]


@pytest.mark.parametrize("ended_well", [True, None])
def test_after_a_run_that_ended_well_an_older_repository_is_refused(rolled, ended_well):
    """Also where nothing is known of earlier runs; and refused again, however often it is tried."""
    result = rolled.run_after_a_loss(last_ended_well=ended_well, last_snapshot=rolled.first.snapshot)
    assert result.outcome is Outcome.FAILED
    assert result.message == "the borg repository on the drive is older than last time"
    assert result.hint is not None
    assert result.hint.endswith("usbbackup drives enrol u-1")
    assert rolled.place.progress[-1].phase is Phase.STAGE  # it is no run that has written
    assert rolled.segments(rolled.repository) == rolled.segments(rolled.old)


def test_an_older_repository_that_lacks_the_last_good_snapshot_is_refused_whatever_happened_since(rolled):
    """A run that was cut off explains no loss of what had been finished before it."""
    missing = "home@2099-01-01T000000Z"
    rolled.run_after_a_loss(last_ended_well=False, last_snapshot=missing)
    before = rolled.memory()
    result = rolled.run(last_ended_well=False, last_snapshot=missing)
    assert result.message == "the borg repository on the drive is older than last time"
    assert rolled.memory() == before


def test_enrolling_the_drive_again_accepts_it(rolled):
    """Then no repository is known, and the one that is there is used from now on."""
    rolled.run_after_a_loss(last_ended_well=True, last_snapshot="home@2099-01-01T000000Z")
    rolled.known.clear()
    result = rolled.run(last_ended_well=True, last_snapshot="home@2099-01-01T000000Z")
    assert result.outcome is Outcome.SUCCESS
    assert len(rolled.known) == 1


def test_a_damaged_older_repository_is_not_gone_on_with(encrypted):
    """What borg remembers stays in force."""
    (encrypted.place.source / "file").write_text("second" * 1000)
    encrypted.run()
    encrypted.put_back()
    segment = max((encrypted.repository / "data/0").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    result = encrypted.run(last_ended_well=False)
    assert result.message == "the borg repository is damaged"
    assert not [name for name in encrypted.memory() if ".aside-" in name]


def test_an_unencrypted_repository_in_place_of_an_encrypted_one_gets_nothing(encrypted, tmp_path):
    """Even where it bears the right id and borg remembers nothing."""
    other = Rolled(tmp_path / "other", "plain")
    shutil.rmtree(encrypted.repository)
    shutil.copytree(other.repository, encrypted.repository)
    config = encrypted.repository / "config"
    config.chmod(0o600)
    config.write_text(config.read_text().replace(other.known[-1], encrypted.known[-1]))
    shutil.rmtree(encrypted.place.top / "home/.config")
    shutil.rmtree(encrypted.place.top / "home/.cache")
    before = list(encrypted.repository.rglob("*"))
    encrypted.place.programs.seen.clear()
    result = encrypted.run()
    assert result.outcome is Outcome.FAILED
    assert result.message.startswith("the borg repository on the drive holds no key: it is not encrypted")
    assert list(encrypted.repository.rglob("*")) == before
    assert not any(program.argv[0] == "borg" for program in encrypted.place.programs.seen)


def test_without_a_memory_there_is_nothing_to_set_aside(tmp_path):
    assert borg_memory.set_aside("0" * 64, tmp_path, tmp_path, "now") == []
