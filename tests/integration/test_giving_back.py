"""Files come back with nothing but the drive and the command: no agent, and on another machine."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from trees import portrait

pytestmark = pytest.mark.root
PEOPLE = ["myself", "ordinary_user"]
PASSPHRASE = "a quiet evening by the sea"  # noqa: S105 - of a repository that lives for a minute


def backed_up(house, stick, *jobs, **options):
    """A drive with one snapshot of each job; nothing runs any more."""
    house.configure(*jobs)
    drive = stick(**options)
    drive.plug()
    drive.mount()
    house.done("drives", "enrol")
    house.done("start", "--wait")
    return drive


def both(house):
    secret = {"encryption": "repokey-blake2", "passcommand": ["echo", PASSPHRASE]}
    return house.job("rsync"), house.job("borg", **secret)


def somewhere(house, name):
    """A directory of this person's."""
    path = house.person.home / name
    path.mkdir()
    os.chown(path, *house.person.owner)
    return path


class Elsewhere:
    """Another machine, with another id and an empty home, to which somebody has brought the drive."""

    def __init__(self, house):
        self.house = house
        self.home = somewhere(house, "elsewhere")
        self.identity = house.write(self.home / "machine-id", "0123456789abcdef0123456789abcdef\n")
        entry = json.dumps(house.drive_entry())  # a loop device is not on USB
        job = '{"name": "mine", "engine": "command", "command": ["true"]}'
        config = self.home / ".config/usbbackup/config.yaml"
        house.write(config, f'{{"drives": [{entry}], "jobs": [{job}]}}')

    def done(self, *arguments, typed=()):
        """Run `usbbackup` there, which has to succeed; `typed` is what somebody answers at its terminal."""
        person = self.house.person
        inside = 'mount --bind "$1" /etc/machine-id && shift && exec "$@"'
        command = (
            *("setsid", "--ctty", "unshare", "--mount", "--propagation", "slave", "sh", "-c", inside, "sh"),
            self.identity,
            *person.command(person.code.python, "-m", "usbbackup", *arguments),
        )
        environment = self.house.environment | {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": f"{self.home}/.run",
        }
        master, slave = pty.openpty()
        ended = subprocess.Popen(
            command, env=environment, cwd="/", stdin=slave, stdout=slave, stderr=slave, text=True
        )
        os.close(slave)
        with os.fdopen(master, "r+b", buffering=0) as terminal:
            said = b"".join(self._conversation(terminal, list(typed))).decode(errors="replace")
        assert ended.wait(60) == 0, f"{arguments}: {said}"
        return said

    def _conversation(self, terminal, answers):
        """What is said, while each question for a passphrase gets its answer."""
        while True:
            try:
                said = terminal.read(1 << 16)
            except OSError:  # EIO: everybody has let go of the terminal (pty(7))
                return
            if not said:
                return
            yield said
            if b"Passphrase" in said:
                terminal.write(answers.pop(0).encode() + b"\n")


@pytest.mark.parametrize("house", PEOPLE, indirect=True)
def test_both_engines_give_back_what_was_there(house, stick):
    backed_up(house, stick, *both(house))
    before = portrait(house.documents)
    for job in ("rsync", "borg"):
        listed = house.json("ls", f"{job}@latest", str(house.documents))
        assert {Path(entry["path"]).name for entry in listed} >= {"letters", "empty", "run.sh"}
        to = somewhere(house, f"from {job}")
        told = house.json("restore", f"{job}@latest", "--to", to)
        assert told["kept"] == told["notes"] == []
        assert portrait(Path(f"{to}{house.documents}")) == before

    (house.documents / "letters/to grandmother/1.txt").unlink()
    (house.documents / "run.sh").write_text("spoilt")
    ended = house.cli("restore", "rsync@latest", "--in-place")
    assert ended.returncode == 1
    assert "run.sh" in ended.stderr
    told = house.json("restore", "borg@latest", house.documents, "--in-place", "--overwrite")
    assert told["replaced"] > 0
    assert portrait(house.documents) == before


def test_what_is_asked_for_in_other_words(house, stick):
    backed_up(house, stick, *both(house))
    error = house.refused("ls", "latest")
    assert error["code"] == 2
    assert "rsync@" in error["message"]
    assert "borg@" in error["message"]
    assert house.refused("ls", "rsync@2001-01-01T000000Z")["code"] == 2
    assert house.refused("ls", "nothing")["code"] == 2
    assert house.refused("ls", "rsync@latest", "/no/such/thing")["code"] == 2
    to = somewhere(house, "to")
    path = house.documents / "run.sh"
    told = house.json("restore", "--as-of", "2999-01-01", "--job", "rsync", path, "--to", to)
    assert told["restored"] > 0
    assert Path(f"{to}{path}").read_text() == path.read_text()
    assert house.refused("restore", "--as-of", "2001-01-01", "--job", "rsync", "--to", to)["code"] == 2


