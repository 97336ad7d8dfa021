"""An agent whose only drive is a directory: lines on standard input plug it in and pull it out.

python -m demo.agent DIRECTORY
"""

import asyncio
import os
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

    async def obey() -> int:
        loop = asyncio.get_running_loop()
        hands = {"plug": drive.plug, "pull": drive.pull}
        loop.add_reader(sys.stdin.fileno(), lambda: hands[sys.stdin.readline().strip()]())
        return await daemon.live(world)

    return daemon.run(world, obey)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
