"""`status` without an agent: one glance at the drives and the history. Nothing is run, nothing is written."""

from collections.abc import Mapping
from contextlib import closing

from usbbackup.agent import desk
from usbbackup.agent.desk import Answer
from usbbackup.agent.lock import agent_pid
from usbbackup.agent.machine import Machine, this_machine
from usbbackup.agent.status import Last, agent_record, silent_agent_record
from usbbackup.config import Config
from usbbackup.drives.ready import Candidate, Verdict, Waiting, Why
from usbbackup.drives.sighting import Sighting, verdicts
from usbbackup.drives.survey import space
from usbbackup.errors import ConfigError
from usbbackup.history import History, HistoryError

NO_JOBS = Config(jobs=())  # where there is no configuration: the drives that are then meant


def picture(machine: Machine) -> desk.Picture:
    """All drives at one look; nothing is written to any of them."""
    return desk.Picture([_sighting(verdict) for verdict in verdicts(machine, machine.udev.devices())])


def _sighting(verdict: Verdict) -> Sighting:
    match verdict.decision:
        case Candidate():
            reason = "The drive is plugged in and mounted; no agent runs to use it."
            return Sighting(
                verdict, Waiting(Why.NO_ANSWER, reason, "Start it: systemctl --user start usbbackup")
            )
        case decision:
            return Sighting(verdict, decision)


def status(env: Mapping[str, str], *, silent: bool = False) -> Answer:
    """What `Status` would answer, from the history and one look at the drives, whatever is wrong.

    `silent`: an agent runs, and does not answer. `configuration` is None, or why there is none to go by.
    """
    machine, wrong = _any_machine(env)
    seen = picture(machine)
    lasts: dict[tuple[str, str], Last] = {}
    troubles: list[str] = []
    try:
        with closing(History.open(machine.paths.history_db, machine.clock, readonly=True)) as history:
            lasts = desk.last_runs(machine.config, seen, history)
    except HistoryError as error:
        troubles.append(error.message)
    drives = desk.drives(seen, desk.nothing_known if silent else space)  # a drive that hangs may be the cause
    agent = silent_agent_record(agent_pid(machine.paths)) if silent else agent_record(None, None)
    told = desk.status(machine, seen, drives, lasts, agent=agent, runs=[])
    return {"status": told, "troubles": troubles, "configuration": wrong and wrong.message}


def _any_machine(env: Mapping[str, str]) -> tuple[Machine, ConfigError | None]:
    """This machine, whatever its configuration is like."""
    try:
        return this_machine(env), None
    except ConfigError as error:
        return this_machine(env, NO_JOBS), error
