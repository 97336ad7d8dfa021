"""An agent in a played world: tree, history, folders are real; drives, time and programs the test's."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from demo.directory_drive import DirectoryDrive, FakeLookups, FakeMountTable, FakeUdev
from usbbackup.agent.desk import Picture
from usbbackup.agent.dispatcher import Wish
from usbbackup.agent.events import Event
from usbbackup.agent.notices import Action, Notice
from usbbackup.agent.run import DISPATCHER
from usbbackup.agent.tree import MONITOR, tree
from usbbackup.agent.upower import Supply
from usbbackup.agent.world import World
from usbbackup.bus import BusError, NobodyThereError
from usbbackup.clock import SystemClock, Timer
from usbbackup.config import Config, DriveConfig, JobConfig
from usbbackup.drives import enrolment
from usbbackup.drives.host import Host
from usbbackup.drives.monitor import LookAgain
from usbbackup.drives.mounter import MOUNTER
from usbbackup.drives.udev import Device
from usbbackup.drives.udisks import BusyError
from usbbackup.errors import ConfigError, NotNowError
from usbbackup.history import History, RunRecord
from usbbackup.otp import Pid, call, cast, start, stop
from usbbackup.outcome import Stop
from usbbackup.paths import Paths
from usbbackup.programs import Ended, Program

NOON = 1_800_000_000.0


@dataclass(eq=False)
class _Due:
    when: float
    callback: Callable[[], None]
    timers: "list[_Due]"

    def cancel(self) -> None:
        if self in self.timers:
            self.timers.remove(self)


class HandClock(SystemClock):
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.wall, self.up, self.slept = NOON, 1000.0, 0.0
        self.walls: list[_Due] = []
        self.laters: list[_Due] = []

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.up

    def boottime(self) -> float:
        return self.up + self.slept

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.laters.append(_Due(self.up + seconds, callback, self.laters))
        return self.laters[-1]

    def at(self, wall: float, callback: Callable[[], None]) -> Timer:
        self.walls.append(_Due(wall, callback, self.walls))
        return self.walls[-1]

    @property
    def soon(self) -> list[_Due]:
        """The wall timers of this year; one further away waits for the clock to be set."""
        return [due for due in self.walls if due.when < self.wall + 365 * 86400]

    def sleep(self, seconds: float) -> None:
        """The machine sleeps and wakes: timers of the wall clock say so, whenever they are due."""
        self.wall += seconds
        self.slept += seconds
        for due in list(self.walls):
            due.cancel()
            due.callback()

    def pass_by(self, seconds: float) -> None:
        """Let time pass; what falls due is called in order."""
        self.wall += seconds
        self.up += seconds
        for timers, now in ((self.laters, self.up), (self.walls, self.wall)):
            for due in sorted(timers, key=lambda due: due.when):
                if due.when <= now and due in timers:
                    timers.remove(due)
                    due.callback()


@dataclass(eq=False)
class Running:
    """A program that runs until the test, or a wish to stop, ends it."""

    program: Program
    on_stdout: Callable[[bytes], None] | None = None
    ended: "asyncio.Future[Ended]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def job(self) -> str:
        return str(self.program.env["USBBACKUP_JOB"])

    @property
    def event(self) -> str:
        """What `notify.command` was told of."""
        return str(self.program.env["USBBACKUP_EVENT"])

    def say(self, words: bytes) -> None:
        assert self.on_stdout is not None
        self.on_stdout(words)

    def end(self, code: int = 0, left: tuple[int, ...] = ()) -> None:
        if not self.ended.done():
            self.ended.set_result(Ended(code, left=left))


class PlayedPrograms:
    """Runs nothing; tells the test what should run."""

    def __init__(self) -> None:
        self.started: asyncio.Queue[Running] = asyncio.Queue()
        self.now: list[Running] = []

    async def run(
        self,
        program: Program,
        *,
        stop: Stop,
        on_stdout: Callable[[bytes], None] | None = None,
        on_stderr: object = None,
        on_start: Callable[[int, int], None] | None = None,
    ) -> Ended:
        running = Running(program, on_stdout)
        stop.on_set(lambda: running.end(-15))
        self.now.append(running)
        self.started.put_nowait(running)
        try:
            return await running.ended
        finally:
            self.now.remove(running)


class PlayedDisks:
    """A UDisks2 that does to played drives what the real one does to real ones."""

    def __init__(self) -> None:
        self.drives: list[DirectoryDrive] = []
        self.asked: list[str] = []
        self.refuses: NotNowError | None = None
        self.held = False  # by some program
        self.has_switch = True
        self.leaves_late = False  # the kernel notices only when the test says so
        self.opens: Callable[[bytes], None] = lambda secret: None
        self.closes: Callable[[], None] = lambda: None

    async def mount(self, device: Device) -> None:
        self._ask("mount", device)
        self._of(device).mount()

    async def unmount(self, device: Device) -> None:
        self._ask("unmount", device)
        if self.held:
            raise BusyError("something holds it")
        self._of(device).unmount()

    async def unlock(self, container: Device, secret: bytes) -> None:
        self._ask("unlock", container)
        self.opens(secret)

    async def lock(self, container: Device) -> None:
        self._ask("lock", container)
        self.closes()

    async def power_off(self, device: Device) -> bool:
        self._ask("power off", device)
        if self.has_switch and not self.leaves_late:
            self._of(device).pull()
        return self.has_switch

    def _ask(self, verb: str, device: Device) -> None:
        self.asked.append(verb)
        if self.refuses is not None:
            raise self.refuses

    def _of(self, device: Device) -> DirectoryDrive:
        return next(drive for drive in self.drives if drive.device.sys_name == device.sys_name)


class PlayedDesktop:
    """A desktop that shows what it is given, and lets the test choose."""

    def __init__(self) -> None:
        self.now: dict[int, Notice] = {}  # what stands on the screen
        self.told: list[str] = []  # every summary, in order
        self.absent = ""  # why there is none
        self.chosen: Callable[[int, Action], None] = lambda number, action: None

    async def show(self, notice: Notice, replaces: int = 0) -> int:
        self._must_be_there()
        number = replaces or len(self.told) + 1
        self.now[number] = notice
        self.told.append(notice.summary)
        return number

    async def withdraw(self, number: int) -> None:
        self._must_be_there()
        self.now.pop(number, None)

    async def listen(self, chosen: Callable[[int, Action], None]) -> None:
        self._must_be_there()
        self.chosen = chosen

    def _must_be_there(self) -> None:
        if self.absent:
            raise NobodyThereError("", self.absent)


class PlayedLogin:
    """A logind that gives out what the test can count."""

    def __init__(self) -> None:
        self.refuses: BusError | None = None
        self.asked = 0
        self.given: list[int] = []

    async def inhibit(self, why: str) -> list[int]:
        self.asked += 1
        if self.refuses is not None:
            raise self.refuses
        self.given += (locks := list(os.pipe()))
        return locks

    @property
    def held(self) -> bool:
        return any(Path(f"/proc/self/fd/{lock}").exists() for lock in self.given)


class PlayedBattery:
    """A battery as full as the test says."""

    def __init__(self) -> None:
        self.now = Supply(False, 100.0)
        self.absent: BusError | None = None
        self._changed: Callable[[], None] = lambda: None

    async def supply(self) -> Supply:
        if self.absent is not None:
            raise self.absent
        return self.now

    async def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def be(self, on_battery: bool, percent: float) -> None:
        self.now = Supply(on_battery, percent)
        self._changed()


class Silent:
    """A service manager that only listens."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, *assignments: str) -> None:
        self.told += assignments


