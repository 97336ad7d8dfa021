"""What is known here of enrolled drives: `drives.json`, written so that no moment finds it half done."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from usbbackup.errors import ConfigError, NotNowError
from usbbackup.files import write_atomically
from usbbackup.text import safe

VERSION = 1


class Enrolled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A drive that may hold this user's backups. Times are seconds since the epoch."""

    uuid: str  # of the file system
    luks_uuid: str | None = None  # of the container around it
    token: str  # the same as in the marker on the drive
    serial: str | None = None
    label: str
    name: str  # of the entry in the configuration
    fs_type: str
    host: str  # id of the machine that enrolled it: a home may move
    enrolled_at: float
    read_only: bool = False
    repositories: dict[str, str] = {}  # job -> id of its borg repository
    last_seen: float | None = None
    trouble: str | None = None  # why it took no data when it was last here, a sentence
    mount_point: str | None = None  # where it was mounted last, if that is UTF-8
    ejected: str | None = None  # the stay (`stay`) in which it was made safe to unplug


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    drives: list[Enrolled]


class _Version(Struct):
    version: int


def as_text(path: bytes) -> str | None:
    """A path as JSON can hold it; None where it cannot."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return None


class Records:
    """The file of enrolled drives. A damaged one is an error (ConfigError), and never overwritten.

    Changes raise NotNowError where they cannot be written: the file then stays as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Enrolled]:
        """All records by UUID; none where there is no file yet. Raises ConfigError for a damaged one."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"{self._shown} cannot be read: {error.strerror}.") from error
        return {record.uuid: record for record in self._decoded(data)}

    def put(self, record: Enrolled) -> None:
        """Add a record, or replace the one with its UUID."""
        self._change(lambda records: records | {record.uuid: record})

    def remove(self, uuid: str) -> None:
        """Forget a drive; nothing on the drive changes."""
        self._change(lambda records: {key: record for key, record in records.items() if key != uuid})

    def seen(self, uuid: str, now: float, mount_point: bytes) -> None:
        """Note that a drive was plugged in and fit until now, and where; let be if it cannot be written."""
        new = {"last_seen": now, "trouble": None, "mount_point": as_text(mount_point)}
        with suppress(NotNowError):
            self._replace(uuid, lambda record: msgspec.structs.replace(record, **new))

    def troubled(self, uuid: str, reason: str) -> None:
        """Note that a drive is here and takes no data; let be where it cannot be written."""
        with suppress(NotNowError):
            self._replace(uuid, lambda record: msgspec.structs.replace(record, trouble=reason))

    def eject(self, uuid: str, stay: str | None) -> None:
        """Note in which stay a drive was made safe to unplug; None: it was not, after all."""
        self._replace(uuid, lambda record: msgspec.structs.replace(record, ejected=stay))

    def repository(self, uuid: str, job: str, repository_id: str) -> None:
        """Note which borg repository a job has on an enrolled drive."""
        self._replace(
            uuid,
            lambda record: msgspec.structs.replace(
                record, repositories=record.repositories | {job: repository_id}
            ),
        )

    def _replace(self, uuid: str, change: Callable[[Enrolled], Enrolled]) -> None:
        self._change(
            lambda records: records | ({uuid: change(records[uuid])} if uuid in records else {}),
        )

    def _change(self, change: Callable[[dict[str, Enrolled]], dict[str, Enrolled]]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._locked():
                before = self.read()
                after = change(before)
                if after != before:
                    content = _File(VERSION, list(after.values()))
                    write_atomically(self.path, msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        except OSError as error:
            raise NotNowError(f"{self._shown} cannot be written: {error.strerror}.") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Agent and command line change the file, each from what the other wrote."""
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @property
    def _shown(self) -> str:
        return safe(str(self.path))

    def _decoded(self, data: bytes) -> list[Enrolled]:
        hint = (
            "The backups on your drives are untouched. Move the file away, then enrol each drive again: "
            "usbbackup drives enrol"
        )
        try:
            if (version := msgspec.json.decode(data, type=_Version).version) != VERSION:
                raise ConfigError(
                    f"{self._shown} was written by another version of usbbackup ({version}).", hint
                )
            return msgspec.json.decode(data, type=_File).drives
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._shown} is damaged: {safe(str(error))}.", hint) from error
