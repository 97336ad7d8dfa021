"""What david does and sees in one test: his configuration, his sticks, and the runs since the test began."""

import json
from pathlib import Path
from typing import Any

from tests.usb.machine import UsbMachine, until
from tests.usb.stick import Stick
from usbbackup.agent.messages import OF_OUTCOME, Message
from usbbackup.outcome import Outcome

DOCUMENTS = "/home/david/documents"
COPY = {"name": "home", "engine": "rsync", "sources": [DOCUMENTS]}
MIRROR = {**COPY, "layout": "mirror"}
SCRIPT = {"name": "script", "engine": "command", "command": ["sh", "-c", "date > backed-up.txt"]}

Run = dict[str, Any]
_OUTCOMES = {message for _, message in OF_OUTCOME.values()}


class Desk:
    """One test's; `clear` takes everything away again."""

    def __init__(self, machine: UsbMachine, place: Path) -> None:
        self.machine, self._place = machine, place
        self._before = self._ends()
        self._plugged: list[Stick] = []

    def configure(self, *jobs: dict[str, Any], **drive: Any) -> None:
        """Another configuration, which the agent takes."""
        config = {"drives": [{"name": "backup", "label": "backup", **drive}], "jobs": jobs}
        self.machine.write("/home/david/.config/usbbackup/config.yaml", json.dumps(config))
        taken = self.machine.david("usbbackup", "reload")
        assert taken.returncode == 0, taken.stderr

    def stick(self, name: str, fs_type: str = "ext4", *, owner: int = 1000) -> Stick:
        """A new one, which lies on the desk."""
        return Stick(self._place / f"{name}.usb", fs_type, owner=owner)

    def plug(self, stick: Stick, *, slow: bool = False, hub: bool = False) -> str:
        """Plug it in; returns its device node once udev knows it."""
        self.machine.plug(stick, slow=slow, hub=hub)
        self._plugged.append(stick)
        link = f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_SER{stick.name}-0:0"
        return until(
            lambda: self.machine.root("readlink", "-e", link).stdout.strip(), f"udev to know {stick.name}"
        )

    def pull(self, stick: Stick) -> None:
        """Pull it out."""
        self._plugged.remove(stick)
        self.machine.pull(stick)

    def mount(self, device: str) -> str:
        """Mount it as a file manager does; returns where."""
        mount = ("udisksctl", "mount", "--no-user-interaction", "-b", device)
        until(lambda: "Mounted" in self.machine.david(*mount).stdout, f"the mount of {device}")
        return self.machine.done("findmnt", "-n", "-o", "TARGET", device).strip()

    def enrol(self, stick: Stick) -> str:
        """Plug it in, mount it and enrol it by hand, as one does once; what is told then."""
        device = self.plug(stick)
        where = self.mount(device)
        if stick.fs_type == "btrfs":  # its top directory is root's, as mkfs makes it
            self.machine.done("chown", "david:", where)
        return self.enrol_mounted(device)

    def enrol_mounted(self, device: str) -> str:
        """Enrol what is mounted already; what is told then, in one line."""
        enrolled = self.machine.david("usbbackup", "drives", "enrol", device)
        assert enrolled.returncode == 0, enrolled.stderr
        return " ".join(enrolled.stdout.split())

    def runs(self) -> list[Run]:
        """Of this test; oldest first."""
        known = self.machine.usbbackup("history", "--limit=1000")
        return list(reversed(known))[self._before :]

    def ended(self, *outcomes: str) -> list[Run]:
        """The runs of this test, once so many have ended: as was expected, and as the journal tells."""

        runs = self.settled(len(outcomes))
        told = [(run["outcome"], run["message"]) for run in runs]
        assert [outcome for outcome, _ in told] == list(outcomes), told
        for run in runs:
            assert self._journal(run) == {Message.RUN_BEGINS, OF_OUTCOME[Outcome(run["outcome"])][1]}
        return runs

    def settled(self, count: int) -> list[Run]:
        """The runs of this test, once so many have ended."""

        def in_the_history() -> list[Run]:
            runs = [run for run in self.runs() if run["outcome"] is not None]
            return runs if len(runs) >= count else []

        until(lambda: self._ends() - self._before >= count, f"{count} runs")
        return until(in_the_history, f"{count} runs in the history")

    def _ends(self) -> int:
        """How many runs have ended, as the journal tells: to ask it is cheap."""
        kinds = (f"MESSAGE_ID={kind}" for kind in _OUTCOMES)
        return len(self.machine.root("journalctl", "-o", "json", *kinds).stdout.splitlines())

    def _journal(self, run: Run) -> set[str]:
        """What kinds of entries the journal has of a run, but for what its engine said."""
        said = self.machine.done("journalctl", "-o", "json", f"USBBACKUP_RUN={run['run']}")
        kinds = {json.loads(line).get("MESSAGE_ID") for line in said.splitlines()}
        return kinds & {Message.RUN_BEGINS, *_OUTCOMES}

    def running(self, count: int = 1) -> None:
        """Until so many runs are copying at the same time."""

        def copying() -> bool:
            runs = self.machine.status()["runs"]
            return [run["phase"] for run in runs].count("transfer") >= count

        until(copying, f"{count} to copy")

    def drive(self, state: str) -> dict[str, Any]:
        """The drive that is in this state, once one is."""
        return until(
            lambda: next((one for one in self.machine.status()["drives"] if one["state"] == state), {}),
            f"a drive that is {state}",
        )

    def absent(self) -> None:
        """Until no drive is seen any more."""
        until(
            lambda: {one["state"] for one in self.machine.status()["drives"]} == {"absent"},
            "every drive to be gone",
        )

    def same_files(self, snapshot: str) -> None:
        """In a directory on a drive are the documents as they are here."""
        self.machine.done("diff", "-r", f"{snapshot}{DOCUMENTS}", DOCUMENTS)

    def clear(self) -> None:
        """Nothing is plugged in any more. What is enrolled stays so: no two sticks are the same."""
        for stick in list(self._plugged):
            self.pull(stick)
        self.absent()
