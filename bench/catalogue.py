"""What the catalogue costs: its size, the time to find a file, and the time to note one more snapshot."""

import argparse
import time
from array import array
from collections.abc import Iterator

import _common
from _common import Figure, figure

from usbbackup.backup.catalogue.database import FILE, Catalogue
from usbbackup.backup.catalogue.listing import Listing

IN_ONE = 16  # files in a directory
SIZE, FIND = 150.0, 200.0  # MB and milliseconds wanted for a million files in a hundred snapshots
SECOND = 10**9


def listings(files: int, number: int) -> Iterator[Listing]:
    """All directories; in each snapshot another thousandth of the files has changed."""
    for start in range(0, files, IN_ONE):
        names = b"\0".join(b"IMG_%07d.jpg" % n for n in range(start, start + IN_ONE))
        times = array("q", [1_700_000_000 * SECOND] * IN_ONE)
        if start // IN_ONE % 62 == number % 62:  # one file in every 62nd directory: a thousandth of all
            times[number % IN_ONE] += number * SECOND
        path = b"/home/david/pictures/%06d" % (start // IN_ONE)
        yield Listing(path, names, array("q", range(start, start + IN_ONE)), times)


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """Fill it, then ask."""
    with _common.temporary() as state:
        catalogue = Catalogue.open(state)
        noted: list[float] = []
        for number in range(arguments.snapshots):
            start = time.monotonic()
            stamp = f"2026-01-01T{number:06d}Z"
            catalogue.record("uuid", "blue", "home", stamp, listings(arguments.files, number), None)
            noted.append(time.monotonic() - start)
        found: dict[str, list[float]] = {"IMG_0004711.jpg": [], "*4711.jpg": []}
        for pattern, taken in found.items():
            for _ in range(11):
                start = time.monotonic()
                assert catalogue.find(pattern)
                taken.append(1000 * (time.monotonic() - start))
        catalogue.close()
        size = (state / FILE).stat().st_size / 1e6
        return [
            figure("size", "MB", [size], target=SIZE),
            figure("first snapshot", "s", noted[:1]),
            figure("one more snapshot", "s", noted[1:] or noted),
            figure("find a name", "ms", found["IMG_0004711.jpg"], target=FIND),
            figure("find a pattern", "ms", found["*4711.jpg"], target=FIND),
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000, help="files in each snapshot (1000000)")
    parser.add_argument("--snapshots", type=int, default=100, help="snapshots (100)")
    _common.main(parser, measure)
