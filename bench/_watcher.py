"""The least that could start a program at a mount: a yardstick. Arguments: mount point, program."""

import os
import select
import subprocess
import sys
from pathlib import Path


def main(mount_point: str, program: str) -> None:
    """Wait for the mount, for ever, and start the program each time."""
    wanted, mounted = f" {mount_point} ".encode(), False
    table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
    changes = select.epoll()
    changes.register(table, select.EPOLLPRI | select.EPOLLERR)
    while True:
        changes.poll()
        was, mounted = mounted, wanted in Path("/proc/self/mountinfo").read_bytes()
        if mounted and not was:
            subprocess.run([program], stdin=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
