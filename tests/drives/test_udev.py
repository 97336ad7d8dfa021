"""Devices as udev's properties and sysfs describe them, and the reader of udev's socket."""

import asyncio
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usbbackup.drives.udev import Changed, Device, KernelUdev, _Reader, describe

STICK = {
    "DEVNAME": "/dev/sdb1",
    "DEVTYPE": "partition",
    "MAJOR": "8",
    "MINOR": "17",
    "DISKSEQ": "23",
    "ID_SERIAL": "SanDisk_Ultra_4C53-0:0",
    "ID_FS_TYPE": "ext4",
    "ID_FS_USAGE": "filesystem",
    "ID_FS_UUID": "8fa257d1-0000-4000-8000-000000000001",
    "ID_FS_LABEL": "backup",
    "ID_FS_LABEL_ENC": "backup",
}


class Sysfs:
    """A tree like /sys, made by hand."""

    def __init__(self, root):
        self.root = root
        self.bus = root / "bus"
        self.block = root / "class/block"
        for directory in (self.bus / "usb", self.bus / "pci", self.bus / "scsi", self.block):
            directory.mkdir(parents=True)

    def device(self, path, *, bus="pci", uevent="", **attributes):
        directory = self.root / path
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "subsystem").symlink_to(self.bus / bus)
        (directory / "uevent").write_text(uevent)
        return self.attributes(directory, attributes)

    def disk(self, path, size=2048, **attributes):
        directory = self.root / path
        (directory / "holders").mkdir(parents=True)
        (directory / "slaves").mkdir()
        (directory / "subsystem").symlink_to(self.block)
        return self.attributes(directory, {"size": size, "ro": 0} | attributes)

    def attributes(self, directory, values):
        for name, value in values.items():
            (directory / name).write_text(f"{value}\n")
        return directory

    def build(self, upper, *lower):
        for below in lower:
            (upper / "slaves" / below.name).symlink_to(below)
            (below / "holders" / upper.name).symlink_to(upper)


@pytest.fixture
def sysfs(tmp_path):
    return Sysfs(tmp_path / "sys")


@pytest.fixture
def stick(sysfs):
    """A stick with one partition in a USB port behind a hub."""
    sysfs.device("devices/pci0/usb1", bus="usb", uevent="DEVTYPE=usb_device\nBUSNUM=001\n")
    port = "devices/pci0/usb1/1-2"
    sysfs.device(port, bus="usb", uevent="MAJOR=189\nDEVTYPE=usb_device\n", serial="4C53")
    sysfs.device(f"{port}/1-2:1.0", bus="usb", uevent="DEVTYPE=usb_interface\n")
    sysfs.device(f"{port}/1-2:1.0/host6", bus="scsi")
    sysfs.disk(f"{port}/1-2:1.0/host6/block/sdb", size=4096, diskseq=23)
    return sysfs.disk(f"{port}/1-2:1.0/host6/block/sdb/sdb1", partition=1)


@pytest.fixture
def inner(sysfs):
    """A partition of the machine's own disk."""
    sysfs.device("devices/pci0/ata1", bus="pci")
    sysfs.disk("devices/pci0/ata1/block/sda", size=4096)
    return sysfs.disk("devices/pci0/ata1/block/sda/sda3", partition=3)


def test_a_partition_of_a_stick_is_described_whole(stick):
    assert describe(STICK, stick) == Device(
        devnode="/dev/sdb1",
        sys_name="sdb1",
        devnum=(8, 17),
        fs_uuid="8fa257d1-0000-4000-8000-000000000001",
        fs_label="backup",
        fs_type="ext4",
        fs_usage="filesystem",
        diskseq=23,
        serial="SanDisk_Ultra_4C53-0:0",
        usb=True,
        size=1 << 20,
        partition=True,
        disk="sdb",
    )


def test_a_file_system_on_a_whole_disk_is_described(stick):
    found = describe(STICK | {"DEVTYPE": "disk", "DEVNAME": "/dev/sdb"}, stick.parent)
    assert (found.sys_name, found.disk, found.partition, found.usb) == ("sdb", "sdb", False, True)


def test_a_disk_of_the_machine_is_not_on_usb(inner):
    assert not describe(STICK, inner).usb


