"""The `usbbackup` program: find the command, run it, turn trouble into a sentence and an exit code."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TextIO

from usbbackup import __version__
from usbbackup.errors import MEANING, Exit, UsbbackupError
from usbbackup.paths import Paths

# Each is a module beside this one, with HELP, arguments(parser) and run(args, terminal) -> exit code.
COMMANDS = (
    "status",
    "start",
    "cancel",
    "drives",
    "history",
    "why",
    "snapshots",
    "check-config",
    "daemon",
    "reload",
)


@dataclass(frozen=True)
class Terminal:
    """Where a command reads from and writes to."""

    env: Mapping[str, str]
    out: TextIO
    err: TextIO

    @property
    def paths(self) -> Paths:
        """The user's directories."""
        return Paths.of(self.env)

    def say(self, text: str = "") -> None:
        """One line for the person or script that asked."""
        print(text, file=self.out)

    def json(self, value: object) -> None:
        """One JSON document."""
        json.dump(value, self.out, indent=2, ensure_ascii=True)
        self.say()


def entry() -> None:
    """Run as the installed program."""
    sys.exit(main(sys.argv[1:], Terminal(os.environ, sys.stdout, sys.stderr)))


def main(argv: Sequence[str], terminal: Terminal) -> int:
    """Run one command and return its exit code."""
    args = parse(argv)
    try:
        return finished(command(args.command).run(args, terminal), terminal)
    except UsbbackupError as error:
        return refuse(error, args, terminal)
    except KeyboardInterrupt:
        return 130  # as a shell reports SIGINT
    except BrokenPipeError:
        # The reader went away (`| head`); say nothing more, also not when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception as error:  # noqa: BLE001 - the last frame: every bug ends here, visibly, with its code
        return confess(error, terminal)


def finished(code: int, terminal: Terminal) -> int:
    """Whatever was said goes out now, while a reader that went away can still be met."""
    terminal.out.flush()
    return int(code)


def refuse(error: UsbbackupError, args: argparse.Namespace, terminal: Terminal) -> int:
    """An expected trouble: a sentence, a hint, a code; with --json the same three as JSON."""
    if getattr(args, "json", False):
        terminal.json({"error": {"code": int(error.code), "message": error.message, "hint": error.hint}})
    else:
        print(f"usbbackup: {error.message}", file=terminal.err)
        if error.hint:
            print(f"  {error.hint}", file=terminal.err)
    return int(error.code)


def confess(error: Exception, terminal: Terminal) -> int:
    """A bug of ours: everything that helps to find it, and code 70."""
    import traceback

    traceback.print_exception(error, file=terminal.err)
    print("usbbackup: this is a bug in usbbackup, not in your data or your configuration", file=terminal.err)
    return int(Exit.BUG)


def command(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"usbbackup.cli.{name.replace('-', '_')}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; builds only what the named command needs, so that `status` starts fast."""
    named = [word for word in argv if word in COMMANDS][:1]
    return parser(named or COMMANDS).parse_args(argv)


def parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of these commands; completions and the man page are made from it."""
    top = argparse.ArgumentParser(
        prog="usbbackup",
        description="Plug in a drive labelled 'backup', and the backup happens.",
        epilog=exit_codes(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"usbbackup {__version__}")
    choices = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in names:
        module = command(name)
        sub = choices.add_parser(
            name,
            help=module.HELP,
            description=module.HELP[0].upper() + module.HELP[1:] + ".",
            epilog=exit_codes(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(sub)
    return top


def exit_codes() -> str:
    """The table that scripts rely on."""
    return "exit codes:\n" + "\n".join(f"  {int(code):>3}  {meaning}" for code, meaning in MEANING.items())
