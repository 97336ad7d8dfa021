"""The last step to `ready`: what a candidate has to prove on the drive itself."""

from dataclasses import dataclass, replace

from usbbackup import kernel
from usbbackup.clock import rfc3339
from usbbackup.drives.enrolment import enrol
from usbbackup.drives.host import Host
from usbbackup.drives.layout import RootOwnedError
from usbbackup.drives.mounts import MountTable
from usbbackup.drives.pin import Pin
from usbbackup.drives.probe import probe
from usbbackup.drives.ready import Refused, Verdict, Waiting, Why
from usbbackup.drives.records import Enrolled, Records
from usbbackup.errors import NotAllowedError, NotNowError

CLOCK_SLACK = 60.0  # seconds; a clock that was corrected has not jumped


@dataclass(frozen=True)
class Ready:
    """A drive that has proven itself. `attachment` is the same for as long as it stays as it is."""

    verdict: Verdict  # with its record
    attachment: str
    bytes_free: int
    bytes_total: int
    notes: tuple[str, ...] = ()  # doubts that do not stop a run, a sentence each


Decided = Ready | Waiting | Refused


def admit(verdict: Verdict, mounts: MountTable, host: Host, records: Records, now: float) -> Decided:
    """Enrol a drive that is trusted by its label, check its marker and try it by writing.

    Blocking. Whatever goes wrong with the drive is a value; a damaged records file raises ConfigError.
    """
    try:
        enrolled = _enrolled(verdict, host, records, now)
        return _tried(enrolled, mounts, host, doubts(enrolled.record, now))
    except NotAllowedError as error:
        return Refused(error.message, error.hint)
    except RootOwnedError as error:
        return Waiting(Why.ROOT_OWNED, error.message, error.hint, error.command)
    except NotNowError as error:
        return Waiting(Why.MOVED, error.message, error.hint)
    except OSError as error:
        reason = f"The drive does not work: {error.strerror}."
        return Waiting(Why.WRITE_FAILED, reason, "Unplug it, plug it in again, and try another cable.")


def _tried(verdict: Verdict, mounts: MountTable, host: Host, doubts: tuple[str, ...]) -> Decided:
    with Pin(verdict, mounts, host) as pin:
        answer = probe(pin.fd, sys_name=pin.device.sys_name)
    if isinstance(answer, Waiting):
        return answer
    key = attachment_key(
        kernel.boot_id(), pin.facts.uuid, pin.device.diskseq, pin.row.mount_id, pin.unique_mount_id
    )
    return Ready(verdict, key, answer.bytes_free, answer.bytes_total, (*doubts, *answer.notes))


def doubts(record: Enrolled | None, now: float) -> tuple[str, ...]:
    """What is remembered of a drive that the user should know before trusting it again."""
    said = []
    if record is not None and record.trouble is not None:
        said.append(f"Last time it took no data: {record.trouble} Better check its file system.")
    if record is not None and record.last_seen is not None and record.last_seen > now + CLOCK_SLACK:
        said.append(f"The clock has gone back: the drive was last seen at {rfc3339(record.last_seen)}.")
    return tuple(said)


def _enrolled(verdict: Verdict, host: Host, records: Records, now: float) -> Verdict:
    if verdict.record is not None:
        return verdict
    if verdict.device is None or verdict.row is None:
        raise ValueError("only a mounted drive can be admitted")
    name = verdict.drive.name
    record = enrol(verdict.device, verdict.row, host, records, name=name, now=now, by_label=True)
    return replace(verdict, record=record)


def attachment_key(
    boot_id: str, uuid: str, diskseq: int | None, mount_id: int, unique_mount_id: int | None
) -> str:
    """What one stay of a drive is recognised by after a restart of the agent; any difference is a new stay.

    Mount ids alone are used again by the kernel: the next drive often gets that of the last.

    >>> attachment_key("b00t", "8fa2", 12, 45, None)
    'b00t/8fa2/12/45/-'
    """
    parts = (boot_id, uuid, diskseq, mount_id, unique_mount_id)
    return "/".join("-" if part is None else str(part) for part in parts)
