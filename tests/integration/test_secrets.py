"""A passphrase is nowhere to be seen: in no argument list, environment, file, log, history or answer."""

import os
import secrets
import subprocess
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest
from trees import noise

pytestmark = pytest.mark.root


class Watch:
    """Reads the arguments and the environment of every process, again and again, until it is stopped."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = Event()
        self._thread = Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.002):
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    with suppress(OSError):
                        self.seen.add((process / "cmdline").read_bytes())
                        self.seen.add((process / "environ").read_bytes())

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def files_with(secret: bytes, *places: Path) -> list[str]:
    """The files below these places that hold it."""
    command = ("grep", "-rlaF", "--devices=skip", os.fsdecode(secret), *places)
    found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    return found.stdout.splitlines()


@pytest.mark.parametrize("house", ["ordinary_user"], indirect=True)
def test_the_passphrase_of_a_whole_run_is_nowhere_to_be_seen(house, stick, ground):
    passphrase = secrets.token_hex(20).encode()
    vault = ground / "vault"  # where the passcommand has it from; alone to know it
    vault.mkdir()
    (vault / "passphrase").write_bytes(passphrase + b"\n")
    noise(house.documents / "large", 20_000_000, house.person.owner)
    job = house.job("borg", encryption="repokey-blake2", passcommand=["cat", str(vault / "passphrase")])
    house.configure(job)
    drive = stick()
    drive.plug()
    drive.mount()
    watch = Watch()
    try:
        house.done("drives", "enrol")
        house.start()
        (run,) = house.wait_ended(1)
        said = "".join(
            house.done(*command)
            for name in ("status", "drives", "history", "snapshots", "why")
            for command in ((name,), (name, "--json"))
        ) + house.done("history", run["run"])
    finally:
        watch.stop()
    assert run["outcome"] == "success", run
    for step in (b"borg\0init", b"borg\0create", b"borg\0info", b"BORG_PASSPHRASE_FD="):
        assert any(step in each for each in watch.seen), f"{step!r} was not looked at"
    assert [each for each in watch.seen if passphrase in each] == []
    assert passphrase.decode() not in said
    house.close()
    (vault / "passphrase").unlink()
    assert files_with(passphrase, ground) == []
    assert files_with(b"passcommand", ground) != []  # it does look
