"""The `usbbackup` program: find the command, run it, turn trouble into a sentence and an exit code."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from textwrap import indent
from types import ModuleType
from typing import NoReturn, TextIO

from usbbackup import __version__
from usbbackup.clock import Clock, SystemClock
from usbbackup.errors import MEANING, Exit, UsageError, UsbbackupError
from usbbackup.paths import Paths
from usbbackup.text import did_you_mean, safe

# Each is a module beside this one, with HELP, arguments(parser) and run(args, terminal) -> exit code.
COMMANDS = (
    "setup",
    "status",
    "watch",
    "start",
    "cancel",
    "drives",
    "history",
    "why",
    "report",
    "snapshots",
    "ls",
    "find",
    "diff",
    "restore",
    "prune",
    "verify",
    "recover-home",
    "check-config",
    "doctor",
    "daemon",
    "reload",
    "uninstall",
)
INTERRUPTED = 130  # as a shell reports SIGINT
MOST = 1_000_000  # of anything that a command lists


@dataclass(frozen=True)
class Terminal:
    """Where a command reads from and writes to."""

    env: Mapping[str, str]
    out: TextIO
    err: TextIO
    clock: Clock = field(default_factory=SystemClock)
    stdin: TextIO | None = None  # None: there is nobody to ask
    patience: float = 5.0  # seconds that an agent has for what is shown without it too

    @property
    def paths(self) -> Paths:
        """The user's directories."""
        return Paths.of(self.env)

    def say(self, text: str = "") -> None:
        """One line for the person or script that asked."""
        print(text, file=self.out)

    def complain(self, message: str, hint: str | None = None) -> None:
        """What went wrong, beside the answer."""
        print(f"usbbackup: {message}", file=self.err)
        if hint:
            print(indent(hint.rstrip("\n"), "  "), file=self.err)

    def json(self, value: object) -> None:
        """One JSON document."""
        self.say(json.dumps(value, indent=2))

    def json_line(self, value: object) -> None:
        """One JSON document in one line."""
        self.say(json.dumps(value))

    def deafen(self) -> None:
        """Nobody reads any more: what is said from now on goes nowhere, also when Python flushes at exit."""
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, self.out.fileno())
        os.close(nowhere)


def entry() -> None:
    """Run as the installed program."""
    out = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - closed at exit, like the real one
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="backslashreplace")  # whatever the locale cannot say is spelled out
    sys.exit(main(sys.argv[1:], Terminal(os.environ, out, sys.stderr, stdin=sys.stdin)))


def main(argv: Sequence[str], terminal: Terminal) -> int:
    """Run one command and return its exit code."""
    try:
        code = attempt(argv, terminal)
        terminal.out.flush()  # now, while a reader that went away can still be met
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # as in `| head`
        terminal.deafen()
        return Exit.DONE
    except OSError as error:
        terminal.deafen()
        terminal.complain(f"the answer cannot be written: {error.strerror}")
        return Exit.FAILED
    return code


def attempt(argv: Sequence[str], terminal: Terminal) -> int:
    """Run one command; expected trouble and our own bugs become exit codes."""
    try:
        args = parse(argv)
        return int(command(args.command).run(args, terminal))
    except UsbbackupError as error:
        return refuse(error, argv, terminal)
    except SystemExit as done:  # help or the version was asked for, and printed
        return int(done.code or 0)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last frame: every bug ends here, visibly, with its code
        return confess(error, argv, terminal)


def refuse(error: UsbbackupError, argv: Sequence[str], terminal: Terminal) -> int:
    """An expected trouble: a sentence, a hint, a code; with --json the same three as JSON."""
    if "--json" in argv:
        told = {"code": int(error.code), "message": error.message, "hint": error.hint}
        terminal.json_line({"error": told})
    else:
        terminal.complain(error.message, error.hint)
    return int(error.code)


def confess(error: Exception, argv: Sequence[str], terminal: Terminal) -> int:
    """A bug of ours: everything that helps to find it, and code 70."""
    import traceback

    traceback.print_exception(error, file=terminal.err)
    bug = UsbbackupError(
        f"a bug in usbbackup: {safe(repr(error))}", "neither your data nor your configuration is the cause"
    )
    bug.code = Exit.BUG
    return refuse(bug, argv, terminal)


def command(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"usbbackup.cli.{name.replace('-', '_')}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; builds only what the named command needs, so that `status` starts fast.

    Raises UsageError.
    """
    word = next(iter(argv), "")
    if word in COMMANDS:
        args, unknown = parser([word]).parse_known_args(argv)
        if unknown:
            raise UsageError(
                f"unrecognized arguments: {safe(' '.join(unknown))}", f"see: usbbackup {word} --help"
            )
        return args
    if word and not word.startswith("-"):
        raise UsageError(f"there is no command '{safe(word)}'{did_you_mean(word, COMMANDS)}", _COMMANDS_ARE)
    return parser().parse_args(argv)


_COMMANDS_ARE = f"commands are: {', '.join(COMMANDS)}; see: usbbackup --help"


class Parser(argparse.ArgumentParser):
    """Words are never shortened, so that a new option breaks no script; what is wrong is a UsageError."""

    def __init__(self, **options: object) -> None:
        super().__init__(
            **options,  # type: ignore[arg-type] # argparse's own, passed on
            allow_abbrev=False,
            epilog=exit_codes(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._within = False

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def] # argparse's
        """Options may stand anywhere, also between words: `recover-home SNAPSHOT --to DIR PATH`."""
        if self._subparsers is not None or self._within:
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False

    def error(self, message: str) -> NoReturn:
        """What is wrong with the words, and where to look."""
        if message.endswith("required: COMMAND"):
            raise UsageError("a command is missing", _COMMANDS_ARE)
        raise UsageError(safe(message), f"see: {self.prog} --help")


def parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of these commands; completions and the man page are made from it."""
    top = Parser(prog="usbbackup", description="Plug in a drive labelled 'backup', and the backup happens.")
    top.add_argument("--version", action="version", version=f"usbbackup {__version__}")
    choices = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        module = command(name)
        described = module.HELP[0].upper() + module.HELP[1:] + "."
        module.arguments(choices.add_parser(name, help=module.HELP, description=described))
    return top


def how_many(word: str) -> int:
    """The value of `--limit`."""
    if not (word.isascii() and word.isdigit() and 1 <= (count := int(word[:10])) <= MOST):
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {MOST}, got '{safe(word)}'")
    return count


def exit_codes() -> str:
    """The table that scripts rely on."""
    return "exit codes:\n" + "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANING.items())
