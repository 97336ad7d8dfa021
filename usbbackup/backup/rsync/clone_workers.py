"""The clone of a large snapshot as a program of its own: several processes fill their parts side by side.

Threads would not do, they would wait for each other's Python; the agent, which has threads, must not fork.
So this is started first, as one process with one thread, and forks. It is given open files by number, and
tells on stdout `linked N` and `listed N` as it goes, and `errno N` where the drive does not do.
"""

import os
import sys
from collections.abc import Callable

from usbbackup.backup.manifest import Manifest
from usbbackup.backup.rsync.clone import Order, Part, clone
from usbbackup.files import Held

NOTHING = -1  # instead of a file
_TROUBLE = 1  # exit code


def main() -> None:
    """Read the arguments that `cloning.program` makes, and do it; in the folder of the job."""
    stage, folder, start, listed, split, now, before, workers, *singles = sys.argv[1:]
    job = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    order = Order(job, stage, folder, int(start), Held(int(listed)), Held(int(split)))
    old = None if int(before) == NOTHING else Manifest(Held(int(before)))
    paths = [os.fsencode(single) for single in singles]
    try:
        clone(order, Manifest(Held(int(now))), old, paths, side_by_side, int(workers), tell)
    except OSError as error:
        say(f"errno {error.errno or 0}")
        sys.exit(_TROUBLE)


def side_by_side(fill: Callable[[Part], None], parts: list[Part]) -> None:
    """Fill each part in a process of its own. Raises OSError where one of them could not."""
    children = [_forked(fill, part) for part in parts]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(_TROUBLE)


def _forked(fill: Callable[[Part], None], part: Part) -> int:
    if child := os.fork():
        return child
    code = _TROUBLE
    try:
        fill(part)
        code = 0
    except OSError as error:
        say(f"errno {error.errno or 0}")
    finally:
        os._exit(code)


def tell(linked: int, listed: int) -> None:
    """Say how far it is."""
    say(f"linked {linked}\nlisted {listed}")


def say(words: str) -> None:
    """Write whole lines at once, as others write to the same pipe."""
    os.write(1, words.encode() + b"\n")
