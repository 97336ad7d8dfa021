"""Figures for Prometheus, in its text format, as the textfile collector of node_exporter reads them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from usbbackup import __version__
from usbbackup.history import RunRecord
from usbbackup.outcome import Outcome

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


@dataclass(frozen=True)
class JobFigures:
    """What the history knows of a job on a drive."""

    job: str
    drive: str  # its name
    uuid: str
    good: RunRecord | None
    last: RunRecord | None

    @property
    def labels(self) -> Labels:
        """Not `job`: that is Prometheus' own."""
        return {"backup_job": self.job, "drive": self.drive, "uuid": self.uuid}


@dataclass(frozen=True)
class DriveFigures:
    """What is known of a drive; bytes are None where it is not here or does not answer."""

    drive: str
    uuid: str
    present: bool
    free: int | None = None
    total: int | None = None

    @property
    def labels(self) -> Labels:
        """The same as on jobs."""
        return {"drive": self.drive, "uuid": self.uuid}


def text(jobs: Iterable[JobFigures], drives: Iterable[DriveFigures]) -> str:
    """The whole file."""
    jobs, drives = list(jobs), list(drives)
    families = [*_of_jobs(jobs), *_of_drives(drives)]
    families.append(("info", "This version of usbbackup.", [({"version": __version__}, 1)]))
    return "".join(_family(f"usbbackup_{name}", about, samples) for name, about, samples in families)


Family = tuple[str, str, list[Sample]]


def _of_jobs(jobs: list[JobFigures]) -> Iterator[Family]:
    yield (
        "last_good_backup_timestamp_seconds",
        "End of the last good backup of a job on a drive; 0 where there was none.",
        [(one.labels, (one.good.finished or one.good.started) if one.good else 0) for one in jobs],
    )
    ran = [(one.labels, one.last) for one in jobs if one.last is not None]
    ended = [(labels, last, last.finished) for labels, last in ran if last.finished is not None]
    yield (
        "last_run_timestamp_seconds",
        "Start of the last run of a job on a drive.",
        [(labels, last.started) for labels, last in ran],
    )
    yield (
        "last_run_duration_seconds",
        "How long it took.",
        [(labels, finished - last.started) for labels, last, finished in ended],
    )
    yield (
        "last_run_outcome",
        "How it ended: 1 for the outcome that it had.",
        [
            ({**labels, "outcome": outcome.value}, int(last.outcome is outcome))
            for labels, last, _ in ended
            for outcome in Outcome
        ],
    )
    for name, about in (("bytes", "Size of what it backed up."), ("files", "Files that it backed up.")):
        counts = [(labels, getattr(last, name)) for labels, last, _ in ended]
        yield f"last_run_{name}", about, [(labels, count) for labels, count in counts if count is not None]


def _of_drives(drives: list[DriveFigures]) -> Iterator[Family]:
    yield "drive_present", "Is it plugged in?", [(one.labels, int(one.present)) for one in drives]
    yield "drive_free_bytes", "Room on it.", [(d.labels, d.free) for d in drives if d.free is not None]
    yield "drive_size_bytes", "Its size.", [(d.labels, d.total) for d in drives if d.total is not None]


def _family(name: str, about: str, samples: list[Sample]) -> str:
    if not samples:
        return ""
    lines = [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
    lines += [f"{name}{{{_labels(labels)}}} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
