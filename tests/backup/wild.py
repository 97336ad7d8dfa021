"""Trees that grow and change at random: every kind of entry, every kind of change, names of any bytes."""

import errno
import os
import random
import shutil
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runs import ROOT

NAMES = (
    *(
        b"#x",
        b";x",
        b"-x",
        b"new\nline",
        b"cr\rname",
        b"caf\xe9",
        b"\xff\xfe",
        b" lead",
        b"trail ",
        b"\\#012",
    ),
    *(b"\\#999", b"esc\x1b[31m", b"a => b", b"a -> b", b"*?[a]", b"...", "ü".encode(), b"x" * 255),
    *(b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"),
)
_ACCESS, _DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


@dataclass
class Wild:
    """Grows and changes the tree `top` by what the dice say."""

    dice: random.Random
    top: Path
    pipes: bool = True

    def grow(self, count: int) -> None:
        for _ in range(count):
            self._try(lambda: self._plant(self._new()))

    def change(self, count: int) -> None:
        """Change so many things; what is not possible at the moment is left out."""
        for _ in range(count):
            self._try(self.dice.choice(self._changes()))

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            assert error.errno != errno.EIO, error

    def _changes(self) -> list[Callable[[], object]]:
        return [
            lambda: self._plant(self._new()),
            lambda: self._plant(self._new()),
            lambda: self._write(self._file(), self._bytes()),
            self._rewrite_alike,
            lambda: (self._real if ROOT else self._file)().chmod(
                self.dice.choice((0o600, 0o640, 0o755, 0o4711))
            ),
            lambda: self._real().chmod(self.dice.choice((0o700, 0o755, 0o2750))),
            lambda: self._utime(self._any()),
            lambda: os.setxattr(self._any(), "user.note", self.dice.randbytes(9), follow_symlinks=False),
            lambda: os.setxattr(self._file(), _ACCESS, self._acl()),
            lambda: os.setxattr(self._folder(), self.dice.choice((_ACCESS, _DEFAULT)), self._acl()),
            lambda: os.chown(self._any(), *self._owner(), follow_symlinks=False),
            lambda: os.link(self._file(), self._new(), follow_symlinks=False),
            lambda: self._remove(self._any()),
            lambda: self._swap_kind(self._any()),
            lambda: self._any().rename(self._new()),
            lambda: self._folder().rename(self._new()),
            lambda: self._exchange(self._any(), self._any()),
            lambda: self._write(self._file(), b""),
        ]

    def _plant(self, path: Path) -> None:
        match self.dice.randrange(10):
            case 0 | 1:
                path.mkdir(self.dice.choice((0o755, 0o700, 0o2750)))
            case 2:
                path.symlink_to(self.dice.choice(("a", "b/c", "nowhere", "caf\udce9")))
            case 3 if self.pipes:
                os.mkfifo(path, 0o640)
            case 4 if ROOT:
                os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, self.dice.choice((3, 5, 7))))
            case 5:
                os.link(self._file(), path, follow_symlinks=False)
            case _:
                self._write(path, self._bytes())

    def _write(self, path: Path, content: bytes) -> None:
        """Not into a pipe, which would wait, and through no symbolic link."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(path, flags, 0o644), "wb") as file:
            file.write(content)

    def _rewrite_alike(self) -> None:
        """Other content with size and time to the second as before."""
        path = self._file()
        found = path.lstat()
        self._write(path, self.dice.randbytes(found.st_size))
        part = found.st_mtime_ns // 10**9 * 10**9 + self.dice.randrange(10**9)
        os.utime(path, ns=(part, part))

    def _swap_kind(self, path: Path) -> None:
        self._remove(path)
        self._plant(path)

    def _exchange(self, one: Path, other: Path) -> None:
        aside = self.top / "aside"
        one.rename(aside)
        try:
            other.rename(one)
        finally:
            aside.rename(one if not os.path.lexists(one) else other)

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def _utime(self, path: Path) -> None:
        when = self.dice.randrange(2 * 10**18)
        os.utime(path, ns=(when, when), follow_symlinks=False)

    def _owner(self) -> tuple[int, int]:
        return self.dice.choice(((0, 0), (1000, 1000), (1001, 100))) if ROOT else (-1, os.getegid())

    def _acl(self) -> bytes:
        """user::rw-, user:1234:r--, group::r--, mask::r--, other::--- (acl(5)), as the kernel stores it.

        With user::rwx for who is not root, and would be locked out of directories.
        """
        entries = (
            (1, 6 if ROOT else 7, -1),
            (2, 4, 1234),
            (4, 4, -1),
            (0x10, self.dice.choice((4, 6)), -1),
            (0x20, 0, -1),
        )
        return struct.pack("<I", 2) + b"".join(
            struct.pack("<HHI", tag, mode, who & 0xFFFFFFFF) for tag, mode, who in entries
        )

    def _new(self) -> Path:
        return self._folder() / os.fsdecode(self.dice.choice(NAMES))

    def _bytes(self) -> bytes:
        return self.dice.randbytes(self.dice.choice((0, 3, 700, 5000)))

    def _folder(self) -> Path:
        found = [path for path in self._all() if path.is_dir() and not path.is_symlink()]
        return self.dice.choice([self.top, *found])

    def _file(self) -> Path:
        return self._one([path for path in self._all() if path.is_file() and not path.is_symlink()])

    def _real(self) -> Path:
        return self.dice.choice(
            [path for path in self._all() if not path.is_symlink()] or [self.top / "none"]
        )

    def _any(self) -> Path:
        return self._one(self._all())

    def _one(self, paths: list[Path]) -> Path:
        return self.dice.choice(paths or [self.top / "none"])

    def _all(self) -> list[Path]:
        return sorted(self.top.rglob("*"), key=os.fsencode)