@pytest.mark.parametrize(
    ("house", "options"), [("myself", "rw"), ("ordinary_user", "ro")], indirect=["house"]
)
def test_another_machine_needs_the_drive_alone(house, stick, options):
    drive = backed_up(house, stick, *both(house))
    before = portrait(house.documents)
    drive.unmount()
    drive.mount(options=options)
    there = Elsewhere(house)
    there.done("drives", "enrol", "--read-only")
    held = written(drive)
    assert "rsync@" in there.done("snapshots", "--job", "rsync")
    for job in ("rsync", "borg"):
        to = somewhere(house, f"elsewhere/from {job}")
        there.done("restore", f"{job}@latest", "--to", to, typed=("wrong", PASSPHRASE))
        assert portrait(Path(f"{to}{house.documents}")) == before
    assert written(drive) == held


def written(drive):
    """What is on the drive, as far as writing to it would show."""
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in drive.mount_point.rglob("*")}


def test_differences_retention_and_proofs_are_told(house, stick):
    keep = {"keep": {"last": 2}, "verify": {"every": "1s", "sample": 5}}
    drive = backed_up(house, stick, house.job("rsync", **keep))
    (house.documents / "new.txt").write_text("new")
    house.done("start", "--wait")
    changed = house.json("diff", "latest")
    assert [(Path(one["path"]).name, one["change"]) for one in changed] == [("new.txt", "added")]
    (house.documents / "new.txt").unlink()
    house.configure(house.job("rsync", verify=keep["verify"]))
    house.done("start", "--wait")
    assert len(house.snapshots()) == 3

    house.configure(house.job("rsync", **keep))
    judged = house.json("prune", "--dry-run")
    assert [one["kept"] for one in judged] == [False, True, True]
    assert judged[-1]["reasons"] == ["last"]
    assert len(house.snapshots()) == 3
    house.done("prune")
    assert [one["snapshot"] for one in house.snapshots()] == [one["snapshot"] for one in judged[1:]]

    (job,) = house.json("status")["jobs"]
    assert job["drives"][0]["last_proven"] is not None
    (proof,) = house.json("verify")
    assert proof["flaws"] == []
    assert proof["files"] > 30
    held = Path(house.snapshots()[0]["path"] + str(house.documents / "note 7.txt"))
    found = held.stat()
    with held.open("r+b") as file:
        file.write(b"8")
    os.utime(held, ns=(found.st_atime_ns, found.st_mtime_ns))
    ended = house.cli("verify")
    assert ended.returncode == 1
    assert f"{house.documents}/note 7.txt is damaged" in ended.stderr
    assert all(one["snapshot"] in ended.stderr for one in house.snapshots())
    drive.unmount()
    assert house.refused("verify")["code"] == 75
    assert house.refused("prune")["code"] == 75


@pytest.mark.parametrize("engine", ["rsync", "borg"])
def test_pruning_makes_room_on_a_drive_that_is_full_to_the_last_byte(house, stick, engine):
    """borg has to write before it can remove: it gets the room that was kept for it."""
    drive = backed_up(house, stick, house.job(engine), size=8 << 30)
    house.done("start", "--wait")
    assert len(house.snapshots()) == 2
    house.configure(house.job(engine, keep={"last": 1}))
    drive.fill(with_names=False)
    house.done("prune")
    assert len(house.snapshots()) == 1


def told(house, *arguments):
    """What `find` answers, in an order of its own."""
    return sorted(house.json("find", *arguments), key=lambda answer: (answer["job"], answer["path"]))


def test_a_lost_list_is_made_anew_from_a_drive_and_says_which_one_to_plug_in(house, stick):
    blue = {"name": "blue", "label": f"{house.label}2", "bus": "any"}
    jobs, entries = both(house), [house.drive_entry(), blue]
    house.configure(*jobs, drives=entries)
    red = stick()
    red.plug()
    red.mount()
    house.done("drives", "enrol")
    house.done("start", "--wait")
    (house.documents / "note 7.txt").write_text("another version\n")
    (house.documents / "run.sh").unlink()
    house.done("start", "--wait")
    questions = ("note 7.txt", "run.sh", "*.txt", "grandmother/1.txt")
    known = [told(house, question) for question in questions]
    for changed, gone in zip(*known[:2], strict=True):
        assert changed["first"] == gone["first"] == gone["last"] != changed["version"]
        assert (changed["current"], gone["current"]) == (True, False)
    wanted = house.snapshots("rsync")[-1]["snapshot"]

    red.unmount()
    red.unplug()
    for path in house.history.parent.glob("catalogue.db*"):
        path.unlink()
    assert house.json("find", "run.sh") == []
    assert "known of" in house.done("find", "run.sh")
    assert house.refused("find", "--rebuild", "run.sh")["code"] == 75
    red.plug()
    red.mount()
    assert told(house, "--rebuild", questions[0]) == known[0]
    red.unmount()
    red.unplug()
    assert [told(house, question) for question in questions] == known

    other = stick(label=blue["label"])
    other.plug()
    other.mount()
    house.done("drives", "enrol")
    house.done("start", "--wait")
    assert {answer["label"] for answer in house.json("find", "note 7.txt")} == {
        house.label,
        blue["label"],
    }
    to = somewhere(house, "to")
    for order in (("restore", wanted, "--to", to), ("ls", wanted)):
        error = house.refused(*order)
        assert error["code"] == 75
        assert error["message"] == f"the snapshot {wanted} is on '{house.label}', which is not plugged in"
        assert error["hint"] == "plug it in, and run the same command again"
    red.plug()
    red.mount()
    house.done("restore", wanted, "--to", to)
