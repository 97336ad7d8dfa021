"""What udev says about block devices: those that are there, and news of those that come, change and go.

udev tells of devices, never of mounts; and it may lose news, in which case it says so.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from usbbackup.drives.watch import Watch

_RECEIVE_BUFFER = 16 << 20  # bytes; the kernel grants it to root, others keep its default of about 200 kB
_AT_ONCE = 500  # events taken before the event loop gets its turn
_SECTOR = 512  # sysfs counts in these, whatever the disk does
_PROPERTIES = (
    *("DEVNAME", "DEVTYPE", "MAJOR", "MINOR", "DISKSEQ", "ID_SERIAL", "ID_FS_TYPE", "ID_FS_USAGE"),
    *("ID_FS_UUID", "ID_FS_UUID_ENC", "ID_FS_UUID_SUB", "ID_FS_LABEL", "ID_FS_LABEL_ENC"),
)


@dataclass(frozen=True, slots=True)
class Device:
    """A block device as udev knows it: a whole disk, a partition, or one made of others (LUKS, LVM)."""

    devnode: str  # /dev/sdb1
    sys_name: str  # sdb1
    devnum: tuple[int, int]
    fs_uuid: str | None = None
    fs_uuid_sub: str | None = None  # the one device of a btrfs of several
    fs_label: str | None = None
    fs_type: str | None = None
    fs_usage: str | None = None  # filesystem, crypto, raid, other
    diskseq: int | None = None  # of the disk that was plugged in: counts up with every one since boot
    serial: str | None = None
    usb: bool = False
    size: int | None = None  # bytes
    initialized: bool = True  # has udev finished with it?
    read_only: bool = False
    partition: bool = False
    disk: str | None = None  # sys_name of the whole disk; of itself where it is one
    holders: tuple[str, ...] = ()  # sys_names of what is built on it
    slaves: tuple[str, ...] = ()  # sys_names of what it is built on
    luks_uuid: str | None = None  # of the container that it is the inside of

    @property
    def file_system(self) -> bool:
        """Can it be mounted? A LUKS container, though it may carry a label, cannot."""
        return self.initialized and self.fs_usage == "filesystem"


@dataclass(frozen=True)
class Changed:
    """What a moment brought. Whoever hears it may enumerate again, and must where news was lost."""

    devnodes: frozenset[str] = frozenset()  # came or changed
    removed: frozenset[str] = frozenset()
    overflow: bool = False  # news was lost
    ended: bool = False  # there will be no more news: watch anew


class Udev(Protocol):
    """Where block devices are looked up; udev, or a test."""

    def devices(self) -> Sequence[Device]:
        """Every block device that is there now and holds anything."""
        ...

    def watch(self, callback: Callable[[Changed], None]) -> Watch:
        """Call back on the event loop with what changed. Watch first, then enumerate."""
        ...


def describe(properties: Mapping[str, str], sys_path: Path, *, initialized: bool = True) -> Device | None:
    """A device from udev's properties and its directory in sysfs; None where it is going or an empty slot."""
    try:
        size = int((sys_path / "size").read_text()) * _SECTOR
        devnode = properties["DEVNAME"]
        devnum = int(properties["MAJOR"]), int(properties["MINOR"])
    except (OSError, KeyError, ValueError):
        return None
    if size == 0:
        return None
    partition = properties.get("DEVTYPE") == "partition"
    disk = sys_path.parent if partition else sys_path
    disks = (disk, *_slaves(disk))
    usb = next(filter(None, map(_usb_device, disks)), None)
    return Device(
        devnode=devnode,
        sys_name=sys_path.name,
        devnum=devnum,
        fs_uuid=_plain(properties.get("ID_FS_UUID_ENC") or properties.get("ID_FS_UUID")),
        fs_uuid_sub=properties.get("ID_FS_UUID_SUB"),
        fs_label=_plain(properties.get("ID_FS_LABEL_ENC") or properties.get("ID_FS_LABEL")),
        fs_type=properties.get("ID_FS_TYPE"),
        fs_usage=properties.get("ID_FS_USAGE"),
        diskseq=_number(_attribute(disks[-1], "diskseq")) or _number(properties.get("DISKSEQ")),
        serial=properties.get("ID_SERIAL") or (usb and _attribute(usb, "serial")) or None,
        usb=usb is not None,
        size=size,
        initialized=initialized,
        read_only=_attribute(sys_path, "ro") == "1",
        partition=partition,
        disk=disk.name,
        holders=_names(sys_path / "holders"),
        slaves=_names(sys_path / "slaves"),
        luks_uuid=_luks_uuid(_attribute(disk / "dm", "uuid")),
    )


