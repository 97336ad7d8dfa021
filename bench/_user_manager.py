"""A systemd user manager of its own, with one unit that is wanted by a mount: a yardstick. Needs root.

It runs in mount and cgroup namespaces of its own and sees only the units that are written here, so it runs
beside whatever manager the machine has, and also where systemd is not process 1.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
_TARGETS = ("bench", "basic", "shutdown", "exit")
_TARGET = "[Unit]\nDefaultDependencies=no\n"
_UNIT = """\
[Unit]
DefaultDependencies=no
BindsTo={mount}
After={mount}
[Service]
Type=oneshot
ExecStart={script}
"""
# /run/systemd/system is how it tells that systemd is in charge here (sd_booted(3)).
_START = """\
for group in "$@"; do echo $$ > "$group/cgroup.procs" || exit; done
mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system || exit
exec {systemd} --user --unit=bench.target --log-target=null
"""


def missing() -> str | None:
    """Why there can be none here; None where there can."""
    for program in ("unshare", "systemd-escape", str(SYSTEMD)):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None if _hierarchies() else "there is no cgroup hierarchy that systemd could use"


@contextmanager
def user_manager(here: Path, mount_point: Path, script: Path) -> Iterator[None]:
    """Run `script` whenever something is mounted on `mount_point`, which must be below a shared mount."""
    runtime, units = here / "manager", here / "units"
    runtime.mkdir(mode=0o700)
    _write_units(units, mount_point, script)
    groups = [hierarchy / f"usbbackup-bench-{os.getpid()}" for hierarchy in _hierarchies()]
    for group in groups:
        group.mkdir()
    process = subprocess.Popen(
        [
            *("unshare", "--mount", "--cgroup", "--propagation", "slave"),
            *("sh", "-c", _START.format(systemd=SYSTEMD), "sh", *map(str, groups)),
        ],
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_UNIT_PATH": str(units)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until((runtime / "systemd/private").exists, "the user manager does not start")
        yield
    finally:
        process.send_signal(signal.SIGRTMIN + 24)  # leave at once (systemd(1))
        process.wait(60)
        for group in groups:
            _wait_until(lambda group=group: _removed(group), f"{group} cannot be removed")


def _hierarchies() -> list[Path]:
    """Where systemd keeps its control groups: one tree, or (hybrid) one of each version."""
    top = Path("/sys/fs/cgroup")
    places = (top, top / "unified", top / "systemd")
    return [place for place in places if (place / "cgroup.procs").exists()]


def _write_units(units: Path, mount_point: Path, script: Path) -> None:
    escape = ["systemd-escape", "--path", "--suffix=mount", str(mount_point)]
    mount = subprocess.run(escape, check=True, capture_output=True, text=True).stdout.strip()
    (units / f"{mount}.wants").mkdir(parents=True)
    for target in _TARGETS:
        (units / f"{target}.target").write_text(_TARGET)
    (units / "bench.service").write_text(_UNIT.format(mount=mount, script=script))
    (units / f"{mount}.wants/bench.service").symlink_to("../bench.service")


def _wait_until(done: Callable[[], bool], otherwise: str) -> None:
    for _ in range(500):
        if done():
            return
        time.sleep(0.01)
    raise SystemExit(otherwise)


def _removed(group: Path) -> bool:
    try:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    except OSError:
        return False
    return True
