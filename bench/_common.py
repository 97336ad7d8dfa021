"""What the benches share: a home of their own, an agent, and the way figures are reckoned and printed."""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # usbbackup and demo, also where nothing is installed

from usbbackup.varlink import Client  # noqa: E402 - only found with ROOT on the path

SKIPPED = 77  # exit code of a bench that cannot be run here (as automake has it)
PATIENCE = 60.0  # seconds for anything that is waited for


@dataclass(frozen=True)
class Figure:
    """One line of a table. `ratio` is to what `of` says, at most `target` is wanted of it (or of `p50`)."""

    what: str
    unit: str
    p50: float
    p99: float | None = None
    noise: float | None = None  # half the distance of the quartiles, as a share of the median
    count: int = 1
    ratio: float | None = None
    ratio_p99: float | None = None
    of: str | None = None
    target: float | None = None


def figure(what: str, unit: str, values: Sequence[float], **more: Any) -> Figure:
    """The figure that some measurements come to."""
    return Figure(what, unit, statistics.median(values), p99(values), noise(values), len(values), **more)


def p99(values: Sequence[float]) -> float:
    """What 99 of 100 do not exceed; with fewer than a hundred values nearly the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]


def noise(values: Sequence[float]) -> float | None:
    """How far apart the middle half lies, as a share of the median."""
    if len(values) < 3 or not (median := statistics.median(values)):
        return None
    low, _, high = statistics.quantiles(values, n=4)
    return abs((high - low) / 2 / median)


def main(parser: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], list[Figure]]) -> NoReturn:
    """Run a bench as a program."""
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    figures = measure(arguments)
    if arguments.json:
        print(json.dumps({"machine": machine(), "figures": [asdict(one) for one in figures]}, indent=2))
    else:
        show(figures)
    sys.exit(0)


def machine() -> dict[str, Any]:
    """Where it was measured, and how busy that was."""
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def show(figures: Sequence[Figure]) -> None:
    """A plain table."""
    about = machine()
    print(
        f"Linux {about['kernel']}, Python {about['python']}, {about['cores']} cores, load {about['load']:.1f}"
    )
    width = max(len(one.what) for one in figures)
    print(f"{'':{width}}  {'p50':>10} {'p99':>10} {'':5} {'noise':>6} {'n':>4}  ratio")
    for one in figures:
        high = f"{one.p99:10.3f}" if one.p99 is not None and one.count > 1 else f"{'':10}"
        spread = f"{one.noise:6.0%}" if one.noise is not None else f"{'':6}"
        print(
            f"{one.what:{width}}  {one.p50:10.3f} {high} {one.unit:5} {spread} {one.count:4}  {_ratio(one)}"
        )


def _ratio(one: Figure) -> str:
    wanted = "" if one.target is None else f", at most {one.target:g} wanted"
    if one.ratio is None:
        return wanted.removeprefix(", ")
    high = "" if one.ratio_p99 is None else f" (p99 {one.ratio_p99:.2f})"
    return f"{one.ratio:.3f} of {one.of}{high}{wanted}"


def skip(reason: str) -> NoReturn:
    """End, because this bench cannot be run here."""
    print(f"{Path(sys.argv[0]).name}: not here: {reason}", file=sys.stderr)
    sys.exit(SKIPPED)


def need(*programs: str) -> None:
    """Skip where one of these programs is missing."""
    for program in programs:
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            skip(f"the program {program} is not installed")


@contextmanager
def temporary() -> Iterator[Path]:
    """A directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="usbbackup-bench-") as name:
        yield Path(name)


def a_home(here: Path, config: str) -> dict[str, str]:
    """A new home with a configuration, and an environment that leads into it and to nothing else."""
    home, runtime = here / "home", here / "run"
    (home / ".config/usbbackup").mkdir(parents=True)
    (home / ".config/usbbackup/config.yaml").write_text(config)
    runtime.mkdir(mode=0o700)
    return {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": str(ROOT),
    }


def usbbackup(*arguments: str) -> list[str]:
    """The command line of a command."""
    return [sys.executable, "-m", "usbbackup", *arguments]


def client(env: Mapping[str, str]) -> Client:
    """A connection to the agent of that home."""
    return Client.connect(Path(env["XDG_RUNTIME_DIR"], "usbbackup/control.sock"))


@contextmanager
def an_agent(env: Mapping[str, str], *before: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The agent once it is ready, run by the program `before` if one is given; told to stop at the end."""
    log = Path(env["HOME"], "agent.log")
    notify = f"{env['XDG_RUNTIME_DIR']}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, log.open("ab") as out:
        ready.bind(notify)
        ready.settimeout(PATIENCE)
        agent = subprocess.Popen(
            [*before, *usbbackup("daemon")],
            env={**env, "NOTIFY_SOCKET": notify},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            yield agent
        except TimeoutError:
            sys.exit(f"the agent did not become ready, see what it said:\n{log.read_text()}")
        finally:
            Path(notify).unlink()
            agent.terminate()
            try:
                agent.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                agent.kill()