def test_a_sata_disk_in_a_usb_case_is_on_usb_whatever_its_bus_is_called(stick):
    assert describe(STICK | {"ID_BUS": "ata"}, stick).usb


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_mapped_device_is_on_usb_where_what_it_is_built_on_is(sysfs, stick, layers):
    lower = stick
    for number in range(layers):
        upper = sysfs.disk(f"devices/virtual/block/dm-{number}", dm=1, diskseq=100 + number)
        sysfs.build(upper, lower)
        lower = upper
    found = describe(STICK | {"DEVTYPE": "disk", "ID_SERIAL": "", "DISKSEQ": "199"}, lower)
    assert found.usb
    assert found.diskseq == 23  # opened again it is the same stay of the same disk
    assert found.serial == "4C53"
    assert found.slaves == (("sdb1", "dm-0", "dm-1")[layers - 1],)
    assert found.disk == lower.name


@pytest.mark.parametrize(
    ("name", "outer"),
    [
        ("CRYPT-LUKS2-6f1c2d9e6f2b4a0e9a553c3f0a6b7d11-luks-x", "6f1c2d9e-6f2b-4a0e-9a55-3c3f0a6b7d11"),
        ("CRYPT-LUKS1-6f1c2d9e6f2b4a0e9a553c3f0a6b7d11-x", "6f1c2d9e-6f2b-4a0e-9a55-3c3f0a6b7d11"),
        ("LVM-6f1c2d9e6f2b4a0e9a553c3f0a6b7d11-x", None),
        ("CRYPT-PLAIN-x", None),
    ],
)
def test_what_is_inside_an_open_container_knows_its_uuid(sysfs, stick, name, outer):
    mapped = sysfs.disk("devices/virtual/block/dm-7")
    (mapped / "dm").mkdir()
    (mapped / "dm/uuid").write_text(f"{name}\n")
    found = describe(STICK | {"DEVTYPE": "disk", "DEVNAME": "/dev/dm-7"}, mapped)
    assert found.luks_uuid == outer


def test_a_mapped_device_of_the_machines_own_disk_is_not_on_usb(sysfs, inner, stick):
    upper = sysfs.disk("devices/virtual/block/dm-0")
    sysfs.build(upper, inner)
    assert not describe(STICK | {"DEVTYPE": "disk"}, upper).usb


def test_mapped_devices_in_a_circle_are_not_followed_for_ever(sysfs):
    one = sysfs.disk("devices/virtual/block/dm-0")
    two = sysfs.disk("devices/virtual/block/dm-1")
    sysfs.build(one, two)
    sysfs.build(two, one)
    assert not describe(STICK | {"DEVTYPE": "disk"}, one).usb


def test_a_luks_container_is_no_file_system_though_it_has_a_label(stick):
    found = describe(STICK | {"ID_FS_TYPE": "crypto_LUKS", "ID_FS_USAGE": "crypto"}, stick)
    assert found.fs_label == "backup"
    assert not found.file_system


def test_a_device_that_udev_has_not_finished_is_no_file_system_yet(stick):
    assert not describe(STICK, stick, initialized=False).file_system


def test_the_number_of_the_disk_is_found_where_udev_does_not_give_it(stick):
    without = {key: value for key, value in STICK.items() if key != "DISKSEQ"}
    assert describe(without, stick).diskseq == 23


def test_a_write_protected_stick_is_known(sysfs, stick):
    sysfs.attributes(stick, {"ro": 1})
    assert describe(STICK, stick).read_only


@pytest.mark.parametrize(
    ("encoded", "label"),
    [
        ("backup", "backup"),
        (r"my\x20drive", "my drive"),
        (r"a\x22b\x27c", "a\"b'c"),
        (r"back\x5cslash", r"back\slash"),
        (r"\x5cx20", r"\x20"),
        (r"line\x0aend\x1b[31m", "line\nend\x1b[31m"),
        ("Größe", "Größe"),
        (r"caf\xc3\xa9", "café"),
        (r"latin\xe9", r"latin\xe9"),  # no UTF-8: it stays spelled out
        ("", None),
    ],
)
def test_labels_are_decoded(stick, encoded, label):
    assert describe(STICK | {"ID_FS_LABEL_ENC": encoded, "ID_FS_LABEL": ""}, stick).fs_label == label


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from([*STICK, "DISKSEQ", "ID_FS_LABEL_ENC", "ID_FS_UUID_ENC"]), st.text()))
def test_no_property_is_too_strange(stick, strange):
    """They come from the drive itself, by way of udev's programs."""
    found = describe(STICK | strange, stick)
    assert found is None or found.devnode == (STICK | strange)["DEVNAME"]


