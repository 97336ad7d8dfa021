"""An agent with a directory for a drive: lines on standard input plug it in and pull it out, then end it.

python -m demo.agent DIRECTORY
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from demo.directory_drive import DirectoryDrive, FakeLookups, FakeMountTable, FakeUdev
from usbbackup.agent import daemon


def main(directory: Path) -> int:
    """Be the real agent in a world with one emulated drive."""
    world = daemon.real_world(os.environ)
    udev, mounts = FakeUdev(), FakeMountTable()
    world.udev, world.mounts, world.lookups = udev, mounts, FakeLookups()
    drive = DirectoryDrive(udev, mounts, directory)

    hands = {"plug": drive.plug, "pull": drive.pull}

    def hear() -> None:
        if line := sys.stdin.readline():
            hands[line.strip()]()
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin)
            signal.raise_signal(signal.SIGTERM)

    async def obey() -> int:
        asyncio.get_running_loop().add_reader(sys.stdin, hear)
        return await daemon.live(world)

    return daemon.run(world, obey)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
