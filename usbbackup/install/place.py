"""Where usbbackup is set up, or would be: the user's directories, shell, service manager and program."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from usbbackup import encrypted_home
from usbbackup.ecryptfs.before import OwnHome, own_home
from usbbackup.install import login, units
from usbbackup.install.tools import Tools, properties
from usbbackup.install.units import SERVICE, Program
from usbbackup.paths import Paths


@dataclass(frozen=True)
class Place:
    """What is true of this user on this machine."""

    paths: Paths
    program: Program
    packaged: bool  # the units have come with a package
    shell: str  # the login shell
    opened_by: str | None  # what opens the home at login; None where it is always open
    user_units: Path
    autostart: Path
    ecryptfs: OwnHome | None = None  # what of the home is of eCryptfs, and mounted

    @classmethod
    def of(cls, env: Mapping[str, str], program: Program) -> "Place":
        """Look at the user that this process runs as."""
        paths = Paths.of(env)
        config = paths.config.parent
        return cls(
            paths=paths,
            program=program,
            packaged=units.packaged(program),
            shell=login_shell(env),
            opened_by=encrypted_home.opened_by(paths.home),
            user_units=config / "systemd/user",
            autostart=config / "autostart" / units.AUTOSTART,
            ecryptfs=own_home(paths.home),
        )

    @property
    def profile(self) -> Path | None:
        """Where the login hook goes."""
        return login.profile(self.paths.home, self.shell)

    @property
    def entry(self) -> Path:
        """Where a user's own desktop entries are (XDG Base Directory and Desktop Menu Specifications)."""
        return self.paths.data.parent / "applications" / units.ENTRY

    @property
    def icon(self) -> Path:
        """Where a user's own icons are (Icon Theme Specification)."""
        return self.paths.data.parent / "icons/hicolor/scalable/apps" / units.ICON

    @property
    def unit_file(self) -> Path:
        """The unit file of the agent that is in force."""
        return (units.PACKAGED[0] if self.packaged else self.user_units) / SERVICE


@dataclass(frozen=True)
class Service:
    """What the user's service manager knows of the agent."""

    reachable: bool  # is there a user manager to talk to?
    loaded: bool = False
    enabled: bool = False
    active: bool = False
    reload_needed: bool = False
    failed: bool = False
    fragment: str = ""  # the unit file in force

    @classmethod
    def of(cls, tools: Tools) -> "Service":
        """Ask systemctl."""
        wanted = "LoadState,UnitFileState,ActiveState,NeedDaemonReload,FragmentPath"
        answered = tools.ask("systemctl", "--user", "show", "--property", wanted, SERVICE)
        if answered.code != 0:
            return cls(reachable=False)
        told = properties(answered)
        return cls(
            reachable=True,
            loaded=told.get("LoadState") == "loaded",
            enabled=told.get("UnitFileState") == "enabled",
            active=told.get("ActiveState") in ("active", "activating", "reloading"),
            reload_needed=told.get("NeedDaemonReload") == "yes",
            failed=told.get("ActiveState") == "failed",
            fragment=told.get("FragmentPath", ""),
        )


def login_shell(env: Mapping[str, str]) -> str:
    """The login shell as the user database has it, else as the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:
        return env.get("SHELL", "/bin/sh")
