"""What a program may write, held by the kernel: below a few open directories and nowhere else.

Landlock (landlock(7)) binds rules to directories themselves, not to their paths: when a drive is detached,
its mount point is another directory, and writing there is refused. Reading is not restricted; neither are
changes of mode, owner and times, which Landlock does not know.
"""

import ctypes
import os
from dataclasses import dataclass
from functools import cache

# linux/landlock.h; the numbers of the system calls are the same on every architecture but alpha.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_WRITE_FILE = 1 << 1
_REMOVE_AND_MAKE = 0x1FF0  # remove directories and files, make every kind of entry
_REFER = 1 << 13  # ABI 2: rename and link between directories
_TRUNCATE = 1 << 14  # ABI 3
_PR_SET_NO_NEW_PRIVS = 38


class _Ruleset(ctypes.Structure):
    _fields_ = [("handled_access_fs", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


@dataclass(frozen=True)
class Sandbox:
    """The only places a program may write: below `directories` (open descriptors), and existing `files`."""

    directories: tuple[int, ...]
    files: tuple[str, ...] = ("/dev/null", "/dev/full")

    def enter(self) -> None:
        """Bind the calling thread, and every program it starts from now on; there is no way back.

        Without Landlock (`landlock_abi`) only no_new_privs is set. Raises OSError where a rule is refused.
        """
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if not (rights := write_rights(landlock_abi())):
            return
        ruleset = _landlock(_CREATE_RULESET, ctypes.byref(_Ruleset(rights)), ctypes.sizeof(_Ruleset), 0)
        try:
            for fd in self.directories:
                _allow(ruleset, fd, rights)
            self._allow_files(ruleset, rights & (_WRITE_FILE | _TRUNCATE))
            _landlock(_RESTRICT_SELF, ruleset, 0)
        finally:
            os.close(ruleset)

    def _allow_files(self, ruleset: int, rights: int) -> None:
        for name in self.files:
            fd = os.open(name, os.O_PATH | os.O_CLOEXEC)
            try:
                _allow(ruleset, fd, rights)
            finally:
                os.close(fd)


@cache
def landlock_abi() -> int:
    """The version of Landlock in the running kernel; 0 where there is none or it is switched off."""
    try:
        return _landlock(_CREATE_RULESET, None, 0, _VERSION)
    except OSError:
        return 0


def write_rights(abi: int) -> int:
    """The rights that a version of Landlock can take away from writers; 0 where it cannot be used.

    Before version 2 it forbids all renames between directories, which rsync and borg need.

    >>> write_rights(1), hex(write_rights(2)), hex(write_rights(7))
    (0, '0x3ff2', '0x7ff2')
    """
    if abi < 2:
        return 0
    return _WRITE_FILE | _REMOVE_AND_MAKE | _REFER | (_TRUNCATE if abi >= 3 else 0)


def _allow(ruleset: int, fd: int, rights: int) -> None:
    _landlock(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_PathBeneath(rights, fd)), 0)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise _error()


def _landlock(number: int, *args: object) -> int:
    result: int = _libc().syscall(number, *args)
    if result < 0:
        raise _error()
    return result


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
