"""What an encrypted home costs to decrypt: processor time for each gigabyte, and memory for a larger file.

The encrypted file is made on the spot and holds noise, which takes as long to decrypt as anything else.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import _common
from _common import Figure, figure

sys.path.insert(0, str(_common.ROOT))

from tests.ecryptfs import encrypted
from usbbackup.ecryptfs import aes
from usbbackup.ecryptfs.contents import PIECE, plain_text
from usbbackup.ecryptfs.passphrase import Keys
from usbbackup.folders import closing

MIB = 1 << 20
SLOWEST = 150e6  # bytes of plain text per second wanted, where the processor has AES
MORE = 2.0  # MB of memory that a file sixteen times as large may take more


def measure(arguments: argparse.Namespace) -> list[Figure]:
    """All in one process, but for memory, which is that of a new one each time."""
    size = arguments.megabytes * MIB
    with _common.temporary() as here:
        path = here / "file"
        keys = Keys.of(encrypted.PASSPHRASE)
        write(path, size, keys)
        turns = range(arguments.rounds + 1)  # the first one warms the caches
        alone = [per_gigabyte(size, lambda: aes_alone(size)) for _ in turns][1:]
        whole = [per_gigabyte(size, lambda: read(path, keys)) for _ in turns][1:]
        small = memory(path)
        path.unlink()
        write(path, 16 * size, keys)
        large = memory(path)
    base = figure("AES alone", "s/GB", alone)
    found = figure("a file decrypted, from the page cache", "s/GB", whole, of=base.what)
    return [
        base,
        replace(found, ratio=found.p50 / base.p50, target=1e9 / SLOWEST / base.p50),
        figure(
            f"memory for {16 * size / 1e9:.1f} GB more than for a 16th", "MB", [large - small], target=MORE
        ),
    ]


def write(path: Path, size: int, keys: Keys) -> None:
    """An encrypted file of noise."""
    noise = os.urandom(MIB)
    with path.open("wb") as file:
        file.write(encrypted.header(size, bytes(range(16)), keys.contents))
        for _ in range(size // MIB):
            file.write(noise)


def read(path: Path, keys: Keys) -> None:
    """Decrypt a file, and leave it at that."""
    with closing(os.open(path, os.O_RDONLY)) as file:
        for _ in plain_text(file, keys, encrypted=True).pieces:
            pass


def aes_alone(size: int) -> None:
    """What cannot be spared: one chain over as much."""
    decrypt, piece = aes.chained(bytes(16)), bytes(PIECE)
    for _ in range(size // PIECE):
        decrypt(bytes(16), piece)


def per_gigabyte(size: int, work: Callable[[], None]) -> float:
    """Seconds of the processor's time, so that others on the machine do not count."""
    before = time.process_time()
    work()
    return (time.process_time() - before) * 1e9 / size


def memory(path: Path) -> float:
    """The most that a process has taken that decrypts a file, in MB (getrusage(2))."""
    again = subprocess.run([sys.executable, __file__, "--memory-of", path], capture_output=True, check=True)
    return float(again.stdout) * 1024 / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="readings of the file (7)")
    parser.add_argument("--megabytes", type=int, default=64, help="size of the file (64)")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_known_args()[0]
    if asked.memory_of:
        read(asked.memory_of, Keys.of(encrypted.PASSPHRASE))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        sys.exit(0)
    _common.main(parser, measure)
