"""The interface description language of Varlink, as much of it as our interfaces use.

Knows methods, errors and types without names of their own (varlink.org/Interface-Definition); `check` holds
parameters against them.
"""

import re
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r"\s+|#[^\n]*|(?P<token>->|\[\]|\[string\]|[?(),:]|[A-Za-z][A-Za-z0-9_.-]*)")
_BASIC: dict[str, type | tuple[type, ...]] = {
    "bool": bool,
    "int": int,
    "float": (int, float),
    "string": str,
    "object": object,
}


@dataclass(frozen=True)
class Basic:
    """One of bool, int, float, string, object."""

    name: str


@dataclass(frozen=True)
class Enum:
    """One of some words."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Struct:
    """Named fields."""

    fields: "dict[str, Type]" = field(default_factory=dict)


@dataclass(frozen=True)
class Wrapped:
    """`?` what may be null, `[]` a list, `[string]` a dictionary of something."""

    how: str
    inner: "Type"


Type = Basic | Enum | Struct | Wrapped


@dataclass(frozen=True)
class Interface:
    """What an interface offers: for each method what goes in and out, for each error what it tells."""

    name: str
    description: str
    methods: dict[str, tuple[Struct, Struct]]
    errors: dict[str, Struct]


def parse(description: str) -> Interface:
    """Read a description; ValueError where it is none."""
    return _Parser(description).interface()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._tokens.reverse()

    def interface(self) -> Interface:
        self._expect("interface")
        found = Interface(self._take(), self._text, {}, {})
        while self._tokens:
            match self._take():
                case "method":
                    name, takes = self._take(), self._struct()
                    self._expect("->")
                    found.methods[name] = (takes, self._struct())
                case "error":
                    name = self._take()
                    found.errors[name] = self._struct()
                case other:
                    raise ValueError(f"expected method or error, got {other}")
        return found

    def _take(self) -> str:
        if not self._tokens:
            raise ValueError("the description ends too early")
        return self._tokens.pop()

    def _expect(self, token: str) -> None:
        if (found := self._take()) != token:
            raise ValueError(f"expected {token}, got {found}")

    def _struct(self) -> Struct:
        found = self._type()
        if not isinstance(found, Struct):
            raise ValueError("expected (name: type, ...)")  # noqa: TRY004 - the text is wrong, not a type
        return found

    def _type(self) -> Type:
        match self._take():
            case ("?" | "[]" | "[string]") as how:
                return Wrapped(how, self._type())
            case "(":
                return self._fields()
            case name if name in _BASIC:
                return Basic(name)
            case other:
                raise ValueError(f"expected a type, got {other}")

    def _fields(self) -> Struct | Enum:
        fields: dict[str, Type] = {}
        words: list[str] = []
        while (name := self._take()) != ")":
            following = self._take()
            if following == ":":
                fields[name] = self._type()
                following = self._take()
            else:
                words.append(name)
            if following == ")":
                break
            if following != ",":
                raise ValueError(f"expected a comma, got {following}")
        if fields and words:
            raise ValueError(f"{words[0]} has no type")
        return Enum(tuple(words)) if words else Struct(fields)


def _tokens(text: str) -> list[str]:
    found, position = [], 0
    while position < len(text):
        if (match := _TOKEN.match(text, position)) is None:
            raise ValueError(f"a description has no {text[position]!r}")
        position = match.end()
        if match["token"] is not None:
            found.append(match["token"])
    return found


def check(value: Any, struct: Struct) -> str | None:
    """The name of the first parameter that does not fit, or None; what may be null may be left out.

    >>> check({"job": "home", "x": 1}, Struct({"job": Basic("string")}))
    'x'
    """
    unknown = [name for name in value if name not in struct.fields]
    wrong = [name for name, kind in struct.fields.items() if not _fits(value.get(name), kind)]
    return next(iter(unknown + wrong), None)


def _fits(value: Any, kind: Type) -> bool:
    match kind:
        case Basic("object"):
            return value is not None
        case Basic(name):
            return isinstance(value, _BASIC[name]) and isinstance(value, bool) == (name == "bool")
        case Enum(words):
            return value in words
        case Struct():
            return isinstance(value, dict) and check(value, kind) is None
        case Wrapped("?", inner):
            return value is None or _fits(value, inner)
        case Wrapped("[]", inner):
            return isinstance(value, list) and all(_fits(item, inner) for item in value)
        case Wrapped(_, inner):
            return isinstance(value, dict) and all(_fits(item, inner) for item in value.values())
