"""The login hook of an encrypted home: a marked block in the file that the login shell really reads.

The user's service manager is started before such a home is open. It knows of no unit in there until it
is told to look again, so the block tells it, at each login.
"""

from pathlib import Path

_BEGIN = "# >>> usbbackup >>>"
_END = "# <<< usbbackup <<<"
_NEW = f"{_BEGIN} this file was made for it"
_CUT = f"{_BEGIN} the line above had no end"

# Starts only what is enabled. Neither quotes nor variables: it also goes into a desktop entry, of which
# systemd makes a unit; where there is nothing to start, that has not failed.
START = (
    "systemctl --user --quiet is-active usbbackup.service || "
    "if systemctl --user daemon-reload && systemctl --user --quiet is-enabled usbbackup.service; then "
    "systemctl --user reset-failed usbbackup.service; "
    "systemctl --user --no-block start usbbackup.service; fi"
)

# Quiet, harmless without systemd, in ssh and in cron, and no login waits for it.
_BLOCK = f"""\
# Starts the backup agent once the home directory is open. `usbbackup uninstall` takes this block away again.
if [ -S "${{XDG_RUNTIME_DIR:-/nonexistent}}/systemd/private" ]; then
    ( ( {START} ) </dev/null >/dev/null 2>&1 & )
fi
"""

_POSIX = ("sh", "dash", "ash", "ksh", "ksh93", "mksh")


def profile(home: Path, shell: str) -> Path | None:
    """The file that this login shell reads at login; None where it takes no POSIX shell's language.

    bash reads the first of three that is there (bash(1), INVOCATION); where there is none it is `~/.profile`.
    """
    match Path(shell).name:
        case "bash":
            readable = (home / name for name in (".bash_profile", ".bash_login", ".profile"))
            return next((file for file in readable if file.exists()), home / ".profile")
        case "zsh":
            return home / ".zprofile"
        case name if name in _POSIX:
            return home / ".profile"
        case _:
            return None


def profiles(home: Path) -> list[Path]:
    """Every file that a block may have been added to."""
    return [home / name for name in (".profile", ".bash_profile", ".bash_login", ".zprofile")]


def with_block(text: bytes | None) -> bytes:
    """The text of a profile with the block at its end; the same again where it is there as it should be."""
    rest = None if text is None else without_block(text)
    if rest is None:
        return _block(_NEW)
    if rest and not rest.endswith(b"\n"):
        return rest + b"\n" + _block(_CUT)
    return rest + _block(_BEGIN)


def without_block(text: bytes) -> bytes | None:
    """The text of a profile without any block, to the byte; None where the file was made for the block.

    A mark that has lost its other half is let be: what stands around it may be the user's.
    """
    lines = text.splitlines(keepends=True)
    while (found := _bounds(lines)) is not None:
        begin, end = found
        first = lines[begin].decode().rstrip("\n")
        if first == _NEW and len(lines) == end + 1 and begin == 0:
            return None
        if first == _CUT and begin > 0:
            lines[begin - 1] = lines[begin - 1].removesuffix(b"\n")
        del lines[begin : end + 1]
    return b"".join(lines)


def _bounds(lines: list[bytes]) -> tuple[int, int] | None:
    """The first and the last line of a block."""
    begin = None
    for number, line in enumerate(lines):
        if line.startswith(_BEGIN.encode()):
            begin = number
        elif begin is not None and line.rstrip(b"\n") == _END.encode():
            return begin, number
    return None


def _block(first: str) -> bytes:
    return f"{first}\n{_BLOCK}{_END}\n".encode()
