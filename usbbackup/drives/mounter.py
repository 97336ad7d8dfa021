"""Mounts and unlocks drives that nobody else does, and lets go of those that are to be unplugged."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

from usbbackup.clock import Timer
from usbbackup.config import Unlock
from usbbackup.drives import automount, ready, remedies
from usbbackup.drives.eject import eject
from usbbackup.drives.monitor import Obstacle, Seen
from usbbackup.drives.ready import Waiting, Why
from usbbackup.drives.sighting import Sighting, Sights
from usbbackup.drives.udev import Device
from usbbackup.drives.udisks import BusyError, Disks
from usbbackup.errors import NotNowError, UsbbackupError
from usbbackup.offload import in_thread
from usbbackup.otp import NO_REPLY, Continue, ExitedError, Sender, Server, Target, call, cast, reply
from usbbackup.outcome import Stop
from usbbackup.passcommand import NoSecret, Secret, passphrase
from usbbackup.programs import Programs
from usbbackup.text import safe

MOUNTER = "mounter"
VISIT_SECONDS = 60.0  # a mount point that answers later than this mounts nothing
PATIENCE = 10.0  # seconds that everybody else has to mount a drive
RETRIES = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)  # seconds between attempts to let go of a busy drive

What = Literal["mounted", "unlocked", "refused", "held", "kept", "safe"]


class Hands(Sights, Protocol):
    """What the mounter needs beside what the monitor does; a part of the agent's world."""

    programs: Programs
    disks: Disks


@dataclass(frozen=True)
class LetGo:
    """Cast: the drive's jobs are done; do what its `after` says, however long a program may hold it."""

    uuid: str


@dataclass(frozen=True)
class Eject:
    """Make a drive safe to unplug now; a call answers with a sentence, or the UsbbackupError in the way."""

    uuid: str


@dataclass(frozen=True)
class Handled:
    """Told to the audience: what was done with a drive, or what keeps it from being done."""

    uuid: str
    name: str
    what: What
    sentence: str


@dataclass(frozen=True)
class _Crashed:
    """What was done beside the mailbox failed as nothing should."""

    error: Exception


@dataclass
class _Drive:
    """What is remembered of a drive for as long as it stays."""

    device: Device
    seen_mounted: bool = False  # whoever unmounts it wants to have it so
    asked: set[Why] = field(default_factory=set)
    attempts: int = 0  # to let go of it
    timer: Timer | None = None
    task: "asyncio.Task[None] | None" = None


