"""Messages on the wire: what is one, what is none, and what a caller is told when there is no answer."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usbbackup import varlink, varlink_idl
from usbbackup.errors import Exit, NoAgentError
from usbbackup.varlink import LIMIT, BadMessageError, Client, Request, VarlinkError, decode, encode, request

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**60), 2**60),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON))
def test_a_message_comes_out_as_it_went_in(message: dict[str, Any]) -> None:
    data = encode(message)
    assert data.endswith(b"\0")
    assert data.count(b"\0") == 1
    assert decode(data[:-1]) == message


@given(st.one_of(st.binary(), st.text().map(str.encode), JSON.map(json.dumps).map(str.encode)))
def test_any_bytes_are_a_call_or_a_bad_message(data: bytes) -> None:
    try:
        assert isinstance(request(decode(data)), Request)
    except BadMessageError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"method": "a.b"', "not JSON"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"' + b"a" * LIMIT + b'"', "larger than 1048576 bytes"),
        (b"{}", "names no method"),
        (b'{"method": 5}', "names no method"),
        (b'{"method": "a.b", "parameters": []}', "its parameters are no object"),
        (b'{"method": "a.b", "more": "yes"}', "more and oneway are true or false"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_what_is_no_call_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadMessageError, match=reason):
        request(decode(data))


def test_what_is_left_out_of_a_call_is_empty_or_false() -> None:
    assert request({"method": "a.B"}) == Request("a.B", {}, False, False)
    assert request({"method": "a.B", "parameters": None, "more": None, "oneway": True}).oneway


@pytest.mark.parametrize(
    "value", [object(), float("nan"), {"a": b""}, "a" * LIMIT], ids=["object", "nan", "bytes", "long"]
)
def test_what_cannot_be_said_is_not_sent(value: object) -> None:
    with pytest.raises(BadMessageError):
        encode({"a": value})


def test_undecodable_names_travel() -> None:
    assert decode(encode({"name": "caf\udce9"})[:-1]) == {"name": "caf\udce9"}


@contextmanager
def agent(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """An agent that says the same to everybody, and hangs up."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        with varlink.address(path) as name:
            listening.bind(name)
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join()


def said(*messages: dict[str, Any]) -> bytes:
    return b"".join(map(encode, messages))


def test_a_short_name_of_a_method_is_one_of_the_agent(tmp_path: Path) -> None:
    with (
        agent(tmp_path / "s", said({"parameters": {"n": 1}})) as heard,
        Client.connect(tmp_path / "s") as client,
    ):
        assert client.call("Cancel", job="home") == {"n": 1}
    assert decode(heard[0][:-1]) == {"method": "io.usbbackup.Agent.Cancel", "parameters": {"job": "home"}}


def test_answers_come_one_by_one_until_the_last_which_is_empty(tmp_path: Path) -> None:
    answers = said(*({"parameters": {"n": n}, "continues": True} for n in range(3)), {"parameters": {}})
    with agent(tmp_path / "s", answers) as heard, Client.connect(tmp_path / "s") as client:
        assert [answer["n"] for answer in client.call_more("Watch")] == [0, 1, 2]
    assert decode(heard[0][:-1])["more"] is True


