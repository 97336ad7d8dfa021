"""What setting up and taking away do: plain values, shown before they are done, done one by one."""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from usbbackup.errors import UsbbackupError
from usbbackup.install.tools import Tools
from usbbackup.text import safe


@dataclass(frozen=True)
class Write:
    """Write a file; `before` is what stands there now, and `ours` whether we have written that."""

    path: Path
    content: bytes
    before: bytes | None = None
    ours: bool = True
    mode: int = 0o644

    @property
    def told(self) -> str:
        """What it does."""
        return f"{'write' if self.before is None else 'change'} {safe(str(self.path))}"

    @property
    def difference(self) -> str:
        """What changes in a file that is not ours, as a unified diff."""
        if self.before is None or self.ours:
            return ""
        old, new = (
            text.decode("utf-8", "backslashreplace").splitlines() for text in (self.before, self.content)
        )
        name = str(self.path)
        return "\n".join(safe(line) for line in unified_diff(old, new, name, f"{name} (new)", lineterm=""))

    def do(self, tools: Tools) -> None:
        """Replace the file whole; a symbolic link stays one, an existing file keeps its mode."""
        real = Path(os.path.realpath(self.path))
        _make_directory(real.parent)
        mode = real.stat().st_mode & 0o7777 if real.exists() else self.mode
        fd, new = tempfile.mkstemp(prefix=f".{real.name}.", dir=real.parent)
        try:
            with open(fd, "wb") as file:
                file.write(self.content)
                os.fchmod(fd, mode)
                file.flush()
                os.fsync(fd)
            Path(new).replace(real)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class Link:
    """Make a symbolic link."""

    path: Path
    to: Path

    @property
    def told(self) -> str:
        """What it does."""
        return f"link {safe(str(self.path))} to {safe(str(self.to))}"

    def do(self, tools: Tools) -> None:
        """Make it, or make it anew."""
        _make_directory(self.path.parent)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(self.to)


@dataclass(frozen=True)
class Remove:
    """Take a file or a whole directory of ours away, and the directories that it leaves empty."""

    path: Path
    empty: int = 0  # how many directories above it go, too, where nothing else is in them

    @property
    def told(self) -> str:
        """What it does."""
        return f"remove {safe(str(self.path))}"

    def do(self, tools: Tools) -> None:
        """Remove it; nothing is followed."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)
        for directory in list(self.path.parents)[: self.empty]:
            with contextlib.suppress(OSError):  # not empty
                directory.rmdir()


@dataclass(frozen=True)
class Tell:
    """Tell the service manager something."""

    argv: tuple[str, ...]
    needed: bool = True  # False: it may fail, what follows is done all the same

    @property
    def told(self) -> str:
        """What it does."""
        return f"run {' '.join(self.argv)}"

    def do(self, tools: Tools) -> None:
        """Run it. Raises UsbbackupError where it fails and is needed."""
        answered = tools.ask(*self.argv)
        if answered.code != 0 and self.needed:
            raise UsbbackupError(
                f"`{' '.join(self.argv)}` failed: {safe(answered.complaint or f'exit code {answered.code}')}",
                "look at: systemctl --user status usbbackup; and: usbbackup doctor",
            )


Step = Write | Link | Remove | Tell


def do(step: Step, tools: Tools) -> None:
    """Do one step. Raises UsbbackupError with what could not be done."""
    try:
        step.do(tools)
    except OSError as error:
        raise UsbbackupError(
            f"could not {step.told}: {error.strerror}", "mend that, then run the same command again"
        ) from error


def _make_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
