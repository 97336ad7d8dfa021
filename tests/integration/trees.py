"""Directory trees to back up, and pictures of them that are equal where the trees are."""

import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """All of one entry that a backup has to keep."""

    kind: int  # of stat.S_IFMT
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    content: bytes | None  # of a file, or where a symbolic link leads
    links: frozenset[bytes]  # the paths in the tree that are this same file


def portrait(top: Path) -> dict[bytes, Entry]:
    """Everything below a directory, and the directory itself, by its path from there."""
    root = os.fsencode(top)
    found = {path: os.lstat(path) for path in _paths(root)}
    same: dict[int, set[bytes]] = {}
    for path, about in found.items():
        same.setdefault(about.st_ino, set()).add(os.path.relpath(path, root))
    return {
        os.path.relpath(path, root): Entry(
            stat.S_IFMT(about.st_mode),
            stat.S_IMODE(about.st_mode),
            (about.st_uid, about.st_gid),
            about.st_mtime_ns,
            _content(path, about.st_mode),
            frozenset(same[about.st_ino]),
        )
        for path, about in found.items()
    }


def _paths(root: bytes) -> Iterator[bytes]:
    yield root
    for directory, directories, files in os.walk(root):
        yield from (directory + b"/" + name for name in (*directories, *files))


def _content(path: bytes, mode: int) -> bytes | None:
    if stat.S_ISLNK(mode):
        return os.readlink(path)  # noqa: PTH115 - pathlib has no names that are bytes
    if not stat.S_ISREG(mode):
        return None
    with open(path, "rb") as file:
        return file.read()


def plant(top: Path, owner: tuple[int, int]) -> None:
    """A small tree with everything in it that is easily lost on the way."""
    top.mkdir(parents=True)
    (top / "letters/to grandmother").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "letters/to grandmother/1.txt").write_text("Dear grandmother,\nthank you for the socks.\n")
    (top / "letters/copy.txt").hardlink_to(top / "letters/to grandmother/1.txt")
    (top / "letters/latest").symlink_to("to grandmother/1.txt")
    (top / "nowhere").symlink_to("/no/such/place")
    (top / "añejo \x1b[31m\n.txt").write_text("a name of any kind\n")
    Path(os.fsdecode(os.fsencode(top) + b"/not utf-8 \xff")).write_bytes(b"\0\xff")
    (top / "# not a comment").write_text("")
    (top / "run.sh").write_text("#!/bin/sh\n")
    for number in range(30):
        (top / f"note {number}.txt").write_text(f"{number}\n" * number)
    (top / "run.sh").chmod(0o755)
    (top / "letters/to grandmother/1.txt").chmod(0o640)
    (top / "empty").chmod(0o2750)
    for path in sorted(_paths(os.fsencode(top)), reverse=True):
        os.chown(path, *owner, follow_symlinks=False)
    (top / "empty").chmod(0o2750)  # chown has taken the 2 away
    for number, path in enumerate(sorted(_paths(os.fsencode(top)), reverse=True)):
        os.utime(path, ns=(0, 1_500_000_000_123_456_789 + number * 10**9), follow_symlinks=False)


def noise(path: Path, size: int, owner: tuple[int, int]) -> None:
    """A file of so many bytes that no compression makes smaller, the same in every run."""
    path.write_bytes(random.Random(path.name).randbytes(size))  # noqa: S311 - nothing is to be kept secret
    os.chown(path, *owner)
