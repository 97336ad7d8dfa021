"""Manners: no sleep in mid-run, no run on a low battery, no trust in a drive after sleep."""

from contextlib import ExitStack

from usbbackup.agent.events import Event
from usbbackup.agent.journal import story
from usbbackup.agent.login1 import release
from usbbackup.agent.run import DISPATCHER
from usbbackup.agent.world import World
from usbbackup.bus import BusError
from usbbackup.clock import Timer
from usbbackup.drives.monitor import ProveAgain
from usbbackup.otp import Continue, Server, Target, cast
from usbbackup.text import human_duration

MANNERS = "manners"
_NEVER = 50 * 365 * 86400.0  # seconds; such a timer fires only when the clock is set or the machine wakes
_SLEPT = 1.0  # seconds asleep that count


class Manners(Server):
    """Hears of runs from the hub, of sleep from the kernel, and of the battery from UPower."""

    trap_exits = True

    def __init__(self, world: World, monitor: Target) -> None:
        self._world, self._monitor = world, monitor

    async def init(self) -> Continue:
        """Hear of runs and of sleep."""
        self._running: set[str] = set()
        self._locks: list[int] = []
        self._asked = False  # since something runs, be it allowed or not
        self._told: set[str] = set()
        self._watching = False
        self._asleep = self._slept()
        self._timer: Timer | None = None
        self._hearing = ExitStack()
        self._hearing.enter_context(self._world.hub.listening(self.pid.deliver))
        self._wait_for_sleep()
        return Continue()

    async def handle_continue(self, argument: object) -> None:
        """Ask how the battery is."""
        await self._look_at_battery()

    async def handle_cast(self, message: object) -> None:
        """The configuration has changed."""
        await self._look_at_battery()

    async def handle_info(self, message: object) -> None:
        """Something happened to a run, to the clock or to the battery."""
        match message:
            case Event("progress", run=run):
                self._running.add(run)
                await self._stay_awake()
            case Event("ended", run=run):
                self._running.discard(run)
                if not self._running:
                    self._asked = False
                    release(self._locks)
            case "clock":
                self._wake()
            case "battery":
                await self._look_at_battery()

    async def terminate(self, reason: object) -> None:
        """Nothing is asked of the machine any more."""
        self._hearing.close()
        release(self._locks)
        if self._timer is not None:
            self._timer.cancel()

    async def _stay_awake(self) -> None:
        if self._asked:
            return
        self._asked = True
        try:
            self._locks = await self._world.login.inhibit("a backup is being written to a drive")
        except BusError as error:
            self._say_once(f"sleep and shutdown are not held up while backups run: {error.message}")

    def _slept(self) -> float:
        """Seconds asleep since boot."""
        return self._world.clock.boottime() - self._world.clock.monotonic()

    def _wait_for_sleep(self) -> None:
        clock = self._world.clock
        self._timer = clock.at(clock.now() + _NEVER, lambda: self.pid.deliver("clock"))

    def _wake(self) -> None:
        before, self._asleep = self._asleep, self._slept()
        if self._asleep - before >= _SLEPT:
            story.info("slept for %s; drives are proven again", human_duration(self._asleep - before))
            cast(self._monitor, ProveAgain())
        self._wait_for_sleep()

    async def _look_at_battery(self) -> None:
        world, least = self._world, self._world.config.power.min_battery
        before = world.low_battery()
        world.supply = None
        if least is not None:
            try:
                world.supply = await world.battery.supply()
                if not self._watching:
                    await world.battery.watch(lambda: self.pid.deliver("battery"))
                    self._watching = True
            except BusError as error:
                self._say_once(f"min_battery has no effect, the battery cannot be asked: {error.message}")
        if (world.low_battery() is None) is not (before is None):
            cast(world.registry.via(DISPATCHER), "power")

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            story.info("%s", sentence)
