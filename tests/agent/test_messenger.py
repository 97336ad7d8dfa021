"""What the user's command, healthchecks and Prometheus are told."""

import asyncio
import io
import json
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from subprocess import run as run_program

import pytest

from tests.agent.played import Agent, Play, a_job, run
from usbbackup import ping
from usbbackup.agent import prometheus
from usbbackup.agent.messenger import _address
from usbbackup.agent.prometheus import DriveFigures, JobFigures
from usbbackup.config import Config, DriveConfig, Notify
from usbbackup.history import RunRecord
from usbbackup.outcome import Outcome, Phase

RUN = RunRecord(
    run="r1",
    job="home",
    drive="8fa2",
    attachment="a",
    outcome=Outcome.WARNING,
    phase=Phase.RECORD,
    started=1000.0,
    finished=1060.5,
    bytes=3_100_000_000,
    files=412,
    snapshot=None,
    message=None,
    hint=None,
    notes=(),
    log="",
    boot_id=None,
    engine_pid=None,
    engine_ticks=None,
)
FILE = """\
# HELP usbbackup_last_good_backup_timestamp_seconds End of the last good backup of a job on a drive; 0 where there was none.
# TYPE usbbackup_last_good_backup_timestamp_seconds gauge
usbbackup_last_good_backup_timestamp_seconds{backup_job="home",drive="my \\"disk\\"",uuid="8fa2"} 1060.5
usbbackup_last_good_backup_timestamp_seconds{backup_job="music",drive="my \\"disk\\"",uuid="8fa2"} 0
"""  # noqa: E501 - as it is


def with_notify(play: Play, **notify: object) -> None:
    play.config = Config(
        jobs=play.config.jobs,
        drives=play.config.drives,
        notify=Notify(desktop=False, **notify),  # type: ignore[arg-type]
    )


async def told(agent: Agent) -> None:
    for _ in range(3):
        await agent.quiet()
        await asyncio.sleep(0.02)


def test_the_command_hears_of_every_event_with_what_it_needs_to_know(tmp_path: Path) -> None:
    """In its environment, where no shell looks at it."""
    play = Play(tmp_path, a_job(), drives=(DriveConfig(name="backup", label="backup", after="unmount"),))
    with_notify(play, command=("~/tell", "-v"))
    drive = play.a_drive()
    events = []

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            while "safe" not in events:
                running = await agent.started()
                if running.program.argv == ("~/tell", "-v"):
                    events.append(running.event)
                    if running.event == "success":
                        env = running.program.env
                        assert env["USBBACKUP_DRIVE"] == "backup"
                        assert env["USBBACKUP_UUID"] == drive.device.fs_uuid
                        assert env["USBBACKUP_JOB"] == "script"
                        assert env["USBBACKUP_MESSAGE"] == "the command ended well"
                        assert env["USBBACKUP_RUN"]
                running.end()
                await agent.quiet()

    run(main)
    assert events == ["started", "success", "safe"]


def test_a_command_that_fails_hangs_or_is_missing_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    play = Play(tmp_path, a_job())
    with_notify(play, command=("tell",))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            programs = {(running := await agent.started()).program.argv: running for _ in range(2)}
            programs["true",].end()
            await agent.ended()
            assert [record.outcome for record in play.history()] == [Outcome.SUCCESS]
            play.clock.pass_by(60)
            (await agent.started()).end(3)
            await told(agent)

    run(main)
    said = [record.message for record in caplog.records if "notify.command" in record.message]
    assert said == [
        "notify.command, told of 'started', took longer than 60 s and was ended",
        "notify.command, told of 'success', ended with exit code 3",
    ]


def test_healthchecks_is_asked_at_start_success_and_failure_by_a_program_of_its_own(tmp_path: Path) -> None:
    """The address, which is a secret of a kind, is in no argument and no environment."""
    play = Play(tmp_path, a_job(every=3600.0))
    with_notify(play, healthchecks="https://hc.example.org/ping/3f2c")
    drive = play.a_drive()
    asked = []

    async def main() -> None:
        async with play.agent() as agent:
            drive.plug()
            while len(asked) < 4:
                running = await agent.started()
                if running.program.argv[0] == sys.executable:
                    assert "3f2c" not in repr((running.program.argv, running.program.env))
                    told = io.BytesIO()
                    assert running.program.stdin is not None
                    running.program.stdin(told)
                    asked.append(json.loads(told.getvalue()))
                    running.end()
                else:
                    running.end(len(asked) // 2)
                    await agent.ended()
                    play.clock.pass_by(3600)
                await agent.quiet()

    run(main)
    base = "https://hc.example.org/ping/3f2c"
    paths = [wish["url"].partition("?")[0] for wish in asked]
    assert sorted(paths) == sorted([f"{base}/start", base, f"{base}/start", f"{base}/fail"])
    assert "the command ended with exit code 1" in [wish["text"] for wish in asked]


def test_runs_that_go_on_at_once_are_told_apart_by_their_address() -> None:
    one, other = (_address("http://h/p/?a=b", "/start", run) for run in ("r1", "r2"))
    assert re.fullmatch(r"http://h/p/start\?a=b&rid=[0-9a-f-]{36}", one)
    assert one != other


class Server(BaseHTTPRequestHandler):
    """Says no as often as it is told to, then yes."""

    refusals = 0
    seen: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, body))
        refused = len(self.seen) <= type(self).refusals
        self.send_response(503 if refused else 200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Server]]]:
    handler = type("Handler", (Server,), {"seen": []})
    with HTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/ping/3f2c", handler
        listening.shutdown()
        thread.join()


