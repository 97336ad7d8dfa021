"""The doctor: looks at all that backups lean on, and says of each thing what, how, why and what to do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from usbbackup.config import Config
from usbbackup.errors import ConfigError
from usbbackup.install.place import Place, Service
from usbbackup.install.tools import Tools

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor."""

    check: str  # a word for programs, such as `linger`
    state: State
    what: str  # what was found
    why: str  # why it matters
    command: str | None = None  # what mends it

    def record(self) -> dict[str, str | None]:
        """As it is printed with --json."""
        return asdict(self)


@dataclass(frozen=True)
class Facts:
    """What the checks look at."""

    place: Place
    service: Service
    tools: Tools
    env: Mapping[str, str]
    config: Config | ConfigError
    status: Mapping[str, Any]  # as `status --json` tells it
    troubles: Sequence[str]  # what kept `status` from knowing all
    now: float  # seconds since the epoch

    @property
    def engines(self) -> frozenset[str]:
        """The engines of the configuration."""
        return (
            frozenset(job.engine for job in self.config.jobs)
            if isinstance(self.config, Config)
            else frozenset()
        )


Check = Callable[[Facts], Iterator[Finding]]


def examine(facts: Facts, checks: Sequence[Check]) -> list[Finding]:
    """All findings, in the order of the checks."""
    return [finding for check in checks for finding in check(facts)]


def is_well(findings: Sequence[Finding]) -> bool:
    """Is nothing wrong? A note is no fault."""
    return all(finding.state != "wrong" for finding in findings)
