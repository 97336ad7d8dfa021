"""Booted anew: a stick that is in at boot."""

import pytest

from tests.usb.desk import COPY, Desk

pytestmark = pytest.mark.vm


def test_a_stick_that_is_in_at_boot_is_backed_up_to(desk: Desk) -> None:
    """As soon as its owner has logged in: another boot is another stay."""
    desk.configure(COPY)
    desk.enrol(desk.stick("in"))
    desk.ended("success")
    desk.machine.reboot()
    desk.ended("success", "success")
    snapshots = desk.machine.usbbackup("snapshots")
    assert len(snapshots) == 2
    for snapshot in snapshots:
        desk.same_files(snapshot["path"])
