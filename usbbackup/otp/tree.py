"""The live tree, as an observer sees it: looked at from outside, without asking any process."""

from collections.abc import Hashable
from dataclasses import dataclass

from usbbackup.otp.process import Pid, Target
from usbbackup.otp.supervisor import Child, Supervisor


@dataclass(frozen=True)
class Node:
    """One process of a tree."""

    id: Hashable
    pid: Pid | None  # None: it should run, and does not at this moment
    type: str  # worker or supervisor
    restarts: int
    mailbox: int  # messages that wait to be handled
    since: float | None  # the supervisor's clock at its latest start; None for the root
    children: "tuple[Node, ...]"


def tree(root: Target) -> Node | None:
    """A supervisor and all below it, or None where it does not run."""
    pid = root.whereis()
    return None if pid is None else _node(pid.name, pid, "supervisor", 0, None)


def _node(id: Hashable, pid: Pid | None, type: str, restarts: int, since: float | None) -> Node:
    server = pid.server if pid is not None else None
    children = server.children.values() if isinstance(server, Supervisor) else ()
    return Node(
        id,
        pid,
        type,
        restarts,
        len(pid.mailbox) if pid else 0,
        since,
        tuple(_of(child) for child in children),
    )


def _of(child: Child) -> Node:
    return _node(child.spec.id, child.pid, child.spec.type, child.restarts, child.since)
