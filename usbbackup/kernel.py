"""The few questions to Linux that Python's standard library does not ask."""

import ctypes
import errno
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

_STATX_MNT_ID_UNIQUE = 0x4000  # linux/stat.h, since Linux 6.8
_AT_EMPTY_PATH = 0x1000
_STATX_SIZE = 256
_RENAME_NOREPLACE = 1  # linux/fs.h
_STATX_MNT_ID_OFFSET = 0x90
_STATFS_SIZE = 256  # more than any architecture needs; the kind of file system is the first word
_OPENING_A_PIPE = ("wait_for_partner", "fifo_open")  # functions of the kernel's fs/pipe.c
_NETWORK = {  # linux/magic.h
    0x6969,  # NFS
    0x517B,  # SMB
    0xFF534D42,  # CIFS
    0xFE534D42,  # SMB 2
    0x01021997,  # 9P
    0x00C36400,  # Ceph
    0x5346414F,  # AFS
    0x65735546,  # FUSE
}


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def mount_id(fd: int) -> int:
    """The id of the mount that `fd` was opened through: field 1 of its row in mountinfo (proc_pid_fdinfo(5)).

    A moved or lazily unmounted mount keeps its id for as long as `fd` is open, so the id alone does not prove
    that the mount is still in the mount table. Raises OSError where `fd` is not open.
    """
    for line in Path(f"/proc/self/fdinfo/{fd}").read_bytes().splitlines():
        if line.startswith(b"mnt_id:"):
            return int(line.split()[1])
    raise OSError(errno.ENOSYS, "the kernel does not tell mount ids in /proc/self/fdinfo")


def unique_mount_id(fd: int) -> int | None:
    """The mount id that is never used again until the next boot (statx(2)); None before Linux 6.8."""
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _libc().statx(fd, b"", _AT_EMPTY_PATH, _STATX_MNT_ID_UNIQUE, buffer) != 0:
        return None
    answered = ctypes.c_uint32.from_buffer(buffer).value
    if not answered & _STATX_MNT_ID_UNIQUE:
        return None
    return ctypes.c_uint64.from_buffer(buffer, _STATX_MNT_ID_OFFSET).value


def syncfs(fd: int) -> None:
    """Write out the whole file system that `fd` is on (syncfs(2)); raises OSError where a write had failed.

    `fd` must be open for reading or writing, O_PATH is not enough. It blocks for as long as the drive needs.
    """
    if _libc().syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def magic(fd: int) -> int:
    """The number of the kind of file system that `fd` is on (statfs(2)). Raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc().fstatfs(fd, buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF


def on_network(path: Path) -> bool:
    """Does `path` lie where another machine, or a program, stands behind the file system (statfs(2))?

    There, memory is not shared by all who may open the file. Raises OSError where there is no `path`.
    """
    buffer = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc().statfs(os.fsencode(path), buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF in _NETWORK


def rename_new(name: bytes, to: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Rename, and never replace anything (renameat2(2), RENAME_NOREPLACE). Raises FileExistsError.

    Where the file system does not know that, it is looked at first, and then renamed.
    """
    if _libc().renameat2(src_dir_fd, name, dst_dir_fd, to, _RENAME_NOREPLACE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), os.fsdecode(to))
    with suppress(FileNotFoundError):
        os.stat(to, dir_fd=dst_dir_fd, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(to))
    os.rename(name, to, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def boot_id() -> str:
    """The random id of this boot (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def opens_pipe(pid: int) -> bool:
    """Does a process wait in open(2) for the other end of a named pipe (proc_pid_wchan(5), fifo(7))?"""
    try:
        return Path(f"/proc/{pid}/wchan").read_text() in _OPENING_A_PIPE
    except OSError:
        return False


def process_start_time(pid: int) -> int | None:
    """When a process started, in clock ticks after boot (proc_pid_stat(5), field 22); None where it is gone.

    A process id together with its start time names one process for good; ids alone are used again.
    A zombie still has a start time.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(b")")[2].split()[19])
