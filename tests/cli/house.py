"""A home to run commands in, perhaps with an agent whose drive is a directory."""

import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from usbbackup.cli.main import Terminal, main

REPOSITORY = Path(__file__).parent.parent.parent
CONFIG = """\
jobs:
  - name: hello
    engine: command
    command: [sh, -c, "echo hello; test ! -e fail"]
  - name: later
    engine: command
    command: [sh, -c, exit 75]
    every: 1d
"""


@dataclass
class House:
    """A home, and perhaps an agent."""

    env: dict[str, str]
    drive: Path
    patience: float = 5.0  # seconds
    agent: "subprocess.Popen[str] | None" = None

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command here: its exit code, what it said, and what it complained of."""
        out, err = io.StringIO(), io.StringIO()
        try:
            code = main(arguments, Terminal(self.env, out, err, patience=self.patience))
        except SystemExit as leaving:  # argparse leaves by itself
            code = int(leaving.code or 0)
        return code, out.getvalue(), err.getvalue()

    def json(self, *arguments: str) -> Any:
        code, out, err = self(*arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    def say(self, word: str) -> None:
        assert self.agent is not None and self.agent.stdin is not None
        self.agent.stdin.write(word + "\n")
        self.agent.stdin.flush()

    def wait_for(self, state: str) -> dict[str, Any]:
        deadline = time.monotonic() + 60  # a machine that is busy with other work is slow
        while True:
            (drive,) = self.json("status")["drives"]
            if drive["state"] == state:
                return dict(drive)
            assert time.monotonic() < deadline, f"not {state}: {drive}"


@pytest.fixture
def home(tmp_path: Path) -> House:
    """A home without configuration and without agent."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "drive").mkdir()
    env = {
        "HOME": str(tmp_path / "home"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "PYTHONPATH": str(REPOSITORY),
    }
    return House(env, tmp_path / "drive")


@pytest.fixture
def house(home: House) -> House:
    """With a configuration."""
    file = Path(home.env["HOME"], ".config/usbbackup/config.yaml")
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG)
    return home


@pytest.fixture
def living(house: House, tmp_path: Path) -> Iterator[House]:
    """With an agent, whose drive is a directory that can be plugged in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(tmp_path / "notify"))
        ready.settimeout(60)
        house.agent = subprocess.Popen(
            [sys.executable, "-m", "demo.agent", str(house.drive)],
            env={**house.env, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
            yield house
        finally:
            house.agent.terminate()
            assert house.agent.wait(60) == 0
            assert house.agent.stdin is not None
            house.agent.stdin.close()
