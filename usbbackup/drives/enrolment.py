"""The user's word that a drive may hold their backups: given, checked and taken back."""

import msgspec

from usbbackup import kernel
from usbbackup.drives import layout, marker, remedies
from usbbackup.drives.host import Host
from usbbackup.drives.marker import Marker
from usbbackup.drives.mounts import MountRow
from usbbackup.drives.ready import Refused
from usbbackup.drives.records import Enrolled, Records, as_text
from usbbackup.drives.udev import Device
from usbbackup.errors import NotAllowedError, NotNowError
from usbbackup.folders import LayoutError, closing
from usbbackup.text import safe


def enrol(
    device: Device,
    row: MountRow,
    host: Host,
    records: Records,
    *,
    name: str,
    now: float,
    read_only: bool = False,
    by_label: bool = False,
) -> Enrolled:
    """Mark a mounted drive as one for this user's backups, on the drive and then here, and return the record.

    `name` is that of its entry in the configuration. `read_only` writes nothing to the drive: it must have
    been enrolled before, by whomever. `by_label` is for drives trusted by their label alone: one that another
    machine has enrolled stays that machine's. Done twice it does no harm (which borg
    repositories are there is noted anew by the next runs), and an interruption leaves nothing
    half done. Raises RootOwnedError with the command that helps, NotNowError or NotAllowedError.
    """
    old = records.read().get(str(device.fs_uuid))  # first: where it is damaged, nothing is written anywhere
    try:
        with layout.mounted(row) as mount:
            found = _existing(mount) if read_only else _marked(mount, row, host, now, by_label)
    except OSError as error:
        raise NotNowError(f"The drive cannot be enrolled: {error.strerror}.") from error
    record = msgspec.structs.replace(
        _record(device, found, host, old, name, now),
        read_only=read_only,
        mount_point=as_text(row.mount_point),
    )
    records.put(record)
    return record


def _existing(mount: int) -> Marker:
    try:
        with closing(layout.open_top(mount)) as top:
            found = marker.read_marker(top)
    except FileNotFoundError:
        found = None
    if found is None:
        raise NotNowError("There are no backups of usbbackup on this drive to read.", "Enrol it for writing.")
    return found


def _marked(mount: int, row: MountRow, host: Host, now: float, by_label: bool) -> Marker:
    with closing(layout.make_top(mount, row, host)) as top:
        found = marker.read_marker(top)
        if by_label and found is not None and found.host.id != host.id:
            raise NotAllowedError(
                f"The drive belongs to another machine, '{safe(found.host.name)}'.",
                "If it is yours, run: usbbackup drives enrol",
            )
        with closing(layout.make_user_folder(top, host, row)) as folder:
            if found is None:
                found = marker.new_marker(host, now)
                marker.write_marker(top, found)
                marker.write_readme(top)
            kernel.syncfs(folder)
    return found


def _record(
    device: Device, found: Marker, host: Host, old: Enrolled | None, name: str, now: float
) -> Enrolled:
    same = old is not None and old.token == found.token
    return Enrolled(
        uuid=str(device.fs_uuid),
        luks_uuid=device.luks_uuid,
        token=found.token,
        serial=device.serial,
        label=device.fs_label or "",
        name=name,
        fs_type=device.fs_type or "",
        host=host.id,
        enrolled_at=old.enrolled_at if old and same else now,
        last_seen=now,
    )


def check_marker(top: int, record: Enrolled, host: Host) -> Refused | None:
    """Does the marker in the folder `usbbackup` agree with what is known here? None where it does."""
    hint = f"If it is yours, run: usbbackup drives enrol {remedies.quoted(record.uuid)}"
    try:
        found = marker.read_marker(top)
    except LayoutError as error:
        return Refused(error.message, error.hint)
    if found is None:
        return Refused("The drive has lost its marker: it was emptied since it was enrolled.", hint)
    if found.token != record.token:
        owner = f"'{safe(found.host.user)}' on '{safe(found.host.name)}'"
        return Refused(f"The drive has another marker than when it was enrolled, made by {owner}.", hint)
    if record.host != host.id:
        return Refused("The drive was enrolled by another machine than this one.", hint)
    return None


def forget(uuid: str, records: Records) -> None:
    """Take the word back. Nothing on the drive is touched: its backups stay."""
    records.remove(uuid)
