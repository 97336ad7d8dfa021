"""A Unix socket for one user: its name, its mode, and who is at the other end."""

import os
import socket
import stat
import struct
from pathlib import Path

from usbbackup.errors import NotNowError
from usbbackup.varlink import address


def listen(path: Path, backlog: int) -> tuple[socket.socket, int]:
    """A socket that listens there, and its inode number; a socket that nobody listens on is replaced.

    Raises NotNowError where somebody listens already, or what is there is no socket.
    """
    _private_directory(path.parent)
    _refuse_to_replace(path)
    return _listening(path, backlog)


def peer(connection: socket.socket) -> int:
    """The user at the other end, as the kernel knows him (unix(7), SO_PEERCRED)."""
    _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def _private_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = directory.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid():
        raise NotNowError(f"{directory} is not a directory of your own", "Look at what it is, and remove it.")
    directory.chmod(0o700)


def _refuse_to_replace(path: Path) -> None:
    """Only a socket that nobody listens on is in the way of nobody."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise NotNowError(f"{path} is not a socket", "Look at what it is, and remove it.")
    with socket.socket(socket.AF_UNIX) as trial, address(path) as name:
        trial.settimeout(1.0)
        try:
            trial.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError:  # a full backlog, for one, is a sign of life
            pass
    raise NotNowError(f"another agent listens on {path}", "Stop it first: `systemctl --user stop usbbackup`.")


def _listening(path: Path, backlog: int) -> tuple[socket.socket, int]:
    """A socket that takes its name only when it is ready, with its mode; and its inode number."""
    passing = path.with_name(f"{path.name}.{os.getpid()}")
    passing.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with address(passing) as name:
            listening.bind(name)
        passing.chmod(0o600)
        listening.listen(backlog)
        passing.rename(path)
    except BaseException:
        listening.close()
        passing.unlink(missing_ok=True)
        raise
    return listening, path.lstat().st_ino
