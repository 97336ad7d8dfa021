"""The last step to `ready`: what a candidate has to prove on the drive itself."""

from dataclasses import dataclass, replace

from usbbackup import kernel
from usbbackup.drives.enrolment import enrol
from usbbackup.drives.host import Host
from usbbackup.drives.layout import RootOwnedError
from usbbackup.drives.mounts import MountTable
from usbbackup.drives.pin import Pin
from usbbackup.drives.probe import probe
from usbbackup.drives.ready import Refused, Verdict, Waiting, Why
from usbbackup.drives.records import Records
from usbbackup.errors import NotAllowedError, NotNowError


@dataclass(frozen=True)
class Ready:
    """A drive that has proven itself. `attachment` is the same for as long as it stays as it is."""

    verdict: Verdict  # with its record
    attachment: str
    bytes_free: int
    bytes_total: int
    notes: tuple[str, ...] = ()


Decided = Ready | Waiting | Refused


def admit(verdict: Verdict, mounts: MountTable, host: Host, records: Records, now: float) -> Decided:
    """Enrol a drive that is trusted by its label, check its marker and try it by writing.

    Blocking. Whatever goes wrong with the drive is a value; a damaged records file raises ConfigError.
    """
    try:
        return _tried(_enrolled(verdict, host, records, now), mounts, host)
    except NotAllowedError as error:
        return Refused(error.message, error.hint)
    except RootOwnedError as error:
        return Waiting(Why.ROOT_OWNED, error.message, error.hint, error.command)
    except NotNowError as error:
        return Waiting(Why.MOVED, error.message, error.hint)
    except OSError as error:
        reason = f"The drive does not work: {error.strerror}."
        return Waiting(Why.WRITE_FAILED, reason, "Unplug it, plug it in again, and try another cable.")


def _tried(verdict: Verdict, mounts: MountTable, host: Host) -> Decided:
    with Pin(verdict, mounts, host) as pin:
        answer = probe(pin.fd, sys_name=pin.device.sys_name)
    if isinstance(answer, Waiting):
        return answer
    key = attachment_key(
        kernel.boot_id(), pin.facts.uuid, pin.device.diskseq, pin.row.mount_id, pin.unique_mount_id
    )
    return Ready(verdict, key, answer.bytes_free, answer.bytes_total, answer.notes)


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
