"""Child specs, bad arguments by name, the restart table and the restart limit."""

from typing import Any

import pytest
from otp_run import Echo

from usbbackup.otp import BadArgumentError, ChildSpec, DynamicSupervisor, Supervisor
from usbbackup.otp.spec import Intensity, is_restarted


class HandClock:
    """A clock that is moved by hand."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def later(self, seconds: float, callback: Any) -> Any:
        raise AssertionError("nothing here needs a timer")


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("start", {"start": None}),
        ("restart", {"restart": "always"}),
        ("shutdown", {"shutdown": "soon"}),
        ("shutdown", {"shutdown": -1}),
        ("shutdown", {"shutdown": True}),
        ("type", {"type": "manager"}),
    ],
)
def test_a_child_spec_refuses_what_it_cannot_use_by_name(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadArgumentError, match=f"^{argument} must be") as caught:
        ChildSpec(**{"id": "x", "start": Echo, **arguments})
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("strategy", {"strategy": "all_for_one"}),
        ("max_restarts", {"max_restarts": -1}),
        ("max_restarts", {"max_restarts": 2.5}),
        ("max_seconds", {"max_seconds": "5"}),
        ("max_seconds", {"max_seconds": float("nan")}),
        ("children", {"children": [ChildSpec("x", Echo), ChildSpec("x", Echo)]}),
    ],
)
def test_a_supervisor_refuses_what_it_cannot_use_by_name(argument: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadArgumentError, match=f"^{argument} must be"):
        Supervisor(**arguments)


def test_a_dynamic_supervisor_refuses_bad_limits_too() -> None:
    with pytest.raises(BadArgumentError, match=r"^max_restarts must be a whole number from 0 on, not '3'$"):
        DynamicSupervisor("3")  # type: ignore[arg-type] # that is the point


@pytest.mark.parametrize(
    ("restart", "reason", "expected"),
    [
        ("permanent", "normal", True),
        ("permanent", "shutdown", True),
        ("permanent", "killed", True),
        ("permanent", ValueError(), True),
        ("transient", "normal", False),
        ("transient", "shutdown", False),
        ("transient", "killed", True),
        ("transient", ValueError(), True),
        ("temporary", "normal", False),
        ("temporary", "killed", False),
        ("temporary", ValueError(), False),
    ],
)
def test_which_child_is_restarted_after_what(restart: Any, reason: Any, expected: bool) -> None:
    assert is_restarted(restart, reason) is expected


def test_the_patience_that_is_left_out_is_five_seconds_and_endless_for_supervisors() -> None:
    assert ChildSpec("x", Echo).patience == 5.0
    assert ChildSpec("x", Supervisor, type="supervisor").patience == "infinity"
    assert ChildSpec("x", Supervisor, type="supervisor", shutdown=1).patience == 1
    assert ChildSpec("x", Echo, shutdown=0).patience == 0


def test_the_limit_counts_only_what_lies_within_its_seconds() -> None:
    clock = HandClock()
    limit = Intensity(2, 5.0, clock)
    seen = []
    for clock.now in (0, 1, 5, 6, 7, 20):
        seen.append(limit.exceeded())
    assert seen == [False, False, True, True, True, False]


def test_a_limit_of_zero_allows_nothing() -> None:
    assert Intensity(0, 5.0, HandClock()).exceeded()
