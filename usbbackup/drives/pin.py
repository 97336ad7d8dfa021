"""A drive held for as long as a run needs it: proven when it is opened, asked again at every phase."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from usbbackup import kernel
from usbbackup.drives import layout
from usbbackup.drives.enrolment import check_marker
from usbbackup.drives.host import Host
from usbbackup.drives.mounts import MountRow, MountTable
from usbbackup.drives.ready import Verdict
from usbbackup.errors import NotAllowedError, NotNowError
from usbbackup.folders import closing
from usbbackup.text import safe


class Pin:
    """The `Target` of a run: this user's folder on an enrolled, mounted drive. Use it in a `with` block.

    Entering raises NotNowError where the drive is not what the verdict says any more, and NotAllowedError
    where its marker or folders are not ours. While it is held the drive cannot be unmounted (EBUSY);
    afterwards nothing stays open.
    """

    def __init__(
        self,
        verdict: Verdict,
        mounts: MountTable,
        host: Host,
        *,
        folder: tuple[str, str] | None = None,
    ) -> None:
        """`folder`: another one than this user's own, by machine and user; only to read it."""
        if verdict.device is None or verdict.row is None or verdict.record is None:
            raise ValueError("only an enrolled, mounted drive can be held")
        self.facts = verdict.facts()
        self.device = verdict.device
        self.row = verdict.row
        self.unique_mount_id: int | None = None  # while it is held, where the kernel has it
        self._record = verdict.record
        self._mounts = mounts
        self._host = host
        self.folder = folder
        self.own = folder is None  # this user's own folder, of this machine
        self._fd: int | None = None

    def __enter__(self) -> Self:
        try:
            self._fd = self._opened()
        except FileNotFoundError as error:
            raise NotAllowedError(
                "The backup folder on the drive is gone: it was emptied since it was enrolled.",
                f"If it is yours, run: usbbackup drives enrol {self.facts.uuid}",
            ) from error
        except OSError as error:
            reason = f"The backup folder on the drive cannot be opened: {error.strerror}."
            raise NotNowError(reason) from error
        self.unique_mount_id = kernel.unique_mount_id(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the drive; harmless when called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    @property
    def fd(self) -> int:
        """The open directory `<mount>/usbbackup/<host>-<id>/<user>`."""
        if self._fd is None:
            raise ValueError("the drive is not held")
        return self._fd

    def still_there(self) -> str | None:
        """None while the held folder is on the same, still mounted drive; else the reason why not.

        A pulled drive may stay in the mount table, and an open directory goes on listing from memory: udev's
        `remove` and failing writes tell of that first. Whether it still takes data, only writing tells.
        """
        rows = self._mounts.read()
        here = [row for row in rows if row.mount_id == self.row.mount_id]
        return _difference(self.row, here, rows)

    def _opened(self) -> int:
        with ExitStack() as opened:
            mount = opened.enter_context(layout.mounted(self.row))
            top = opened.enter_context(closing(layout.open_top(mount)))
            if refused := check_marker(top, self._record, self._host):
                raise NotAllowedError(refused.reason, refused.remedy)
            if self.folder is not None:
                return layout.open_named(top, *self.folder)
            return layout.open_user_folder(top, self._host)


def readable(verdict: Verdict, mounts: MountTable, host: Host) -> list[Pin]:
    """A pin for each folder on an enrolled, mounted drive that this user may read, the user's own first.

    Those of other machines and users are among them: whoever reads a drive elsewhere than it was written has
    no folder of their own there. Raises NotNowError and NotAllowedError like the pin itself.
    """
    if verdict.row is None:
        raise ValueError("only a mounted drive can be read")
    try:
        with layout.mounted(verdict.row) as mount, closing(layout.open_top(mount)) as top:
            found = layout.user_folders(top)
    except FileNotFoundError:
        found = []
    own = [
        (machine, user) for machine, user in found if user == host.user and machine.endswith(f"-{host.id}")
    ]
    others = [folder for folder in found if folder not in own]
    first = [Pin(verdict, mounts, host)] if own or not others else []
    return first + [Pin(verdict, mounts, host, folder=folder) for folder in others]


def _difference(then: MountRow, here: Sequence[MountRow], rows: Sequence[MountRow]) -> str | None:
    where = safe(then.mount_point)
    if not here:
        return f"The drive was unmounted from {where}."
    now = next((row for row in here if _identity(row) == _identity(then)), None)
    if now is None:
        return f"Another drive is mounted at {where} now."
    if next(row for row in reversed(rows) if row.mount_point == then.mount_point) is not now:
        return f"Something else was mounted over {where}."
    return None


def _identity(row: MountRow) -> tuple[object, ...]:
    return row.devnum, row.fs_type, row.root, row.mount_point
