"""What a value in a file may look like: a shape reads a node of the YAML tree, and tells its JSON Schema."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from usbbackup.strict_yaml import Mapping, Node, Problem, Scalar, Sequence
from usbbackup.text import did_you_mean, nearest, safe

MAX_TEXT = 4096  # PATH_MAX; longer than anything a person writes here
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 36500 * UNITS["d"]

Problems = list[Problem]


class Shape(Protocol):
    """One kind of value; `one` and `many` are its words in sentences."""

    @property
    def one(self) -> str:
        """As in "expected a text"."""
        ...

    @property
    def many(self) -> str:
        """As in "a list of texts"."""
        ...

    def read(self, node: Node, found: Problems) -> Any:
        """The value; whatever is wrong is added to `found`, and the value is then without meaning."""
        ...

    def schema(self) -> dict[str, Any]:
        """JSON Schema, draft 2020-12."""
        ...


def got(node: Node) -> str:
    """What stands there, in words.

    >>> from usbbackup.strict_yaml import Place
    >>> got(Scalar(Place(1, 1), 5, "5"))
    'the number 5'
    """
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "keys with values"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return f"'{safe(node.written)}'"
        case Scalar(value=str()):
            return "a text"
        case Scalar():
            return f"the number {safe(node.written[:40])}"


def _mismatch(shape: Shape, node: Node, advice: str = "") -> Problem:
    return Problem(node.at, f"expected {shape.one}, got {got(node)}{advice}")


@dataclass(frozen=True)
class Text:
    """A text; `check` returns what is wrong with one, or None. `pattern` must match all of it."""

    pattern: str | None = None
    advice: str = ""  # the sentence for a text that does not match
    check: Callable[[str], str | None] | None = None
    nothing: str = ""  # advice where there is no value at all
    empty: bool = False
    one: str = "a text"
    many: str = "texts"

    def read(self, node: Node, found: Problems) -> str:
        """The text."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            advice = self.nothing if is_nothing(node) else ": write it in quotes" * isinstance(node, Scalar)
            found.append(_mismatch(self, node, advice))
            return ""
        if wrong := self._wrong(node.value):
            found.append(Problem(node.at, wrong))
        return node.value

    def _wrong(self, text: str) -> str | None:
        if not text and not self.empty:
            return f"expected {self.one}, got an empty one"
        if len(text) > MAX_TEXT:
            return f"longer than {MAX_TEXT} characters"
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            return f"'{safe(text[:40])}' contains a character that no program can be given"
        if self.pattern is not None and not re.fullmatch(self.pattern, text):
            return f"'{safe(text[:100])}': {self.advice}"
        return self.check(text) if self.check else None

    def schema(self) -> dict[str, Any]:
        """A string."""
        found: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT}
        if self.pattern is not None:
            return found | {"pattern": f"^(?:{self.pattern})$"}
        return found if self.empty else found | {"minLength": 1}


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]
    many: str = "words"

    @property
    def one(self) -> str:
        """All of the words."""
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def read(self, node: Node, found: Problems) -> str:
        """The word."""
        if isinstance(node, Scalar) and isinstance(node.value, str):
            if node.value not in self.words:
                guess = did_you_mean(node.value, self.words)
                found.append(Problem(node.at, f"expected {self.one}, got '{safe(node.value[:100])}'{guess}"))
            return node.value
        found.append(_mismatch(self, node))
        return ""

    def schema(self) -> dict[str, Any]:
        """An enumeration."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds, both included."""

    least: int
    most: int
    many: str = "numbers"

    @property
    def one(self) -> str:
        """The range."""
        return f"a whole number from {self.least} to {self.most}"

    def read(self, node: Node, found: Problems) -> int:
        """The number."""
        if (
            isinstance(node, Scalar)
            and type(node.value) is int  # a bool is an int, too
            and self.least <= node.value <= self.most
        ):
            return node.value
        found.append(_mismatch(self, node))
        return self.least

    def schema(self) -> dict[str, Any]:
        """An integer."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Flag:
    """Yes or no."""

    one: str = "true or false"
    many: str = "true or false"

    def read(self, node: Node, found: Problems) -> bool:
        """The value."""
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        found.append(_mismatch(self, node))
        return False

    def schema(self) -> dict[str, Any]:
        """A boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Duration:
    """A length of time: a whole number and its unit; read as seconds."""

    one: str = "a duration such as 90s, 30m, 12h, 1d or 2w"
    many: str = "durations"

    def read(self, node: Node, found: Problems) -> float:
        """Seconds."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            found.append(_mismatch(self, node))
            return 0.0
        if not (match := re.fullmatch(r"([1-9][0-9]{0,9})([smhdw])", node.value)):
            found.append(Problem(node.at, f"expected {self.one}, got '{safe(node.value[:40])}'"))
            return 0.0
        seconds = int(match[1]) * UNITS[match[2]]
        if seconds > _LONGEST:
            found.append(Problem(node.at, f"'{node.value}' is longer than 36500d"))
        return float(seconds)

    def schema(self) -> dict[str, Any]:
        """A string such as 1d."""
        return {
            "type": "string",
            "pattern": "^[1-9][0-9]{0,9}[smhdw]$",
            "examples": ["30m", "12h", "1d", "2w"],
        }


@dataclass(frozen=True)
class ListOf:
    """A list of one shape."""

    item: Shape
    least: int = 0
    unique: bool = False
    check: Callable[[list[Any]], str | None] | None = None
    many: str = "lists"

    @property
    def one(self) -> str:
        """With the word of its items."""
        return f"a list of {self.item.many}"

    def read(self, node: Node, found: Problems) -> list[Any]:
        """The values."""
        if not isinstance(node, Sequence):
            advice = ": write it as [...]" if isinstance(node, Scalar) and node.value is not None else ""
            found.append(_mismatch(self, node, advice))
            return []
        if len(node.items) < self.least:
            found.append(Problem(node.at, f"expected {self.one}, got an empty one"))
        values = [self.item.read(item, found) for item in node.items]
        if self.unique:
            found += twice(values, node)
        if self.check and (wrong := self.check(values)):
            found.append(Problem(node.at, wrong))
        return values

    def schema(self) -> dict[str, Any]:
        """An array."""
        found: dict[str, Any] = {"type": "array", "items": self.item.schema()}
        if self.least:
            found["minItems"] = self.least
        if self.unique:
            found["uniqueItems"] = True
        return found


def twice(values: Iterable[str], node: Sequence) -> Iterator[Problem]:
    """What is in a list of texts a second time."""
    first: dict[str, int] = {}
    for value, item in zip(values, node.items, strict=True):
        if value in first:
            yield Problem(item.at, f"'{safe(value)}' is there twice (first in line {first[value]})")
        first.setdefault(value, item.at.line)


@dataclass(frozen=True)
class Key:
    """What one key of a table holds; `about` is its sentence in the schema."""

    shape: Shape
    about: str
    required: bool = False
    default: object = None


@dataclass(frozen=True)
class Table:
    """Keys with values; a key without a value counts as left out."""

    one: str
    many: str
    keys: dict[str, Key]
    extra: tuple[tuple[str, Any], ...] = ()  # what the schema says of several keys together

    def read(self, node: Node, found: Problems) -> dict[str, Any]:
        """The values of the keys that are there."""
        if not isinstance(node, Mapping):
            found.append(Problem(node.at, f"expected {self.one} with its keys, got {got(node)}"))
            return {}
        meant = {word: nearest(word, self.keys) for word in node.keys if word not in self.keys}
        for word, guess in meant.items():
            question = did_you_mean(word, [guess] if guess else [])
            found.append(Problem(node.keys[word], f"unknown key '{safe(word[:100])}'{question}"))
        for word, key in self.keys.items():
            if key.required and word not in node.values and word not in meant.values():
                found.append(Problem(node.at, f"{self.one} needs the key '{word}'"))
        return {
            word: self.keys[word].shape.read(value, found)
            for word, value in node.values.items()
            if word in self.keys and (self.keys[word].required or not is_nothing(value))
        }

    def schema(self) -> dict[str, Any]:
        """An object."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [word for word, key in self.keys.items() if key.required],
            "properties": {word: self._property(key) for word, key in self.keys.items()},
        } | dict(self.extra)

    def _property(self, key: Key) -> dict[str, Any]:
        shape = key.shape.schema()
        value = shape if key.required else {"anyOf": [shape, {"type": "null"}]}
        return {"description": key.about, "default": key.default} | value


def is_nothing(node: Node) -> bool:
    """Is there a key, but no value?"""
    return isinstance(node, Scalar) and node.value is None
