"""A drive that is a directory, the machine it is plugged into, and the agent's records."""

from dataclasses import replace
from pathlib import Path

import pytest

from demo.directory_drive import DirectoryDrive, FakeLookups, FakeMountTable, FakeUdev
from usbbackup.config import DriveConfig
from usbbackup.drives.enrolment import enrol
from usbbackup.drives.host import Host
from usbbackup.drives.ready import decide
from usbbackup.drives.records import Records

NOW = 1_800_000_000.0


class Desk:
    """Everything that one drive, `backup`, needs to be judged, enrolled and held."""

    def __init__(self, tmp_path):
        self.udev, self.mounts, self.lookups = FakeUdev(), FakeMountTable(), FakeLookups()
        self.host = Host("0badcafe", "laptop", "david")
        self.records = Records(tmp_path / "data/drives.json")
        self.entry = DriveConfig(name="backup", label="backup")
        self.directory = tmp_path / "drive"
        self.directory.mkdir()
        self.drive = DirectoryDrive(self.udev, self.mounts, self.directory)
        self.drive.plug()
        self.top = self.directory / "usbbackup"
        self.folder = self.top / "laptop-0badcafe/david"

    def survey(self):
        rows, records = self.mounts.read(), self.records.read()
        return decide(self.udev.devices(), rows, records, [self.entry], self.lookups)

    def verdict(self):
        (only,) = self.survey()
        return only

    def enrol(self, **options):
        options = {"name": "backup", "now": NOW} | options
        return enrol(self.drive.device, self.drive.row, self.host, self.records, **options)

    def trust_labels(self):
        self.entry = DriveConfig(name="backup", label="backup", trust="label")

    def become(self, **changes):
        """Go on as another machine or user."""
        self.host = replace(self.host, **changes)


@pytest.fixture
def open_descriptors():
    """Ask which descriptors this process has open."""
    return lambda: {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)