def test_a_path_longer_than_a_socket_may_have_is_reached(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    with agent(directory / "s", said({})), Client.connect(directory / "s") as client:
        assert client.call("org.varlink.service.GetInfo") == {}


def test_an_error_of_the_agent_keeps_its_code_its_sentence_and_its_hint(tmp_path: Path) -> None:
    told = {"code": 75, "message": "the drive is \x1b[31mabsent", "hint": "plug it in"}
    error = {"error": "io.usbbackup.Agent.NotReady", "parameters": told}
    with (
        agent(tmp_path / "s", said(error)),
        Client.connect(tmp_path / "s") as client,
        pytest.raises(VarlinkError) as caught,
    ):
        client.call("Start")
    assert (caught.value.name, caught.value.parameters) == ("io.usbbackup.Agent.NotReady", told)
    assert (caught.value.code, caught.value.hint) == (Exit.NOT_NOW, "plug it in")
    assert caught.value.message == "the drive is \\x1b[31mabsent"


@pytest.mark.parametrize(
    ("name", "parameters", "code", "message"),
    [
        ("org.varlink.service.PermissionDenied", {}, 77, "the agent talks only to the user it belongs to"),
        (
            "org.varlink.service.MethodNotFound",
            {"method": "a.B"},
            70,
            "the agent answered org.varlink.service.MethodNotFound (method a.B)",
        ),
        (
            "x.Y",
            {"code": "75", "message": 5, "hint": []},
            70,
            "the agent answered x.Y (code 75, message 5, hint [])",
        ),
        ("x.Y", {"code": 9999}, 70, "the agent answered x.Y (code 9999)"),
    ],
)
def test_any_error_becomes_a_sentence_and_a_code(
    name: str, parameters: dict[str, Any], code: int, message: str
) -> None:
    error = VarlinkError(name, parameters)
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "the agent hung up before it had answered"),
        (b'{"parameters": {}}', "the agent hung up before it had answered"),
        (b"garbage\0", "the agent's answer is no message: not JSON"),
        (b'{"parameters": 5}\0', "the agent's answer has no parameters"),
        (b"a" * (LIMIT + 1), "the agent's answer is larger than 1048576 bytes"),
    ],
    ids=["nothing", "half", "garbage", "number", "long"],
)
def test_no_proper_answer_counts_as_no_agent(tmp_path: Path, answer: bytes, message: str) -> None:
    with (
        agent(tmp_path / "s", answer),
        Client.connect(tmp_path / "s") as client,
        pytest.raises(NoAgentError) as caught,
    ):
        client.call("Status")
    assert caught.value.message.startswith(message)
    assert caught.value.hint == "Start it with `systemctl --user start usbbackup`."


def test_where_nobody_listens_there_is_no_agent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    for name in ("missing", "file", "stale", "file/below", "x" * 200):
        with pytest.raises(NoAgentError, match="no agent answers at"):
            Client.connect(tmp_path / name)


def test_an_agent_that_is_silent_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        with Client.connect(tmp_path / "s") as client, pytest.raises(NoAgentError, match="does not answer"):
            client.call("Status", 0.001)


def test_asking_needs_neither_asyncio_nor_msgspec() -> None:
    code = "import sys, usbbackup.varlink; print({'asyncio', 'msgspec', 'yaml'} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert told.stdout == "set()\n"


def test_the_description_language_is_understood() -> None:
    interface = varlink_idl.parse(
        "# a comment\ninterface a.b-c # another\n"
        "method M(a: ?[]string, b: [string]int, c: (x: bool, y: float)) -> ()\n"
        "method N() -> (kind: (one, two), any: object)\nerror E (n: int)"
    )
    assert (interface.name, list(interface.methods), list(interface.errors)) == ("a.b-c", ["M", "N"], ["E"])
    takes, gives = interface.methods["M"][0], interface.methods["N"][1]
    good: dict[str, Any] = {"b": {"k": 1}, "c": {"x": True, "y": 1}}
    assert varlink_idl.check(good, takes) is None
    assert varlink_idl.check(good | {"a": ["x"]}, takes) is None
    wrong: list[dict[str, Any]] = [
        {"a": [1]},
        {"b": {"k": True}},
        {"b": []},
        {"c": None},
        {"c": {"x": 1, "y": 1}},
        {"c": {"x": True, "y": "1"}},
        {"d": 1},
    ]
    for bad in wrong:
        assert varlink_idl.check(good | bad, takes) == next(iter(bad))
    assert varlink_idl.check({"kind": "two", "any": [1]}, gives) is None
    assert varlink_idl.check({"kind": "three", "any": 0}, gives) == "kind"
    assert varlink_idl.check({"kind": "one"}, gives) == "any"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "interface",
        "method M() -> ()",
        "interface a.b type X ()",
        "interface a.b method M() -> (a: what)",
        "interface a.b method M(a",
        "interface a.b method M(a: int; b: int) -> ()",
        "interface a.b method M(a, b) -> ()",
        "interface a.b method M(a: int, b) -> ()",
        "interface a.b error E (a: int b: int)",
        "interface a.b error E int",
    ],
)
def test_what_is_no_description_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        varlink_idl.parse(text)


@given(
    st.lists(
        st.sampled_from(
            ["interface", "a.b", "method", "M", "(", ")", "->", ":", ",", "?", "[]", "int", "error"]
        )
    )
)
def test_any_text_is_a_description_or_a_value_error(words: list[str]) -> None:
    try:
        varlink_idl.parse(" ".join(words))
    except ValueError as error:
        assert str(error)
