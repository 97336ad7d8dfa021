"""Tells programs and other machines how backups go: the user's own command, healthchecks, Prometheus."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO
from uuid import NAMESPACE_URL, uuid5

from usbbackup.agent import desk, prometheus
from usbbackup.agent.events import Event
from usbbackup.agent.historian import ask
from usbbackup.agent.journal import story
from usbbackup.agent.prometheus import DriveFigures, JobFigures
from usbbackup.agent.run import DISPATCHER, HISTORIAN
from usbbackup.agent.stale import Late, Overdue
from usbbackup.agent.status import Last
from usbbackup.agent.world import World
from usbbackup.drives.mounter import Handled
from usbbackup.drives.sighting import Sighting
from usbbackup.drives.survey import space
from usbbackup.errors import UsbbackupError
from usbbackup.files import write_atomically
from usbbackup.offload import in_thread
from usbbackup.otp import Continue, ExitedError, Server, call
from usbbackup.outcome import Outcome, Stop
from usbbackup.programs import Ended, Program
from usbbackup.running import FIRMLY
from usbbackup.text import safe

MESSENGER = "messenger"
TIME_LIMIT = 60.0  # seconds for the user's command
SPACE_SECONDS = 2.0  # a drive that hangs does not tell how much room it has

_PINGS = {"started": "/start", Outcome.SUCCESS: "", Outcome.WARNING: "", Outcome.FAILED: "/fail"}


class Messenger(Server):
    """One message after the other; what cannot be told is a line in the journal and holds nothing up."""

    trap_exits = True

    def __init__(self, world: World) -> None:
        self._world = world

    async def init(self) -> Continue:
        """Hear of runs."""
        self._begun: set[str] = set()
        self._outdated = False
        self._messages: asyncio.Queue[object] = asyncio.Queue()
        self._working = asyncio.create_task(self._work())
        self._hearing = ExitStack()
        self._hearing.enter_context(self._world.hub.listening(self._heard))
        return Continue()

    async def handle_continue(self, argument: object) -> None:
        """What is there is written without waiting for news."""
        self._write_soon()

    async def handle_cast(self, message: object) -> None:
        """What became of a drive, what is overdue, or a new configuration."""
        match message:
            case Handled(what="held" | "safe") | Overdue():
                self._messages.put_nowait(message)
            case "configuration":
                self._write_soon()

    async def handle_info(self, message: object) -> None:
        """A bug of ours ends this process, as any other."""
        if isinstance(message, Exception):
            raise message

    async def terminate(self, reason: object) -> None:
        """Hear no more; a program that is being told is ended at once."""
        self._hearing.close()
        self._working.cancel()
        await asyncio.wait({self._working})

    async def _work(self) -> None:
        """Beside the mailbox, which a program that hangs must not hold up."""
        try:
            while True:
                await self._pass_on(await self._messages.get())
        except Exception as error:  # noqa: BLE001 - it is this process that fails
            self.pid.deliver(error)

    async def _pass_on(self, message: object) -> None:
        match message:
            case Handled(uuid, name, what, sentence):
                await self._command(what, {"DRIVE": name, "UUID": uuid, "MESSAGE": sentence})
            case Overdue(late):
                for one in late:
                    await self._complain(one)
            case Event("progress", run=run) if run not in self._begun:
                self._begun.add(run)
                await self._tell("started", message)
            case Event("ended", run=run, result=result) if result is not None:
                self._begun.discard(run)
                await self._tell(result.outcome, message)
            case "write":
                self._outdated = False
                await self._write()

    def _heard(self, event: Event) -> None:
        if event.event in ("progress", "ended") and not event.dry_run:
            self._messages.put_nowait(event)
        if event.event in ("changed", "ended"):
            self._write_soon()

    def _write_soon(self) -> None:
        if not self._outdated and self._world.config.notify.prometheus is not None:
            self._outdated = True
            self._messages.put_nowait("write")

    # one event

    async def _tell(self, what: str, event: Event) -> None:
        name = await self._name_of(event.drive)
        about = {"JOB": event.job, "DRIVE": name, "UUID": event.drive, "RUN": event.run}
        if event.result is not None:
            about |= {"MESSAGE": event.result.message, "HINT": event.result.hint or ""}
        await self._command(what, about)
        await self._ping(what, event)

    async def _complain(self, late: Late) -> None:
        if late.tell:
            claim = late.claim
            about = {"MESSAGE": late.notice().summary}
            about |= (
                {"JOB": claim.name} if claim.drive is None else {"DRIVE": claim.name, "UUID": claim.drive}
            )
            await self._command("stale", about)

    async def _name_of(self, uuid: str) -> str:
        sightings = await self._sightings() or ()
        return next((sighting.name for sighting in sightings if sighting.uuid == uuid), uuid)

    async def _sightings(self) -> Sequence[Sighting] | None:
        """None while there is no dispatcher: it tells of a change as soon as there is."""
        try:
            picture: desk.Picture = await call(self._world.registry.via(DISPATCHER), "picture", None)
        except ExitedError:
            return None
        return picture.sightings

    async def _command(self, what: str, about: Mapping[str, str]) -> None:
        command = self._world.config.notify.command
        if command is None:
            return
        told = {"EVENT": str(what), **about}
        program = Program(
            command, env={f"USBBACKUP_{name}": value for name, value in told.items()}, stopping=FIRMLY
        )
        await self._run(program, f"notify.command, told of '{what}',")

    async def _ping(self, what: str, event: Event) -> None:
        url = self._world.config.notify.healthchecks
        if url is None or what not in _PINGS:
            return
        text = event.result.message if event.result else ""
        wish = json.dumps({"url": _address(url, _PINGS[what], event.run), "text": text}).encode()

        def feed(pipe: BinaryIO) -> None:
            pipe.write(wish)

        program = Program((sys.executable, "-m", "usbbackup.ping"), stdin=feed, stopping=FIRMLY)
        await self._run(program, "the ping of notify.healthchecks")

    async def _run(self, program: Program, name: str) -> None:
        limit = Stop()
        timer = self._world.clock.later(TIME_LIMIT, lambda: limit.set(Outcome.FAILED, "took too long"))
        try:
            ended = await self._world.programs.run(program, stop=limit)
        except UsbbackupError as error:
            story.warning("%s cannot be run: %s", name, error.message)
            return
        finally:
            timer.cancel()
        if limit or ended.code != 0:
            story.warning("%s %s", name, _how(ended, bool(limit)))

    # figures

    async def _write(self) -> None:
        where = self._world.config.notify.prometheus
        sightings = await self._sightings()
        if where is None or sightings is None:
            return
        content = prometheus.text(await self._jobs(sightings), await self._drives(sightings))
        try:
            await in_thread(lambda: write_atomically(Path(where), content.encode(), mode=0o644))
        except OSError as error:
            story.warning("notify.prometheus: %s cannot be written: %s", safe(where), error.strerror)

    async def _jobs(self, sightings: Sequence[Sighting]) -> list[JobFigures]:
        config, nothing = self._world.config, dict[tuple[str, str], Last]()
        picture = desk.Picture(sightings)
        lasts = await ask(
            self._world.registry.via(HISTORIAN),
            lambda history: desk.last_runs(config, picture, history),
            nothing,
        )
        names = {sighting.uuid: sighting.name for sighting in sightings}
        return [
            JobFigures(job, names[uuid], uuid, last.good, last.run) for (job, uuid), last in lasts.items()
        ]

    async def _drives(self, sightings: Sequence[Sighting]) -> list[DriveFigures]:
        return [await _figures(sighting) for sighting in sightings]


async def _figures(sighting: Sighting) -> DriveFigures:
    verdict = sighting.verdict
    room = None
    if verdict.row is not None:
        try:
            async with asyncio.timeout(SPACE_SECONDS):
                room = await in_thread(space, verdict.row.mount_point)
        except TimeoutError:
            pass
    free, total = room or (None, None)
    return DriveFigures(sighting.name, sighting.uuid, verdict.device is not None, free, total)


def _address(url: str, ending: str, run: str) -> str:
    """The address of an event; `rid` tells apart what runs at once (healthchecks.io/docs, Ping API)."""
    path, _, query = url.partition("?")
    own = f"rid={uuid5(NAMESPACE_URL, f'usbbackup:{run}')}"
    return f"{path.rstrip('/')}{ending}?{f'{query}&{own}' if query else own}"


def _how(ended: Ended, late: bool) -> str:
    if late:
        return f"took longer than {TIME_LIMIT:.0f} s and was ended"
    words = f": {ended.last_words[-1]}" if ended.last_words else ""
    return f"{ended.how}{words}"
