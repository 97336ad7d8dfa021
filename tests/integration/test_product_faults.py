"""What can go wrong with the whole product: an agent that is killed or stopped, and one too many."""

import pytest
from agent_process import alive, family, until
from trees import noise, portrait

pytestmark = pytest.mark.root


def in_mid_run(house, stick, engine):
    """Start an agent and wait until it copies; returns every process that it has started."""
    noise(house.documents / "noise", 3_000_000, house.person.owner)
    house.be_slow()
    house.configure(house.job(engine))
    drive = stick()
    drive.plug()
    drive.mount()
    house.done("drives", "enrol")
    house.start()
    house.wait_for_transfer(engine)
    return family(house.agent.pid)


def test_an_agent_that_is_killed_leaves_no_engine_and_the_next_one_completes(house, stick):
    engines = in_mid_run(house, stick, "rsync")
    assert engines
    house.agent.kill()
    until(lambda: not alive(engines), "the engines to end")
    house.be_quick()
    house.start()
    house.done("start", "--wait")
    assert [run["outcome"] for run in house.runs()] == ["interrupted", "success"]
    (snapshot,) = house.snapshots()
    assert house.restored(snapshot) == portrait(house.documents)


def test_a_run_is_interrupted_where_the_agent_is_stopped(house, stick):
    engines = in_mid_run(house, stick, "rsync")
    assert house.agent.stop() == 0
    assert not alive(engines)
    assert [run["outcome"] for run in house.runs()] == ["interrupted"]
    assert house.snapshots() == []


def test_a_second_agent_names_the_first_and_ends(house):
    house.configure(house.job("rsync"))
    house.start()
    second = house.cli("daemon")
    assert second.returncode == 75
    assert str(house.agent.pid) in second.stdout + second.stderr