def test_an_empty_slot_is_no_device(sysfs):
    assert describe(STICK, sysfs.disk("devices/virtual/block/loop7", size=0)) is None


def test_a_device_that_leaves_while_it_is_looked_at_is_no_device(tmp_path):
    assert describe(STICK, tmp_path / "gone") is None


@pytest.mark.parametrize("name", ["DEVNAME", "MAJOR", "MINOR"])
def test_a_device_without_node_is_no_device(stick, name):
    assert describe({key: value for key, value in STICK.items() if key != name}, stick) is None


class Event:
    def __init__(self, action, device_node):
        self.action, self.device_node = action, device_node


class Monitor:
    """Like pyudev's: a descriptor that is readable while events wait; an error may wait among them."""

    def __init__(self, *events):
        self.ours, self.theirs = socket.socketpair()
        self.events = list(events)
        self.bell()

    def bell(self):
        if self.events:
            self.theirs.send(b"!")

    def fileno(self):
        return self.ours.fileno()

    def poll(self, timeout):
        assert timeout == 0
        if not self.events:
            return None
        event = self.events.pop(0)
        if not self.events:
            self.ours.recv(100)
        if isinstance(event, Exception):
            raise event
        return event

    def close(self):
        self.ours.close()
        self.theirs.close()


def heard(*monitors, rounds=10):
    """What a reader tells that is given these monitors in turn; an exception refuses to connect."""
    told = []
    waiting = list(monitors)

    def connect():
        monitor = waiting.pop(0)
        if isinstance(monitor, Exception):
            raise monitor
        return monitor

    async def main():
        reader = _Reader(connect, told.append)
        for _ in range(rounds):
            await asyncio.sleep(0)
        reader.close()
        reader.close()

    asyncio.run(main())
    for monitor in monitors:
        if isinstance(monitor, Monitor):
            monitor.close()
    return told


def test_one_wake_up_tells_all_that_waits():
    events = [Event("add", "/dev/sdb"), Event("change", "/dev/sdb1"), Event("remove", "/dev/sdc")]
    assert heard(Monitor(*events)) == [
        Changed(devnodes=frozenset({"/dev/sdb", "/dev/sdb1"}), removed=frozenset({"/dev/sdc"}))
    ]


def test_a_burst_of_ten_thousand_events_loses_nothing_and_lets_others_work():
    told = heard(Monitor(*(Event("change", f"/dev/sd{number}") for number in range(10_000))), rounds=60)
    assert len(set().union(*(changed.devnodes for changed in told))) == 10_000
    assert max(len(changed.devnodes) for changed in told) <= 500
    assert not any(changed.overflow for changed in told)


def test_an_overflow_means_enumerate_again_and_later_events_still_come():
    full = Monitor(
        Event("add", "/dev/sdb"), OSError(105, "No buffer space available"), Event("add", "/dev/sdc")
    )
    told = heard(full, Monitor(Event("add", "/dev/sdd")))
    assert told == [Changed(overflow=True), Changed(devnodes=frozenset({"/dev/sdd"}))]


def test_a_socket_that_cannot_be_opened_again_is_told_not_hidden():
    broken = Monitor(OSError("Error while polling fd"))
    assert heard(broken, OSError(24, "Too many open files")) == [Changed(overflow=True, ended=True)]


def test_a_watch_gives_its_descriptor_back(open_descriptors):
    async def main():
        udev = KernelUdev()
        before = open_descriptors()
        watch = udev.watch(lambda _changed: None)
        assert len(open_descriptors()) == len(before) + 1
        watch.cancel()
        watch.cancel()
        assert open_descriptors() == before

    asyncio.run(main())


def test_the_devices_of_this_machine_can_be_listed_without_privilege():
    for device in KernelUdev().devices():
        assert device.devnode.startswith("/dev/")
        assert device.size
