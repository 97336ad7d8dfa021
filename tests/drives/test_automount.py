"""Where opening a mount point would mount a drive."""

import pytest

from usbbackup.drives.automount import awaiting
from usbbackup.drives.mounts import MountRow, parse
from usbbackup.drives.records import Enrolled, as_text


def record(mount_point: str | None) -> Enrolled:
    return Enrolled(
        uuid="8fa2",
        token="t",  # noqa: S106 - what a drive and its record have in common, no secret
        label="backup",
        name="backup",
        fs_type="ext4",
        host="1a2b3c4d",
        enrolled_at=0.0,
        mount_point=mount_point,
    )


def rows(*mounts: tuple[str, str]) -> list[MountRow]:
    lines = (
        f"{number} 1 0:{number} / {at} rw - {kind} systemd-1 rw"
        for number, (at, kind) in enumerate(mounts, 30)
    )
    return parse("\n".join(lines).encode()).rows


STUB = ("/mnt/backup", "autofs")


@pytest.mark.parametrize(
    ("last", "mounts", "place"),
    [
        ("/mnt/backup", [STUB], b"/mnt/backup"),
        ("/misc/backup", [("/misc", "autofs")], b"/misc/backup"),  # an indirect map
        ("/mnt/backup", [("/mnt/other", "autofs")], None),
        ("/mnt/backup/deep/er", [STUB], None),
        ("/mnt/backup", [STUB, ("/mnt/backup", "nfs4")], None),  # opened already, by something else
        ("/misc/backup", [("/misc", "autofs"), ("/misc/backup", "ext4")], None),
        ("/mnt/backup", [("/mnt", "autofs"), ("/mnt", "tmpfs")], None),
        ("/mnt/backup", [("/", "ext4")], None),
        (None, [STUB], None),  # it is not known where it belongs
    ],
)
def test_a_stub_counts_only_where_the_drive_was_mounted_last(
    last: str | None, mounts: list[tuple[str, str]], place: bytes | None
) -> None:
    assert awaiting(record(last), rows(*mounts)) == place


def test_a_drive_without_a_record_is_mounted_on_demand_nowhere() -> None:
    assert awaiting(None, rows(STUB)) is None


def test_a_mount_point_that_json_cannot_hold_is_not_remembered() -> None:
    assert as_text(b"/mnt/caf\xe9") is None
    assert as_text("/mnt/caf\u00e9".encode()) == "/mnt/caf\u00e9"
