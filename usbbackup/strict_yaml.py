"""YAML as a person means it: texts, numbers, lists and keys with their places; what is ambiguous is refused.

No aliases, anchors, tags, merge keys, second documents or duplicate keys; no word that YAML 1.1 and 1.2 read
differently. Input of any kind ends in a tree or in `BadYaml`.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import yaml
from yaml.reader import Reader
from yaml.resolver import Resolver

from usbbackup.text import safe

if TYPE_CHECKING:
    from yaml.events import _Mark

MAX_BYTES = 128 * 1024
MAX_DEPTH = 12


class Place(NamedTuple):
    """Where something stands in the file; both count from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """What is wrong, and where."""

    at: Place
    message: str

    def __str__(self) -> str:
        return f"{self.at.line}:{self.at.column}: {self.message}"


class BadYaml(Exception):  # noqa: N818 - it is the file that is bad, not the program
    """The text is not a tree; all that was found wrong, in the order of the file."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True)
class Scalar:
    """A single value, and how it was written."""

    at: Place
    value: str | int | float | bool | None
    written: str = ""


@dataclass(frozen=True)
class Sequence:
    """A list."""

    at: Place
    items: "tuple[Node, ...]"


@dataclass(frozen=True)
class Mapping:
    """Keys and values; `keys` tells where each key stands."""

    at: Place
    keys: dict[str, Place] = field(default_factory=dict)
    values: "dict[str, Node]" = field(default_factory=dict)


Node = Scalar | Sequence | Mapping


def parse(data: bytes) -> Node:
    """Read one document; an empty one is a `Scalar` without a value. Raises BadYaml."""
    loader = yaml.SafeLoader(_decoded(data))
    try:
        return _Builder(_events(loader)).document()
    except yaml.MarkedYAMLError as error:
        raise BadYaml(_syntax(error)) from None
    except (ValueError, OverflowError):
        # PyYAML lets chr() complain by itself about "\U00110000".
        raise BadYaml(Problem(_place(loader.get_mark()), "an escape that stands for no character")) from None


def _events(loader: yaml.SafeLoader) -> Iterator[yaml.Event]:
    while loader.check_event():
        yield loader.get_event()  # type: ignore[no-untyped-call] # as PyYAML is


def _decoded(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _bad("", f"the file is larger than {MAX_BYTES:,} bytes, which is the most it may be")
    data = data.removeprefix(BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _bad(data[: error.start].decode(), f"byte 0x{data[error.start]:02x} is not UTF-8") from None
    if control := Reader.NON_PRINTABLE.search(text):
        raise _bad(text[: control.start()], f"control character {control[0]!r} in the file")
    return text


def _bad(before: str, message: str) -> BadYaml:
    lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", before)
    return BadYaml(Problem(Place(len(lines), len(lines[-1]) + 1), message))


class _Builder:
    """Makes the tree from PyYAML's events, which know neither aliases' targets nor types yet."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self.events = events
        self.problems: list[Problem] = []

    def document(self) -> Node:
        root: Node = Scalar(Place(1, 1), None)
        seen = False
        for event in self.events:
            match event:
                case yaml.DocumentStartEvent() if seen:
                    self.refuse(_place(event.start_mark), "a second document: the file has only one")
                case yaml.NodeEvent():
                    root = self.node(event, 1)
                    seen = True
        if self.problems:
            raise BadYaml(*sorted(self.problems))
        return root

    def note(self, at: Place, message: str) -> None:
        """Read on; the first thing wrong at a place is enough."""
        if not self.problems or self.problems[-1].at != at:
            self.problems.append(Problem(at, message))

    def refuse(self, at: Place, message: str) -> NoReturn:
        """Read no further."""
        raise BadYaml(*sorted((*self.problems, Problem(at, message))))

    def node(self, event: yaml.Event, depth: int) -> Node:
        at = _place(event.start_mark)
        if depth > MAX_DEPTH:
            self.refuse(at, f"nested deeper than {MAX_DEPTH} levels")
        if magic := _magic(event):
            self.note(at, f"{magic}, which is not used here: write it in quotes if the text is meant")
        match event:
            case yaml.SequenceStartEvent():
                return self._sequence(at, depth)
            case yaml.MappingStartEvent():
                return self._mapping(at, depth)
            case yaml.ScalarEvent() if not magic:
                return self._scalar(event, at)
        return Scalar(at, None)

    def _sequence(self, at: Place, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, depth + 1))
        return Sequence(at, tuple(items))

    def _mapping(self, at: Place, depth: int) -> Mapping:
        mapping = Mapping(at)
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            if (word := self._word(key, mapping)) is not None:
                mapping.keys[word], mapping.values[word] = key.at, value
        return mapping

    def _word(self, key: Node, mapping: Mapping) -> str | None:
        """The key as a text; None, with a problem noted, where it is none or was there before."""
        if not isinstance(key, Scalar) or not isinstance(key.value, str):
            self.note(key.at, "a key must be a plain word")
            return None
        if key.value in mapping.keys:
            first = mapping.keys[key.value].line
            self.note(key.at, f"duplicate key '{safe(key.value)}' (first in line {first})")
            return None
        return key.value

    def _scalar(self, event: yaml.ScalarEvent, at: Place) -> Scalar:
        if event.style is not None:
            return Scalar(at, event.value, event.value)
        try:
            return Scalar(at, _resolved(event.value), event.value)
        except _Ambiguous as trap:
            self.note(at, str(trap))
            return Scalar(at, event.value, event.value)


