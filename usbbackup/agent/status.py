"""What is going on, as `status --json` tells it and as one sentence for the service manager."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usbbackup import __version__
from usbbackup.agent import due
from usbbackup.backup.fitness import doubt
from usbbackup.clock import Clock, rfc3339
from usbbackup.config import Config, JobConfig
from usbbackup.drives.admit import Ready
from usbbackup.drives.sighting import Sighting
from usbbackup.drives.survey import DriveView, Space, space, view
from usbbackup.history import RunRecord
from usbbackup.outcome import Phase
from usbbackup.text import human_duration, safe

if TYPE_CHECKING:  # what acts: whoever only looks starts faster without it
    from usbbackup.agent.run import Order
    from usbbackup.otp import Node

_SURE_PERCENT, _SURE_SECONDS = 5.0, 10.0  # before that, how a run goes on cannot be told from how it began


@dataclass(frozen=True)
class Last:
    """What the history knows of a job on a drive."""

    good: RunRecord | None = None
    run: RunRecord | None = None  # the latest, whatever became of it
    proven: float | None = None  # when files were last restored and compared


def agent_record(pid: int | None, since: float | None) -> dict[str, object]:
    """The agent itself; `pid` is None where none runs."""
    return {
        "running": pid is not None,
        "pid": pid,
        "version": __version__ if pid else None,
        "since": rfc3339(since),
    }


def silent_agent_record(pid: int | None) -> dict[str, object]:
    """An agent that runs and does not answer."""
    return {"running": True, "pid": pid, "version": None, "since": None}


def drive_view(
    sighting: Sighting, busy: bool = False, locked: str | None = None, space: Space = space
) -> DriveView:
    """A drive as people see it; `locked` is why a job there waits for its secret."""
    if isinstance(sighting.decision, Ready):
        shown = view(sighting.verdict, space)
        if locked is not None and not busy:
            return replace(shown, state="waiting", reason=locked, remedy=None)
        notes = " ".join(sighting.decision.notes) or None
        return replace(shown, state="busy" if busy else "ready", reason=notes, remedy=None)
    return view(replace(sighting.verdict, decision=sighting.decision), space)


def drive_record(drive: DriveView) -> dict[str, object]:
    """A drive for scripts."""
    return {
        "name": drive.name,
        "uuid": drive.uuid,
        "label": drive.label,
        "devnode": drive.devnode,
        "mount_point": drive.mount_point,
        "state": drive.state,
        "reason": " ".join(filter(None, (drive.reason, drive.remedy))) or None,
        "enrolled": drive.enrolled,
        "last_seen": rfc3339(drive.last_seen),
        "bytes_free": drive.bytes_free,
        "bytes_total": drive.bytes_total,
    }


def job_records(
    config: Config,
    sightings: Sequence[Sighting],
    verdicts: Mapping[tuple[str, str], due.Verdict],
    lasts: Mapping[tuple[str, str], Last],
    now: float,
) -> list[dict[str, object]]:
    """Each job with its state on each drive that it goes to."""

    def on_drive(job: JobConfig, sighting: Sighting) -> dict[str, object]:
        key = (job.name, sighting.uuid)
        return _on_drive(job, sighting, verdicts.get(key), lasts.get(key, Last()), now)

    return [
        {
            "name": job.name,
            "engine": job.engine,
            "drives": [on_drive(job, sighting) for sighting in on_drives(config, job, sightings)],
        }
        for job in config.jobs
    ]


def on_drives(config: Config, job: JobConfig, sightings: Sequence[Sighting]) -> list[Sighting]:
    """The drives that a job goes to, as far as any was ever seen."""
    names = {entry.name for entry in config.drives_of(job)}
    return [s for s in sightings if s.verdict.drive.name in names and s.verdict.uuid is not None]


def _on_drive(
    job: JobConfig, sighting: Sighting, verdict: due.Verdict | None, last: Last, now: float
) -> dict[str, object]:
    here = sighting.decision
    if verdict is None or not isinstance(here, Ready):  # what was decided holds for one stay of a drive
        verdict = due.judge(job.every, due.Past(last.good.started if last.good else None), now)
    return {
        "uuid": sighting.uuid,
        "due": verdict.due,
        "next_due": rfc3339(verdict.next_due),
        "last_success": rfc3339(last.good.finished) if last.good else None,
        "last_outcome": last.run.outcome if last.run else None,
        "last_proven": rfc3339(last.proven),
        "reason": _reason(job, sighting, verdict),
    }


def _reason(job: JobConfig, sighting: Sighting, verdict: due.Verdict) -> str | None:
    here, device = sighting.decision, sighting.verdict.device
    said = verdict.reason if isinstance(here, Ready) else here.reason
    doubted = doubt(job, device.fs_type or "") if device else None
    return f"{doubted}; {said}" if doubted else said


def run_record(order: "Order") -> dict[str, object]:
    """A run that goes on now."""
    progress = order.progress
    return {
        "run": order.run,
        "job": order.job.name,
        "drive": order.drive.uuid,
        "phase": progress.phase,
        "percent": progress.percent,
        "bytes": progress.bytes,
        "files": progress.files,
        "since": rfc3339(order.since),
    }


def tree_record(node: "Node", clock: Clock) -> dict[str, object]:
    """The live supervision tree, from this process downward."""
    since = None if node.since is None else clock.now() - (clock.monotonic() - node.since)
    server = node.pid and node.pid.server
    return {
        "name": str(node.id),
        "process": type(server).__name__ if server else None,
        "type": node.type,
        "running": node.pid is not None and node.pid.alive,
        "restarts": node.restarts,
        "mailbox": node.mailbox,
        "since": rfc3339(since),
        "children": [tree_record(child, clock) for child in node.children],
    }


def sentence(sightings: Sequence[Sighting], orders: "Sequence[Order]", now: float) -> str:
    """The status line of the service."""
    working = [order for order in orders if order.progress.phase is not Phase.QUEUED]
    if working:
        return "; ".join(_doing(order, now) for order in working)
    ready = [safe(s.name) for s in sightings if isinstance(s.decision, Ready)]
    if ready:
        return f"idle; {_listed(ready)} plugged in"
    return "idle; waiting for a drive"


def _doing(order: "Order", now: float) -> str:
    percent = order.progress.percent
    doing = f"backing up {order.job.name} to '{safe(order.drive.name)}'"
    match order.progress.phase:
        case Phase.TRANSFER if percent is not None:
            left = _left(percent, now - order.since)
            return f"{doing}: {percent:.0f} %" + (f", {left} left" if left else "")
        case Phase.TRANSFER:
            return doing
        case phase:
            return f"{doing}: {phase}"


def _left(percent: float, elapsed: float) -> str:
    """How long a run will still take, if it goes on as it began; nothing where that would be a guess.

    >>> _left(25, 62), _left(99, 600), _left(1, 30), _left(50, 3)
    ('3 min', '10 s', '', '')
    """
    if percent < _SURE_PERCENT or elapsed < _SURE_SECONDS:
        return ""
    left = elapsed * (100 - percent) / percent
    step = 60 if left >= 60 else 10
    return human_duration(max(left // step, 1) * step)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
