"""Ctrl-C while `start --wait` waits: whether the run goes on is said."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.cli.house import House

HOLD = """\
jobs:
  - name: hold
    engine: command
    command: [sh, -c, "until test -e go; do sleep 0.05; done"]
"""


def test_a_run_of_the_agent_goes_on_and_how_to_end_it_is_said(living: House) -> None:
    """The command ends with 130, as a shell expects; the run ends well."""
    Path(living.env["HOME"], ".config/usbbackup/config.yaml").write_text(HOLD)
    assert living("reload")[0] == 0
    living.say("plug")
    living.wait_for("refused")
    assert living("drives", "enrol")[0] == 0
    waiting = subprocess.Popen(
        [sys.executable, "-m", "usbbackup", "start", "hold", "--wait"],
        env=living.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stdout is not None
    assert waiting.stdout.readline().startswith("hold: run ")
    waiting.send_signal(signal.SIGINT)
    _, complained = waiting.communicate()
    assert complained == (
        "usbbackup: the backup goes on; `usbbackup watch` shows it, `usbbackup cancel` ends it\n"
    )
    assert waiting.returncode == 130
    assert [run["job"] for run in living.json("status")["runs"]] == ["hold"]
    (living.drive / "go").touch()
    living.wait_for("ready")
    assert living.json("history")[0]["outcome"] == "success"