def _magic(event: yaml.Event) -> str | None:
    """What YAML would replace or construct here, named; None where it would do neither."""
    match event:
        case yaml.AliasEvent(anchor=name):
            return f"'*{safe(name or '')}' is a YAML alias"
        case yaml.NodeEvent(anchor=str(name)):
            return f"'&{safe(name)}' is a YAML anchor"
        case yaml.ScalarEvent(tag=str(tag)) | yaml.CollectionStartEvent(tag=str(tag)):
            return f"'{safe(tag)}' is a YAML tag"
    return None


class _Ambiguous(Exception):  # noqa: N818 - a finding about a word, met only in this module
    """A word that readers of YAML do not agree on."""


_RESOLVER = Resolver()
_DECIMAL_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL_FRACTION = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{1,18}")


def _resolved(text: str) -> str | int | float | bool | None:
    """The value of an unquoted word, where YAML 1.1 and 1.2 agree on it; else raises _Ambiguous."""
    uri: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call] # as PyYAML is
    shown = safe(text[:40])
    match uri.rpartition(":")[2]:
        case "null":
            return None
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int" if _DECIMAL_INTEGER.fullmatch(text):
            return int(text)
        case "float" if _DECIMAL_FRACTION.fullmatch(text):
            return float(text)
        case "str":
            return text
        case "bool":
            raise _Ambiguous(
                f"'{shown}' may mean true, false or the word: write true or false, or \"{shown}\" in quotes"
            )
        case "int" | "float" | "timestamp":
            raise _Ambiguous(
                f"'{shown}' is a number or a date to some readers of YAML and a text to others: "
                f'write "{shown}" in quotes if the text is meant, else a plain decimal number'
            )
        case _:
            raise _Ambiguous(
                f"'{shown}' has a special meaning in YAML that is not used here: write it in quotes"
            )


# Fragments of PyYAML's own messages (context and problem), and what they mean to the one who wrote the file.
_WORDS = (
    ("scanning an alias", "a text that starts with '*' must be written in quotes"),
    ("scanning an anchor", "a text that starts with '&' must be written in quotes"),
    ("scanning a tag", "a text that starts with '!' must be written in quotes"),
    ("parsing a tag", "a text that starts with '!' must be written in quotes"),
    ("found undefined tag handle", "a text that starts with '!' must be written in quotes"),
    ("character '\\t'", "a tab where YAML allows only spaces"),
    ("that cannot start any token", "a text cannot start with this character: write it in quotes"),
    ("unexpected end of stream", "a quote that is opened here is never closed"),
    (
        "mapping values are not allowed",
        "a ':' where no key can stand: check the indentation, or write the text in quotes",
    ),
    ("'<document start>'", "a second document: the file has only one"),
    ("could not find expected ':'", "a key without its ':'"),
    ("sequence entries are not allowed", "a '-' where no list can stand: check the indentation"),
    ("flow sequence", "a list that starts with '[' is not closed, or a ',' is missing"),
    ("flow mapping", "what starts with '{' is not closed, or a ',' is missing"),
    ("flow node", "what starts with '[' or '{' is not closed"),
    ("expected <block end>", "this does not belong to the lines above it: check the indentation"),
)


# For these, where it began helps more than where PyYAML gave up.
_BEGUN = (
    "scanning an alias",
    "scanning an anchor",
    "unexpected end of stream",
    "could not find expected ':'",
)


def _syntax(error: yaml.MarkedYAMLError) -> Problem:
    told = f"{error.context or ''} {error.problem or ''}"
    words = next(
        (words for fragment, words in _WORDS if fragment in told), f"not valid YAML: {safe(told.strip())}"
    )
    begun = any(fragment in told for fragment in _BEGUN)
    mark = (error.context_mark if begun else None) or error.problem_mark or error.context_mark
    return Problem(_place(mark), words)


def _place(mark: "_Mark | None") -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
