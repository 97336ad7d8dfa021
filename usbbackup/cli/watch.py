"""`usbbackup watch`: what `status` shows, live."""

import argparse
import io
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from usbbackup.cli import shown
from usbbackup.cli.asked import Answer
from usbbackup.errors import NoAgentError
from usbbackup.text import safe
from usbbackup.varlink import Client

if TYPE_CHECKING:
    from usbbackup.cli.main import Terminal

HELP = "show drives, jobs and what runs, live, until Ctrl-C; backups go on without it"
PATIENCE = 5.0  # seconds, until the agent is reached


def arguments(parser: argparse.ArgumentParser) -> None:
    """The form of the answer."""
    parser.add_argument("--json", action="store_true", help="one JSON document a line for each event")


def run(args: argparse.Namespace, terminal: "Terminal") -> int:
    """Follow the agent. Raises NoAgentError where there is none, or when it ends."""
    with Client.connect(terminal.paths.socket, PATIENCE) as agent:
        try:
            _follow(agent.call_more("Watch"), args, terminal)
        except KeyboardInterrupt:
            return 0  # how one leaves; what runs, runs on
        except NoAgentError as error:
            raise NoAgentError("the agent has ended", error.hint) from error
    return 0


def _follow(answers: Iterable[Answer], args: argparse.Namespace, terminal: "Terminal") -> None:
    if args.json:
        for answer in answers:
            terminal.json_line(answer["event"])
            terminal.out.flush()
    elif shown.can_be_drawn_on(terminal):
        _draw(answers, terminal)
    else:
        _tell(answers, terminal)


def _draw(answers: Iterable[Answer], terminal: "Terminal") -> None:
    from usbbackup.cli.board import Board, live

    board = Board(terminal)
    try:
        with live(board, terminal, leave=True):
            for answer in answers:
                if answer["status"] is not None:
                    board.above = _text(answer["status"], terminal)
                    board.status(answer["status"])
                board.event(answer["event"])
    except KeyboardInterrupt:
        if board.running:
            terminal.complain("the backup goes on; `usbbackup cancel` ends it")
        raise


def _text(status: Answer, terminal: "Terminal") -> str:
    """All but what runs, as `status` shows it."""
    out = io.StringIO()
    shown.status({**status, "runs": []}, replace(terminal, out=out))
    return out.getvalue()


def _tell(answers: Iterable[Answer], terminal: "Terminal") -> None:
    """Line by line, for a file, a pipe or a journal."""
    teller = shown.Teller(terminal, as_json=False)
    said: dict[str, str] = {}
    for answer in answers:
        for drive in (answer["status"] or {"drives": []})["drives"]:
            reason = f": {safe(drive['reason'])}" if drive["reason"] else ""
            line = f"drive '{safe(drive['label'] or drive['name'])}' is {drive['state']}{reason}"
            if said.get(drive["uuid"] or drive["name"]) != line:
                said[drive["uuid"] or drive["name"]] = line
                teller.remark(line)
        if answer["event"]["event"] != "changed":
            teller.tell(answer["event"])