def test_a_ping_is_posted_and_tried_again(server: tuple[str, type[Server]]) -> None:
    url, handler = server
    handler.refusals = 1
    pauses: list[float] = []
    assert ping.ask(url, "grün", ping._post, pauses.append) is None
    assert handler.seen == [("/ping/3f2c", "grün".encode())] * 2
    assert pauses == [0.0, 2.0]


def test_a_ping_that_nobody_takes_says_why_without_the_address(server: tuple[str, type[Server]]) -> None:
    url, handler = server
    handler.refusals = 99
    refused = ping.ask(url, "", ping._post, lambda seconds: None)
    assert refused == "HTTP Error 503: Service Unavailable"
    assert len(handler.seen) == 3


def test_the_ping_is_a_program_that_reads_its_wish_from_standard_input(
    server: tuple[str, type[Server]],
) -> None:
    url, handler = server
    wish = json.dumps({"url": url, "text": "done"})
    done = run_program(
        [sys.executable, "-m", "usbbackup.ping"], input=wish, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert handler.seen == [("/ping/3f2c", b"done")]


def test_figures_are_in_the_text_format_of_prometheus() -> None:
    jobs = [
        JobFigures("home", 'my "disk"', "8fa2", RUN, RUN),
        JobFigures("music", 'my "disk"', "8fa2", None, replace(RUN, finished=None, outcome=None)),
    ]
    drives = [DriveFigures("a\\b\n", "8fa2", True, 5, 9), DriveFigures("away", "77", False)]
    text = prometheus.text(jobs, drives)
    assert text.startswith(FILE)
    lines = set(text.splitlines())
    labels = 'backup_job="home",drive="my \\"disk\\"",uuid="8fa2"'
    assert lines >= {
        f"usbbackup_last_run_duration_seconds{{{labels}}} 60.5",
        f'usbbackup_last_run_outcome{{{labels},outcome="warning"}} 1',
        f'usbbackup_last_run_outcome{{{labels},outcome="success"}} 0',
        f"usbbackup_last_run_bytes{{{labels}}} 3100000000",
        f"usbbackup_last_run_files{{{labels}}} 412",
        'usbbackup_drive_present{drive="a\\\\b\\n",uuid="8fa2"} 1',
        'usbbackup_drive_free_bytes{drive="a\\\\b\\n",uuid="8fa2"} 5',
        'usbbackup_drive_present{drive="away",uuid="77"} 0',
    }
    assert not any('drive_free_bytes{drive="away"' in line for line in lines)
    assert text.endswith("\n")
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .+|[a-z_]+\{([a-z_]+="([^"\\]|\\.)*",?)+\} [0-9.e+-]+', line), (
            line
        )


def test_the_file_for_prometheus_follows_the_runs(tmp_path: Path) -> None:
    play = Play(tmp_path, a_job())
    where = tmp_path / "usbbackup.prom"
    with_notify(play, prometheus=str(where))
    drive = play.a_drive()

    async def main() -> None:
        async with play.agent() as agent:
            await told(agent)
            assert 'usbbackup_drive_present{drive="backup"' in where.read_text()
            assert re.search(r"last_good_backup_timestamp_seconds\{.*\} 0$", where.read_text(), re.MULTILINE)
            drive.plug()
            (await agent.started()).end()
            await agent.ended()
            await told(agent)

    run(main)
    assert re.search(r'last_run_outcome\{.*outcome="success"\} 1$', where.read_text(), re.MULTILINE)
    assert re.search(r"drive_free_bytes\{.*\} [1-9]", where.read_text())
    assert where.stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_written_is_a_line_in_the_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    play = Play(tmp_path, a_job())
    with_notify(play, prometheus=str(tmp_path / "missing/usbbackup.prom"))

    async def main() -> None:
        async with play.agent() as agent:
            await told(agent)

    run(main)
    assert "usbbackup.prom cannot be written: No such file or directory" in caplog.text
