"""Any moment may be the last: faults done to real runs at every phase, and what is true afterwards.

What is checked of each cell stands in `test_whatever_happens_...`; the cells stand in fault_matrix.py. All of
them: `make faults`.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent_process import until
from fault_matrix import POSSIBLE, Cell
from fault_scene import Scene
from fault_template import Kind, Template

from demo import loop_drive
from demo.loop_drive import shared

pytestmark = pytest.mark.root
RESULTS = os.environ.get("USBBACKUP_FAULTS")  # a file for two lines of each cell: its begin, and its end

Make = Callable[[Cell], Template]


@pytest.fixture(scope="session")
def template(udevd: None) -> Iterator[Make]:
    """Makes the beginning of all cells of one kind, once."""
    made: dict[Kind, Template] = {}
    with ExitStack() as stack:

        def make(cell: Cell) -> Template:
            kind = Kind.of(cell)
            if shutil.which(kind.program) is None:
                pytest.skip(f"{kind.program} is not installed")
            if reason := loop_drive.missing(kind.fs_type):
                pytest.skip(reason)
            if kind not in made:
                ground = Path(tempfile.mkdtemp(prefix="usbbackup-", dir="/tmp"))
                stack.callback(subprocess.run, ["rm", "-rf", "--one-file-system", ground], check=True)
                made[kind] = Template(stack.enter_context(shared(ground)), kind)
            return made[kind]

        yield make


@pytest.fixture
def scene(request: pytest.FixtureRequest, template: Make, ground: Path) -> Iterator[Scene]:
    """The scene of the cell that the test is parametrized with."""
    with shared(ground):
        scene = Scene(template(request.param), request.param, ground)
        try:
            yield scene
        finally:
            scene.close()


def agent_killed(scene: Scene) -> None:
    scene.house.agent.kill()
    scene.go()
    scene.start()


def engine_killed(scene: Scene) -> None:
    groups = {os.getpgid(pid) for pid in scene.engines()}
    assert groups
    for group in groups:
        os.killpg(group, signal.SIGKILL)
    scene.go()


def agent_stopped(scene: Scene) -> None:
    process = scene.house.agent.process
    process.send_signal(signal.SIGTERM)
    scene.go()
    assert process.wait(60) == 0
    scene.start()


def drive_pulled(scene: Scene) -> None:
    scene.drive.pull()
    scene.go()


def drive_full(scene: Scene) -> None:
    filler = scene.fill()
    scene.go()
    scene.ended(2)
    filler.unlink()


def no_inodes(scene: Scene) -> None:
    fillers = scene.take_inodes()
    scene.go()
    scene.ended(2)
    shutil.rmtree(fillers)


def io_errors(scene: Scene) -> None:
    scene.break_below()
    scene.go()
    scene.ended(2)
    scene.take_away()
    scene.mend_below()


def read_only(scene: Scene) -> None:
    remount = ("mount", "-o", "remount,ro", scene.drive.mount_point)
    done = lambda: subprocess.run(remount, capture_output=True, check=False).returncode == 0  # noqa: E731
    until(done, "nobody to write just then")
    scene.go()


def emergency_ro(scene: Scene) -> None:
    assert scene.drive.devnode is not None
    Path(f"/sys/fs/ext4/{scene.drive.devnode.name}/trigger_fs_error").write_text("1")
    scene.go()


def power_cut(scene: Scene) -> None:
    scene.cut_power()
    scene.start()


def drive_of_before(scene: Scene) -> None:
    scene.cut_power(scene.template.ground / "template.img")
    scene.start()


def suspended(scene: Scene) -> None:
    pids = scene.freeze()
    scene.signal(signal.SIGCONT, pids)
    scene.go()


HANDS: dict[str, Callable[[Scene], None]] = {
    "agent killed": agent_killed,
    "engine killed": engine_killed,
    "agent stopped": agent_stopped,
    "drive pulled": drive_pulled,
    "drive full": drive_full,
    "no inodes": no_inodes,
    "I/O errors": io_errors,
    "read-only": read_only,
    "emergency_ro": emergency_ro,
    "power cut": power_cut,
    "drive of before": drive_of_before,
    "suspend": suspended,
}


def noted(cell: Cell, outcome: str | None = None) -> None:
    if RESULTS:
        with Path(RESULTS).open("a") as file:
            file.write(json.dumps([cell.engine, cell.fault, cell.phase, outcome]) + "\n")


def marked(cell: Cell) -> object:
    return pytest.param(cell, id=cell.id, marks=() if cell.telling else pytest.mark.faults)


@pytest.mark.parametrize("scene", [marked(cell) for cell in POSSIBLE], indirect=True)
def test_whatever_happens_the_history_is_true_no_snapshot_is_harmed_and_the_next_plug_completes(
    scene: Scene,
) -> None:
    noted(scene.cell)
    scene.begin()
    HANDS[scene.cell.fault](scene)
    run = scene.ended(2)
    assert run["outcome"] == scene.cell.outcome, scene.house.done("history", run["run"])
    scene.check_nobody_is_left()
    scene.take_away()
    scene.check_places()
    scene.plug(look=scene.check_snapshots if scene.cell.step == "prune" else None)
    again = scene.ended(3)
    assert again["outcome"] == "success", scene.house.done("history", again["run"])
    scene.check_all_is_done(again)
    scene.check_nobody_is_left()
    scene.take_away()
    scene.check_places()
    noted(scene.cell, run["outcome"])
