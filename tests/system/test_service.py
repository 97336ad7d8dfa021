"""From installed to "it just runs", in a booted Debian with a live `systemd --user`."""

import json

import pytest
from conftest import by_pipx
from machine import Machine, User

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def anna(debian12: Machine, wheels) -> User:  # type: ignore[no-untyped-def]
    user = debian12.user("anna")
    by_pipx(user, wheels)
    return user


def test_setting_up_starts_the_service_and_a_second_time_changes_nothing(anna: User) -> None:
    first = anna.done("usbbackup", "setup", "--yes", "--label", "nowhere")
    assert "now plug in a drive" in first
    assert anna.show("usbbackup", "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
    assert json.loads(anna.done("usbbackup", "status", "--json"))["agent"]["running"]
    print(first)
    print(anna.done("usbbackup", "setup", "--yes"))