class Mounter(Server):
    """Hears of drives from the monitor; works on each at most once at a time, and never waits itself."""

    trap_exits = True

    def __init__(self, hands: Hands, monitor: Target, audience: Sequence[Target]) -> None:
        self._hands, self._monitor, self._audience = hands, monitor, audience

    async def init(self) -> Continue:
        """Know of no drive."""
        self._drives: dict[str, _Drive] = {}
        self._sightings: dict[str, Sighting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unlocked: set[str] = set()  # UUIDs of the file systems inside
        return Continue()

    async def handle_continue(self, argument: object) -> None:
        """Started again, ask for what was told before."""
        with suppress(ExitedError):
            self._see(await call(self._monitor, "sightings"))

    async def handle_cast(self, message: object) -> None:
        """News of drives, the end of their jobs, and what the user wants."""
        match message:
            case Seen(sightings):
                self._see(sightings)
            case LetGo(uuid) if uuid in self._drives:
                self._drives[uuid].attempts = 0
                self._let_go(uuid)
            case Eject(uuid) if uuid in self._drives:
                sighting = self._sightings[uuid]
                self._work(uuid, lambda: self._eject_by_hand(sighting, lambda answer: None))

    async def handle_call(self, request: object, sender: Sender) -> object:
        """Eject a drive because the user says so; it is answered when that is done."""
        match request:
            case Eject(uuid) if uuid in self._drives:
                sighting = self._sightings[uuid]
                self._work(uuid, lambda: self._eject_by_hand(sighting, lambda answer: reply(sender, answer)))
                return NO_REPLY
            case Eject():
                return NotNowError("The drive is not plugged in.")
            case _:
                return await super().handle_call(request, sender)

    async def handle_info(self, message: object) -> None:
        """A time has come."""
        match message:
            case ("mount", str(uuid)) if self._waits(uuid, Why.NOT_MOUNTED):
                self._work(uuid, lambda: self._mount(self._sightings[uuid]))
            case ("let go", str(uuid)) if uuid in self._drives:
                self._let_go(uuid)
            case _Crashed(error):
                raise error

    async def terminate(self, reason: object) -> None:
        """Begin nothing more."""
        for uuid in list(self._drives):
            self._forget(uuid)
        for task in self._tasks:
            task.cancel()

    def _see(self, sightings: Sequence[Sighting]) -> None:
        self._sightings = {sighting.uuid: sighting for sighting in sightings}
        here = {uuid: s.verdict.device for uuid, s in self._sightings.items() if s.verdict.device}
        for uuid, drive in list(self._drives.items()):
            if uuid not in here or not _same_stay(drive.device, here[uuid]):
                self._forget(uuid)
        for uuid, device in here.items():
            drive = self._drives.setdefault(uuid, _Drive(device))
            drive.device = device
            drive.seen_mounted |= self._sightings[uuid].verdict.row is not None
            self._consider(self._sightings[uuid], drive)

    def _forget(self, uuid: str) -> None:
        """It has left; what is being done with it finds that out by itself, or was what made it leave."""
        drive = self._drives.pop(uuid)
        if drive.timer is not None:
            drive.timer.cancel()
        self._unlocked.discard(uuid)

    def _consider(self, sighting: Sighting, drive: _Drive) -> None:
        entry, uuid = sighting.verdict.drive, sighting.uuid
        match sighting.decision:
            case Waiting(Why.LOCKED) if entry.unlock and Why.LOCKED not in drive.asked:
                drive.asked.add(Why.LOCKED)
                unlock = entry.unlock
                self._work(uuid, lambda: self._unlock(sighting, unlock))
            case Waiting(Why.NOT_MOUNTED) if entry.mount == "auto" and _is_ours(sighting):
                if not drive.seen_mounted and Why.NOT_MOUNTED not in drive.asked:
                    drive.asked.add(Why.NOT_MOUNTED)
                    self._later(drive, PATIENCE, ("mount", uuid))

    def _waits(self, uuid: str, why: Why) -> bool:
        sighting = self._sightings.get(uuid)
        return (
            sighting is not None and isinstance(sighting.decision, Waiting) and sighting.decision.why is why
        )

    def _later(self, drive: _Drive, seconds: float, message: object) -> None:
        if drive.timer is not None:
            drive.timer.cancel()
        drive.timer = self._hands.clock.later(seconds, lambda: self.pid.deliver(message))

    def _work(self, uuid: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it beside the mailbox, after whatever is being done with that drive already."""
        before = self._drives[uuid].task

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait({before})
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - it is this process that fails
                self.pid.deliver(_Crashed(error))

        task = self._drives[uuid].task = asyncio.create_task(in_turn())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _mount(self, sighting: Sighting) -> None:
        if (device := sighting.verdict.device) is None:
            return
        try:
            if await self._automounted(sighting, device):
                return
            await self._hands.disks.mount(device)
        except NotNowError as error:
            self._stands_in_the_way(sighting, error)
        else:
            self._tell(sighting, "mounted", "UDisks2 was asked to mount it, since nobody else had.")

    async def _automounted(self, sighting: Sighting, device: Device) -> bool:
        """Open the mount point that waits for it, once; was it mounted by that? Raises NotNowError."""
        mounts, lookups = self._hands.mounts, self._hands.lookups
        place = automount.awaiting(sighting.verdict.record, mounts.read())
        if place is None:
            return False
        try:
            async with asyncio.timeout(VISIT_SECONDS):
                await in_thread(mounts.visit, place)
        except OSError as error:  # also a TimeoutError
            how = error.strerror or f"no answer within {VISIT_SECONDS:.0f} s"
            reason = f"Opening {safe(place)}, where it is mounted on demand, did not mount the drive: {how}."
            raise NotNowError(reason, remedies.mount(device)) from error
        if not ready.mount_rows(device, mounts.read(), lookups):
            return False  # something else is mounted there by now
        self._tell(sighting, "mounted", f"It was mounted by opening {safe(place)}, which waited for that.")
        return True

    async def _unlock(self, sighting: Sighting, how: Unlock) -> None:
        hands, container = self._hands, sighting.verdict.device
        if container is None:
            return
        try:
            secret = await passphrase(how.passcommand, hands.programs, hands.clock, Stop())
            if isinstance(secret, NoSecret):
                raise NotNowError(
                    f"The drive is locked, and its passcommand {secret.reason}.",
                    "Unlock your keyring and plug the drive in again, or unlock it in the file manager.",
                )
            await self._open(container, secret)
        except UsbbackupError as error:
            self._stands_in_the_way(sighting, error)
        else:
            self._unlocked.add(sighting.uuid)
            self._tell(
                sighting, "unlocked", "Its container was opened with the passphrase of your passcommand."
            )

    async def _open(self, container: Device, secret: Secret) -> None:
        """Of a passphrase the last new line is no part; of a key file it is (cryptsetup-open(8))."""
        try:
            await self._hands.disks.unlock(container, secret.value)
        except NotNowError:
            if secret.printed == secret.value:
                raise
            await self._hands.disks.unlock(container, secret.printed)

    def _stands_in_the_way(self, sighting: Sighting, error: UsbbackupError) -> None:
        cast(self._monitor, Obstacle(sighting.uuid, error.message, error.hint))
        self._tell(sighting, "refused", _whole(error))

    def _let_go(self, uuid: str) -> None:
        self._work(uuid, lambda: self._try_to_let_go(uuid))

    async def _try_to_let_go(self, uuid: str) -> None:
        drive, sighting = self._drives.get(uuid), self._sightings.get(uuid)
        if drive is None or sighting is None:
            return  # it has left
        try:
            entry = sighting.verdict.drive
            sentence = await self._eject(sighting, power_off=entry.after == "power-off", lock=False)
        except BusyError as error:
            if drive.attempts == 0:
                self._tell(sighting, "held", _whole(error))
            if drive.attempts < len(RETRIES):
                self._later(drive, RETRIES[drive.attempts], ("let go", uuid))
            drive.attempts += 1
        except NotNowError as error:
            self._tell(sighting, "kept", _whole(error))
        else:
            self._tell(sighting, "safe", sentence)

    async def _eject_by_hand(self, sighting: Sighting, answer: Callable[[object], None]) -> None:
        try:
            sentence = await self._eject(sighting, power_off=True, lock=True)
        except UsbbackupError as error:
            self._tell(sighting, "kept", _whole(error))
            answer(error)
        else:
            self._tell(sighting, "safe", sentence)
            answer(sentence)

    async def _eject(self, sighting: Sighting, *, power_off: bool, lock: bool) -> str:
        ours = sighting.uuid in self._unlocked
        return await ejected(sighting, self._hands, power_off=power_off, lock=lock or ours)

    def _tell(self, sighting: Sighting, what: What, sentence: str) -> None:
        for listener in self._audience:
            cast(listener, Handled(sighting.uuid, sighting.name, what, sentence))


def _same_stay(before: Device, now: Device) -> bool:
    """Still the same disk? One that was locked and now is open is."""
    opened = before.sys_name in now.slaves or now.sys_name in before.slaves
    return opened or before.diskseq == now.diskseq


def _whole(error: UsbbackupError) -> str:
    return " ".join(filter(None, (error.message, error.hint)))


def _is_ours(sighting: Sighting) -> bool:
    return sighting.verdict.record is not None or sighting.verdict.drive.trust == "label"


async def ejected(sighting: Sighting, hands: Hands, *, power_off: bool, lock: bool) -> str:
    """Make a drive safe to unplug, and keep it so for as long as it stays. Raises NotNowError."""
    device, record = sighting.verdict.device, sighting.verdict.record
    if device is None:
        raise NotNowError("The drive is not plugged in.")
    if record is not None:  # before it is unmounted: afterwards nobody shall mount it again
        hands.records.eject(record.uuid, ready.stay(device, hands.lookups))
    try:
        return await eject(device, hands, hands.disks, lock=lock, power_off=power_off)
    except BaseException:
        if record is not None:
            hands.records.eject(record.uuid, None)
        raise