def _luks_uuid(name: str | None) -> str | None:
    """The UUID in what cryptsetup calls an open container: CRYPT-LUKS2-<32 hex digits>-<name>.

    >>> _luks_uuid("CRYPT-LUKS2-6f1c2d9e6f2b4a0e9a553c3f0a6b7d11-luks")
    '6f1c2d9e-6f2b-4a0e-9a55-3c3f0a6b7d11'
    """
    found = re.match(
        r"CRYPT-LUKS\d-([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})-", name or ""
    )
    return "-".join(found.groups()) if found else None


def _plain(encoded: str | None) -> str | None:
    r"""Undo udev's `\x20`; what is no UTF-8 then stays spelled out."""
    if encoded is None or "\\x" not in encoded:
        return encoded or None
    raw = re.sub(
        rb"\\x([0-9a-fA-F]{2})",
        lambda found: bytes([int(found[1], 16)]),
        encoded.encode("utf-8", "surrogateescape"),
    )
    return raw.decode("utf-8", "backslashreplace")


def _slaves(disk: Path, depth: int = 8) -> Iterator[Path]:
    """The whole disks that a device is built on, through any number of layers (device mapper, md)."""
    for name in _names(disk / "slaves") if depth else ():
        below = (disk / "slaves" / name).resolve()
        if (below / "partition").exists():
            below = below.parent
        yield below
        yield from _slaves(below, depth - 1)


def _usb_device(disk: Path) -> Path | None:
    """The USB device above it. ID_BUS does not tell: SATA disks in USB cases say `ata` there."""
    for above in disk.parents:
        try:
            subsystem = (above / "subsystem").readlink().name
        except OSError:
            continue
        if subsystem == "usb" and "DEVTYPE=usb_device" in (_attribute(above, "uevent") or ""):
            return above
    return None


def _attribute(directory: Path, name: str) -> str | None:
    try:
        return (directory / name).read_text(errors="replace").strip()
    except OSError:
        return None


def _names(directory: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(path.name for path in directory.iterdir()))
    except OSError:
        return ()


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


class KernelUdev:
    """The udev of this machine, through libudev, without privilege and without a thread."""

    def __init__(self) -> None:
        import pyudev  # not above: commands that ask a running agent start faster without it

        self._pyudev: Any = pyudev
        self._context = pyudev.Context()

    def devices(self) -> list[Device]:
        """Every block device that is there now and holds anything."""
        found = (self._described(raw) for raw in self._context.list_devices(subsystem="block"))
        return [device for device in found if device is not None]

    def _described(self, raw: Any) -> Device | None:
        properties = {}
        for name in _PROPERTIES:
            with suppress(KeyError, UnicodeDecodeError):  # a strange property is no reason to miss a device
                properties[name] = raw.properties[name]
        return describe(properties, Path(raw.sys_path), initialized=raw.is_initialized)

    def watch(self, callback: Callable[[Changed], None]) -> Watch:
        """Call back on the running event loop with what changed."""
        return Watch(_Reader(self._monitor, callback).close)

    def _monitor(self) -> Any:
        monitor = self._pyudev.Monitor.from_netlink(self._context)
        monitor.filter_by("block")
        with suppress(OSError):
            monitor.set_receive_buffer_size(_RECEIVE_BUFFER)
        monitor.start()
        return monitor


class _Reader:
    """Reads udev's socket on the event loop, and opens it again when the kernel says that news was lost."""

    def __init__(self, connect: Callable[[], Any], callback: Callable[[Changed], None]) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._connect = connect
        self._callback = callback
        self._open()

    def _open(self) -> None:
        self._monitor = self._connect()
        self._loop.add_reader(self._monitor.fileno(), self._readable)

    def close(self) -> None:
        if self._monitor is not None:
            self._loop.remove_reader(self._monitor.fileno())
            self._monitor = None  # libudev closes the socket with its last reference

    def _readable(self) -> None:
        came, removed = set[str](), set[str]()
        try:
            for raw in islice(iter(lambda: self._monitor.poll(0), None), _AT_ONCE):
                (removed if raw.action == "remove" else came).add(str(raw.device_node))
        except OSError:  # ENOBUFS, POLLERR: events were dropped, those that wait are old by now
            self._callback(self._reopened())
            return
        self._callback(Changed(frozenset(came), frozenset(removed)))

    def _reopened(self) -> Changed:
        self.close()
        try:
            self._open()
        except OSError:
            return Changed(overflow=True, ended=True)
        return Changed(overflow=True)