def a_job(name: str = "script", **more: object) -> JobConfig:
    """A job of the user's own script."""
    return JobConfig(name=name, engine="command", command=("true",), **more)  # type: ignore[arg-type]


class Play:
    """The stage: a temporary home, a played udev and mount table, an agent that starts and ends."""

    def __init__(
        self, directory: Path, *jobs: JobConfig, drives: tuple[DriveConfig, ...] | None = None
    ) -> None:
        self.directory = directory
        self.udev, self.mounts, self.clock = FakeUdev(), FakeMountTable(), HandClock()
        home = directory / "home"
        (directory / "run").mkdir(mode=0o700, exist_ok=True)
        self.env = {"HOME": str(home), "XDG_RUNTIME_DIR": str(directory / "run")}
        self.paths = Paths.of(self.env)
        self.config = Config(jobs=jobs, **({"drives": drives} if drives else {}))  # type: ignore[arg-type]
        self.programs = PlayedPrograms()
        self.disks, self.desktop = PlayedDisks(), PlayedDesktop()
        self.login, self.battery = PlayedLogin(), PlayedBattery()
        self.manager = Silent()
        self.host = Host("1a2b3c4d", "host", "david")
        self.world = self.new_world()

    def new_world(self) -> World:
        return World(
            config=self.config,
            load=self._load,
            paths=self.paths,
            env=self.env,
            clock=self.clock,
            udev=self.udev,
            mounts=self.mounts,
            lookups=FakeLookups(),
            programs=self.programs,
            manager=self.manager,
            host=self.host,
            disks=self.disks,
            desktop=self.desktop,
            login=self.login,
            battery=self.battery,
        )

    def _load(self) -> Config:
        if self.config is None:
            raise ConfigError("config.yaml:1:1: nothing is right")
        return self.config

    def a_drive(self, name: str = "drive", *, enrolled: bool = True, **more: str) -> DirectoryDrive:
        """A drive that is not plugged in yet."""
        root = self.directory / name
        root.mkdir()
        drive = DirectoryDrive(self.udev, self.mounts, root, **more)  # type: ignore[arg-type]
        self.disks.drives.append(drive)
        if enrolled:
            self.enrol(drive)
        return drive

    def enrol(self, drive: DirectoryDrive) -> None:
        """As `usbbackup drives enrol` does."""
        was = drive.row
        row = was or drive.mount()
        enrolment.enrol(
            drive.device,
            row,
            self.host,
            self.world.records,
            name=drive.device.fs_label or "",
            now=self.clock.now(),
        )
        if was is None:
            drive.unmount()

    @asynccontextmanager
    async def agent(self) -> AsyncIterator["Agent"]:
        """The whole tree, until the block ends."""
        world = self.world = self.new_world()
        root = world.root = await start(tree(world), name="usbbackup")
        try:
            with world.hub.stream() as events:
                agent = Agent(self, world, root, events)
                await agent.settled()
                yield agent
        finally:
            await stop(root, "shutdown")

    def history(self) -> list[RunRecord]:
        """The runs, oldest first."""
        history = History.open(self.paths.history_db, self.clock, readonly=True)
        try:
            return list(reversed(history.runs()))
        finally:
            history.close()

    def reasons(self, **about: str) -> list[tuple[str, str]]:
        """Verdicts and reasons, oldest first."""
        history = History.open(self.paths.history_db, self.clock, readonly=True)
        try:
            return [(d.verdict, d.reason) for d in reversed(history.decisions(**about))]
        finally:
            history.close()


