"""Where usbbackup keeps its own files, after the XDG base directory specification."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The directories of one user; nothing is created by naming them."""

    config: Path
    data: Path
    state: Path
    cache: Path
    runtime: Path
    home: Path

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Paths":
        """Read the XDG variables of `env`; an empty or relative one counts as unset (the specification)."""
        home = Path(env.get("HOME") or Path.home())

        def base(name: str, default: Path) -> Path:
            value = env.get(name, "")
            return (Path(value) if value.startswith("/") else default) / "usbbackup"

        return cls(
            config=base("XDG_CONFIG_HOME", home / ".config"),
            data=base("XDG_DATA_HOME", home / ".local/share"),
            state=base("XDG_STATE_HOME", home / ".local/state"),
            cache=base("XDG_CACHE_HOME", home / ".cache"),
            runtime=base("XDG_RUNTIME_DIR", Path(f"/run/user/{os.getuid()}")),
            home=home,
        )

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.config / "config.yaml"

    @property
    def drives_file(self) -> Path:
        """What is enrolled; kept apart from the history so that it is never lost with it."""
        return self.data / "drives.json"

    @property
    def keys(self) -> Path:
        """Exported borg keys."""
        return self.data / "keys"

    @property
    def history_db(self) -> Path:
        """The run history."""
        return self.state / "history.db"

    @property
    def logs(self) -> Path:
        """One log file for each run."""
        return self.state / "runs"

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.runtime / "control.sock"

    @property
    def lock(self) -> Path:
        """Held by the one agent of this user; it contains the agent's process id."""
        return self.runtime / "agent.lock"
