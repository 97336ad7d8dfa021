"""The clone of a large snapshot as a program of its own: several processes fill their parts side by side.

Threads would not do, they would wait for each other's Python; the agent, which has threads, must not fork.
So this is started first, as one process with one thread, and forks. It is given open files by number, and
hears on stdin, each ended by a NUL: up to where the manifest of the sources may be read, whenever the walk
has come further; then the sources that are single files. It tells on stdout `linked N`, `listed N` and
`alike` as it goes, and `errno N` where the drive does not do.
"""

import gc
import os
import sys
from collections.abc import Callable, Iterator

from usbbackup.backup.manifest import Manifest
from usbbackup.backup.rsync.clone import Order, clone
from usbbackup.files import Held

NOTHING = -1  # instead of a file
_TROUBLE = 1  # exit code
_CHUNK = 1 << 16


def main() -> None:
    """Read the arguments that `cloning.program` makes, and do it; in the folder of the job."""
    gc.disable()  # what is left behind is little, and looking for it would copy pages in every child
    stage, folder, start, listed, split, now, before, end, workers = sys.argv[1:]
    job = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    order = Order(job, stage, folder, int(start), Held(int(listed)), Held(int(split)))
    old = None if int(before) == NOTHING else Manifest(Held(int(before)), int(end))
    singles: list[bytes] = []
    try:
        ends = told(singles)
        clone(order, Held(int(now)), ends, old, singles, Crew(int(workers)), int(workers), tell)
    except OSError as error:
        say(f"errno {error.errno or 0}")
        sys.exit(_TROUBLE)


def told(singles: list[bytes]) -> Iterator[int]:
    """The ends, as they are told; in the end `singles` has what follows them."""
    rest = b""
    while chunk := os.read(0, _CHUNK):
        *words, rest = (rest + chunk).split(b"\0")
        numbers = [int(word) for word in words if not word.startswith(b"/")]
        singles += [word for word in words if word.startswith(b"/")]
        yield from numbers[-1:]  # what was told in the meantime is one part


class Crew:
    """Child processes, at most so many at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._children: set[int] = set()

    def begin(self, piece: Callable[[], None]) -> None:
        """Fork; waits for an end where there are enough."""
        while len(self._children) >= self._most:
            self._reap()
        self._children.add(_forked(piece))

    def wait(self) -> None:
        """Wait for all of them."""
        while self._children:
            self._reap()

    def _reap(self) -> None:
        child, status = os.wait()
        self._children.discard(child)
        if os.waitstatus_to_exitcode(status):
            sys.exit(_TROUBLE)  # it has said why


def _forked(piece: Callable[[], None]) -> int:
    if child := os.fork():
        return child
    code = _TROUBLE
    try:
        piece()
        code = 0
    except OSError as error:
        say(f"errno {error.errno or 0}")
    finally:
        os._exit(code)


def tell(linked: int, listed: int, alike: bool) -> None:
    """Say how far it is."""
    say(f"linked {linked}\nlisted {listed}" + "\nalike" * alike)


def say(words: str) -> None:
    """Write whole lines at once, as others write to the same pipe."""
    os.write(1, words.encode() + b"\n")
