"""Only YAML that everybody reads alike becomes a tree; everything else is refused at its place."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from usbbackup.strict_yaml import MAX_BYTES, BadYaml, Mapping, Node, Place, Scalar, Sequence, parse


def plain(node: Node) -> object:
    """The tree as Python's own types."""
    match node:
        case Scalar(value=value):
            return value
        case Sequence(items=items):
            return [plain(item) for item in items]
        case Mapping(values=values):
            return {key: plain(value) for key, value in values.items()}


def refused(text: str | bytes) -> list[str]:
    with pytest.raises(BadYaml) as caught:
        parse(text.encode() if isinstance(text, str) else text)
    return [str(problem) for problem in caught.value.problems]


def test_texts_numbers_lists_and_keys_are_read_with_their_places() -> None:
    tree = parse("# Größe\na: [1, -2, 3.5, text, 'on', \"1\"]\nb:\n  c: true\n  d: ~\n  e:\n".encode())
    assert plain(tree) == {"a": [1, -2, 3.5, "text", "on", "1"], "b": {"c": True, "d": None, "e": None}}
    assert isinstance(tree, Mapping)
    assert tree.keys == {"a": Place(2, 1), "b": Place(3, 1)}
    assert tree.values["b"].at == Place(4, 3)


def test_an_empty_file_is_a_tree_without_a_value() -> None:
    assert [plain(parse(data)) for data in (b"", b"# nothing\n", b"\xef\xbb\xbf", b"---\n")] == [None] * 4


@pytest.mark.parametrize(
    "word",
    [
        "22:30",
        "1:30.5",
        "010",
        "0x1f",
        "0b1",
        "1_000",
        "2026-11-23",
        ".inf",
        ".nan",
        "1.5e+3",
    ],
)
def test_what_may_be_a_number_or_a_text_must_be_written_in_quotes(word: str) -> None:
    (problem,) = refused(f"a: {word}")
    assert problem.startswith(f"1:4: '{word}' is a number or a date to some readers")
    assert plain(parse(f"a: '{word}'".encode())) == {"a": word}


@pytest.mark.parametrize("word", ["on", "Off", "YES", "no"])
def test_yes_and_no_in_all_their_forms_are_refused_as_value_and_as_key(word: str) -> None:
    assert refused(f"a: {word}")[0].startswith(f"1:4: '{word}' may mean true, false or the word")
    assert refused(f"{word}: a")[0].startswith(f"1:1: '{word}' may mean true, false or the word")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "3:1: duplicate key 'a' (first in line 1)"),
        (
            "a: &x 1",
            "1:4: '&x' is a YAML anchor, which is not used here: write it in quotes if the text is meant",
        ),
        (
            "a: *x",
            "1:4: '*x' is a YAML alias, which is not used here: write it in quotes if the text is meant",
        ),
        (
            "a: !foo",
            "1:4: '!foo' is a YAML tag, which is not used here: write it in quotes if the text is meant",
        ),
        ("a: !!str 1", "1:4: 'tag:yaml.org,2002:str' is a YAML tag, which is not used here: "),
        ("a: [*.iso]", "1:5: a text that starts with '*' must be written in quotes"),
        ("- !e!x y", "1:3: a text that starts with '!' must be written in quotes"),
        ("<<: {a: 1}", "1:1: '<<' has a special meaning in YAML that is not used here: write it in quotes"),
        ("a: =", "1:4: '=' has a special meaning"),
        ("1: a", "1:1: a key must be a plain word"),
        ("[a]: b", "1:1: a key must be a plain word"),
        ("a: 1\n---\nb: 2", "2:1: a second document: the file has only one"),
        ("a: 1\n...\nb: 2", "3:1: a second document: the file has only one"),
        ("a:\n\tb: 1", "2:1: a tab where YAML allows only spaces"),
        ("a: @x", "1:4: a text cannot start with this character: write it in quotes"),
        ("a: 'x\n\n\n", "1:4: a quote that is opened here is never closed"),
        ("a: [b", "1:6: a list that starts with '[' is not closed, or a ',' is missing"),
        ("a: {b: 1", "1:9: what starts with '{' is not closed, or a ',' is missing"),
        ("a: [", "1:5: what starts with '[' or '{' is not closed"),
        ("a: b: c", "1:5: a ':' where no key can stand"),
        ("a: 'b' c", "1:8: this does not belong to the lines above it: check the indentation"),
        ("a: - b", "1:4: a '-' where no list can stand: check the indentation"),
        ("a: 1\nb\nc: 2", "2:1: a key without its ':'"),
        ('a: "\\U00110000"', "1:7: an escape that stands for no character"),
        ('a: "\\UFFFFFFFF"', "1:7: an escape that stands for no character"),
        ("%YAML 2.0\n---\na", "1:1: not valid YAML: "),
        ("a: \x00", "1:4: control character '\\x00' in the file"),
        ("a\nb: \x1b[31m", "2:4: control character '\\x1b' in the file"),
        (b"a: b\n\xc3\xa9: \xff", "2:4: byte 0xff is not UTF-8"),
        (b"\xef\xbb\xbfa: \xff", "1:4: byte 0xff is not UTF-8"),
        ("[" * 1000, "1:13: nested deeper than 12 levels"),
        ("- " * 50_000, "1:25: nested deeper than 12 levels"),
        ("a" * (MAX_BYTES + 1), "1:1: the file is larger than 131,072 bytes, which is the most it may be"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_the_rest_of_yaml_is_refused_in_words(text: str | bytes, problem: str) -> None:
    assert refused(text)[0].startswith(problem)


def test_all_that_is_simply_wrong_is_told_at_once_in_the_order_of_the_file() -> None:
    assert [line.split(":")[0] for line in refused("a: on\nb: 010\nb: 1\nc: *x\n")] == ["1", "2", "3", "4"]


def test_a_bomb_of_aliases_never_goes_off() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
    )
    assert "1:4: '&a' is a YAML anchor" in refused(bomb)[0]


SNIPPETS = st.lists(
    st.sampled_from(
        [*"-:[]{},?&*!|>'\"%@`#~\n\t \\", "a", "on", "010", "- ", ": ", "\n  ", "---\n", "\\U00110000", "é"]
    )
).map("".join)


@given(st.one_of(st.binary(), st.text(), SNIPPETS))
def test_input_of_any_kind_ends_in_a_tree_or_a_refusal_with_a_place(data: bytes | str) -> None:
    try:
        parse(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    except BadYaml as error:
        assert error.problems
        assert all(at.line >= 1 and at.column >= 1 and message for at, message in error.problems)


TREES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.text(st.characters(codec="utf-8"))
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(st.characters(codec="utf-8")), inner)),
    max_leaves=10,
)


@given(TREES)
def test_what_pyyaml_writes_is_read_as_it_was_meant(tree: object) -> None:
    text = yaml.safe_dump(tree)
    if "&" not in text and tree is not None:
        try:
            assert plain(parse(text.encode())) == tree
        except BadYaml as error:
            assert "control character" in str(error) or "nested deeper" in str(error)