@dataclass
class Agent:
    """A running agent, asked and watched by a test."""

    play: Play
    world: World
    root: Pid
    events: AsyncIterator[Event]

    async def settled(self) -> None:
        """Wait until drives have been tried and the dispatcher has heard of it."""
        await call(self.world.registry.via(MONITOR), "settled", None)
        await call(self.world.registry.via(DISPATCHER), "picture", None)

    async def busy(self) -> None:
        """Let udev's news be gathered; wait until what is done beside the mailboxes is done and told."""
        self.play.clock.pass_by(0.3)
        await self.quiet()
        while self._beside() and not self.play.programs.now:
            await asyncio.wait(self._beside(), timeout=20)
            await self.quiet()
        await self.settled()
        await self.quiet()

    def _beside(self) -> set[asyncio.Task[None]]:
        mounter = self.world.registry.whereis(MOUNTER)
        return set() if mounter is None else set(mounter.server._tasks)  # type: ignore[union-attr]

    async def look_again(self) -> None:
        cast(self.world.registry.via(MONITOR), LookAgain())
        await self.settled()

    async def started(self) -> Running:
        """The next program that is started."""
        return await asyncio.wait_for(self.play.programs.started.get(), 20)

    async def ended(self) -> Event:
        """The next run that ends, once the dispatcher has heard of it."""
        async with asyncio.timeout(20):
            async for event in self.events:
                if event.event == "ended":
                    break
        await self.quiet()
        return event

    async def quiet(self) -> None:
        """Wait until the dispatcher has handled what has happened so far."""
        for _ in range(5):
            await asyncio.sleep(0)
            await call(self.world.registry.via(DISPATCHER), "picture", None)

    def pid(self, name: Hashable) -> Pid:
        found = self.world.registry.whereis(name)
        assert found is not None
        return found

    async def picture(self) -> Picture:
        """What the dispatcher knows."""
        picture: Picture = await call(self.world.registry.via(DISPATCHER), "picture", None)
        return picture

    async def wish(self, job: JobConfig, uuid: str) -> object:
        return await call(self.world.registry.via(DISPATCHER), Wish(((job, uuid),)), None)


def run(main: Callable[[], object]) -> None:
    """Run a test; afterwards no task is left."""

    async def guarded() -> None:
        await main()  # type: ignore[misc]
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left

    asyncio.run(guarded())
