"""docs/commands.md says of every command what it takes, what it answers, how it ends; all of it is true."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.house import REPOSITORY, House
from usbbackup.cli.main import COMMANDS, parser
from usbbackup.errors import MEANING

PAGE = (REPOSITORY / "docs/commands.md").read_text()
CONFIG = """\
jobs:
  - {name: notes, engine: rsync, sources: [~/notes]}
  - {name: hold, engine: command, command: [sh, -c, "until test -e go; do sleep 0.05; done"]}
"""


def sections() -> dict[str, str]:
    """What is said of each command and verb, by its name."""
    parts = re.split(r"^##+ `usbbackup ([a-z -]+?)(?: \[?[A-Z].*)?`$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and verb with its parser."""

    def below(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
        if name:
            yield name, parser
        for action in parser._actions:
            for word, verb in (action.choices or {}).items() if action.nargs == argparse.PARSER else ():
                yield from below(f"{name} {word}".strip(), verb)

    return below("", parser())


def choices(action: argparse.Action) -> str:
    """As argparse shows them."""
    return f"{{{','.join(action.choices or ())}}}"


def examples(command: str) -> list[Any]:
    """The JSON that is shown of a command."""
    blocks = re.findall(r"^```json\n(.*?)^```", sections()[command], re.MULTILINE | re.DOTALL)
    return [json.loads(block) for block in blocks]


def shape(value: Any) -> Any:
    """All keys in it, on every floor; of a list, those of its first element."""
    match value:
        case dict():
            return {key: shape(below) for key, below in value.items()}
        case [first, *_]:
            return [shape(first)]
        case _:
            return None


def same(shown: Any, told: Any) -> bool:
    """Has an answer exactly the keys that are shown? What is empty or null in it has none to compare."""
    match shape(shown), shape(told):
        case dict(left), dict(right):
            return left.keys() == right.keys() and all(same(shown[key], told[key]) for key in left)
        case [_], [_]:
            return same(shown[0], told[0])
        case _:
            return True


def test_every_command_has_its_section_and_no_other_has() -> None:
    """Verbs too."""
    named = sorted(name for name, _ in parsers())
    assert sorted(sections()) == named
    assert [name for name in named if " " not in name] == sorted(COMMANDS)


@pytest.mark.parametrize("name", [name for name, _ in parsers()])
def test_every_option_is_explained_and_no_other_is(name: str) -> None:
    """With the word for its value."""
    parser = dict(parsers())[name]
    taken = {
        option if action.nargs == 0 else f"{option} {action.metavar or choices(action)}"
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    explained = set(re.findall(r"^\| `(--[^`]+)` \|", sections()[name], re.MULTILINE))
    assert explained == taken


@pytest.mark.parametrize("name", list(sections()))
def test_every_exit_code_has_its_meaning(name: str) -> None:
    """Each is one of the table."""
    (line,) = re.findall(r"^Exit codes: (.*?)\n\n", sections()[name] + "\n\n", re.MULTILINE | re.DOTALL)
    codes = {int(code) for code in re.findall(r"\b\d+\b", line)}
    assert 0 in codes
    assert codes <= set(map(int, MEANING))


def test_the_page_has_the_table_of_exit_codes() -> None:
    """In the words of `--help`."""
    assert all(f"| {int(code)} | {meaning} |" in PAGE for code, meaning in MEANING.items())


def test_every_answer_has_the_keys_that_are_shown(living: House) -> None:
    """Drives, runs, decisions, snapshots, events, the tree: every field is always there."""
    home = Path(living.env["HOME"])
    (home / ".config/usbbackup/config.yaml").write_text(CONFIG)
    (home / "notes").mkdir()
    (home / "notes/today.txt").write_text("all is well\n")
    assert examples("reload") == [living.json("reload")]
    (living.drive / "go").touch()
    living.say("plug")
    living.wait_for("refused")
    shown = examples("status")[0]
    assert same(shown["drives"][0], living.json("drives", "enrol"))
    code, out, _ = living("start", "notes", "--wait", "--json")
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert all(same(examples("start")[0], event) for event in events)
    (living.drive / "go").unlink()
    assert living("start", "hold")[0] == 0
    status = living.json("status")
    assert status["runs"]
    assert same(shown, status)
    assert same(shown["drives"], living.json("drives"))
    assert same(examples("status")[1], living.json("status", "--tree"))
    cancelled = living.json("cancel", "hold")
    assert cancelled["cancelled"]
    assert same(examples("cancel")[0], cancelled)
    runs, one = examples("history")
    told = living.json("history")
    assert same(runs, told)
    assert same(one, living.json("history", told[0]["run"]))
    assert same(examples("why")[0], living.json("why"))
    snapshots = living.json("snapshots")
    assert snapshots
    assert same(examples("snapshots")[0], snapshots)
    assert same(examples("check-config")[0], living.json("check-config"))
    assert same(shown["drives"][0], living.json("drives", "forget", "backup"))
    assert same(examples("doctor")[0], json.loads(living("doctor", "--json")[1]))


def test_an_error_has_the_keys_that_are_shown(house: House) -> None:
    """On standard output, in one line."""
    (error,) = re.findall(r"^```json\n(\{\"error.*)\n```", PAGE, re.MULTILINE)
    code, out, err = house("start", "nothing", "--json")
    assert (code, err) == (2, "")
    assert same(json.loads(error), json.loads(out))
    assert out.count("\n") == 1


def test_comparing_finds_a_key_too_many_and_one_too_few() -> None:
    """Else nothing above would be worth much."""
    assert same({"a": [{"b": 1}]}, {"a": [{"b": None}]})
    assert not same({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]})
    assert not same({"a": 1, "b": 2}, {"a": 1})
