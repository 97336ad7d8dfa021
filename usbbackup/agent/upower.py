"""What UPower says of the battery (upower.freedesktop.org/docs)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from usbbackup.bus import Bus, Place

SERVICE = "org.freedesktop.UPower"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_ALL = Place(SERVICE, "/org/freedesktop/UPower", _PROPERTIES)
_BATTERY = Place(SERVICE, "/org/freedesktop/UPower/devices/DisplayDevice", _PROPERTIES)


@dataclass(frozen=True)
class Supply:
    """What the machine runs on now."""

    on_battery: bool
    percent: float

    def below(self, least: int | None) -> str | None:
        """Why a backup has to wait, where it is on battery and has less than `least` per cent."""
        if least is None or not self.on_battery or self.percent >= least:
            return None
        return f"the battery has {self.percent:.0f} %, less than min_battery: {least}; it runs on mains power"


class Battery(Protocol):
    """Who knows of the battery. Both verbs raise BusError where nobody does."""

    async def supply(self) -> Supply:
        """How it is now."""
        ...

    async def watch(self, changed: Callable[[], None]) -> None:
        """Call back whenever that may have changed."""
        ...


class UPower:
    """The UPower of this machine; it shows all batteries as one."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def supply(self) -> Supply:
        """Ask."""
        (on_battery,) = await self._bus.call(_ALL, "Get", "ss", SERVICE, "OnBattery")
        (percent,) = await self._bus.call(_BATTERY, "Get", "ss", f"{SERVICE}.Device", "Percentage")
        return Supply(bool(on_battery), float(percent))

    async def watch(self, changed: Callable[[], None]) -> None:
        """Hear of changed properties."""
        for place in (_ALL, _BATTERY):
            await self._bus.listen(place, "PropertiesChanged", lambda _: changed())
