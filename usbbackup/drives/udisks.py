"""What is asked of UDisks2: mount and unmount, unlock and lock, switch off (udisks.freedesktop.org/docs).

Nobody is ever asked for a password by it: a backup happens without anybody there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from usbbackup.bus import Answer, Bus, BusError, NobodyThereError, Place, Typed
from usbbackup.drives import remedies
from usbbackup.drives.udev import Device
from usbbackup.errors import NotNowError
from usbbackup.text import safe

SERVICE = "org.freedesktop.UDisks2"
BLOCK, DRIVE = f"{SERVICE}.Block", f"{SERVICE}.Drive"
FILESYSTEM, ENCRYPTED = f"{SERVICE}.Filesystem", f"{SERVICE}.Encrypted"
MANAGER = Place(SERVICE, "/org/freedesktop/UDisks2/Manager", f"{SERVICE}.Manager")
PROPERTIES = "org.freedesktop.DBus.Properties"
QUIETLY = {"auth.no_user_interaction": Typed("b", True)}
NOTHING = "/"  # the object path that stands for none

_ERROR = f"{SERVICE}.Error."
_DONE_ALREADY = (f"{_ERROR}AlreadyMounted", f"{_ERROR}NotMounted")


class BusyError(NotNowError):
    """Something holds the drive."""


class Disks(Protocol):
    """Who mounts and lets go of drives; UDisks2, or a test. All raise NotNowError with the reason."""

    async def mount(self, device: Device) -> None:
        """Mount it where such drives are mounted; done already is as good."""
        ...

    async def unmount(self, device: Device) -> None:
        """Unmount it once, never by force. Raises BusyError while a program holds it."""
        ...

    async def unlock(self, container: Device, secret: bytes) -> None:
        """Open a LUKS container."""
        ...

    async def lock(self, container: Device) -> None:
        """Close a LUKS container."""
        ...

    async def power_off(self, device: Device) -> bool:
        """Switch the whole drive off; False where it is one that cannot be."""
        ...


@dataclass(frozen=True)
class _Deed:
    """One thing to ask for: its method, the polkit action that it needs, and what a user can do instead."""

    verb: str
    interface: str
    method: str
    action: str
    remedy: Callable[[Device], str]


_MOUNT = _Deed("mount", FILESYSTEM, "Mount", "filesystem-mount", remedies.mount)
_MOUNT_SYSTEM = replace(_MOUNT, action="filesystem-mount-system")  # a drive that UDisks2 thinks built in
_UNMOUNT = _Deed("unmount", FILESYSTEM, "Unmount", "filesystem-unmount-others", remedies.unmount)
_UNLOCK = _Deed("unlock", ENCRYPTED, "Unlock", "encrypted-unlock", remedies.unlock)
_LOCK = _Deed("lock", ENCRYPTED, "Lock", "encrypted-lock-others", remedies.lock)
_POWER_OFF = _Deed("switch off", DRIVE, "PowerOff", "power-off-drive", remedies.power_off)
_EJECT = _Deed("eject", DRIVE, "Eject", "eject-media", remedies.power_off)


class UDisks:
    """The UDisks2 of this machine."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def mount(self, device: Device) -> None:
        """As `udisksctl mount`."""
        path = await self._object(device)
        system = await self._property(path, BLOCK, "HintSystem")
        await self._ask(_MOUNT_SYSTEM if system else _MOUNT, device, path)

    async def unmount(self, device: Device) -> None:
        """As `udisksctl unmount`."""
        await self._ask(_UNMOUNT, device, await self._object(device))

    async def unlock(self, container: Device, secret: bytes) -> None:
        """As `udisksctl unlock`, with the secret as the contents of a key file: it may be any bytes."""
        options = QUIETLY | {"keyfile_contents": Typed("ay", secret)}
        await self._ask(_UNLOCK, container, await self._object(container), "sa{sv}", "", options)

    async def lock(self, container: Device) -> None:
        """As `udisksctl lock`."""
        await self._ask(_LOCK, container, await self._object(container))

    async def power_off(self, device: Device) -> bool:
        """As `udisksctl power-off`; a card reader, which cannot be switched off, lets go of its card."""
        drive = await self._drive(await self._object(device))
        if drive == NOTHING:
            return False
        if await self._property(drive, DRIVE, "CanPowerOff"):
            await self._ask(_POWER_OFF, device, drive)
            return True
        if await self._property(drive, DRIVE, "Ejectable"):
            await self._ask(_EJECT, device, drive)
        return False

    async def _drive(self, path: str) -> str:
        """The drive that a block device, or the container that it is in, belongs to."""
        container = str(await self._property(path, BLOCK, "CryptoBackingDevice"))
        return str(await self._property(path if container == NOTHING else container, BLOCK, "Drive"))

    async def _object(self, device: Device) -> str:
        wanted = {"path": Typed("s", device.devnode)}
        (paths,) = await self._call(MANAGER, "ResolveDevice", "a{sv}a{sv}", wanted, {})
        if not paths:
            raise NotNowError(f"UDisks2 does not know {safe(device.devnode)}.", remedies.mount(device))
        return str(paths[0])

    async def _property(self, path: str, interface: str, name: str) -> object:
        (value,) = await self._call(MANAGER.at(path, PROPERTIES), "Get", "ss", interface, name)
        return value

    async def _call(self, place: Place, method: str, signature: str, *body: object) -> Answer:
        """Ask for what needs no permission."""
        try:
            return await self._bus.call(place, method, signature, *body)
        except BusError as error:
            raise _absent(error) or NotNowError(f"{error.message}.") from error

    async def _ask(
        self, deed: _Deed, device: Device, path: str, signature: str = "a{sv}", *body: object
    ) -> None:
        place = MANAGER.at(path, deed.interface)
        try:
            await self._bus.call(place, deed.method, signature, *(body or (QUIETLY,)))
        except BusError as error:
            if error.name not in _DONE_ALREADY:
                raise _refusal(error, deed, device) from error


def _absent(error: BusError) -> NotNowError | None:
    match error:
        case NobodyThereError(name=""):
            return NotNowError(f"UDisks2 cannot be asked: {error.message}.", error.hint)
        case NobodyThereError():
            return NotNowError("UDisks2 is not there.", "Install the package udisks2.")
        case _:
            return None


def _refusal(error: BusError, deed: _Deed, device: Device) -> NotNowError:
    """What it means to a person that something was not done."""
    what = f"UDisks2 did not {deed.verb} {safe(device.devnode)}"
    remedy = deed.remedy(device)
    match error.name.removeprefix(_ERROR):
        case name if name.startswith("NotAuthorized"):
            action = f"org.freedesktop.udisks2.{deed.action}"
            return NotNowError(f"{what}: polkit does not allow {action} here.", remedy)
        case "DeviceBusy":
            return BusyError(f"{what}: something holds it.", remedy)
        case _:
            return _absent(error) or NotNowError(f"{what}: {error.message}.", remedy)
