"""The control socket answers its own user, whatever anybody else sends it."""

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usbbackup import varlink_idl
from usbbackup.agent.varlink_server import CALLERS, HELD, VarlinkServer
from usbbackup.errors import ConfigError, NotAllowedError, NotNowError, UsageError
from usbbackup.varlink import LIMIT, Client, VarlinkError, decode, encode

DESCRIPTION = resources.files("usbbackup.agent").joinpath("io.usbbackup.Agent.varlink").read_text()
Message = dict[str, Any]


class NoSuchJobError(UsageError):
    """An error that is named as one of the interface."""


class Agent:
    """What is behind the socket: answers, and remembers what it was asked and what was let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let_go = asyncio.Event()
        self.gate = asyncio.Event()

    async def status(self, parameters: Message) -> Message:
        """Answer at once."""
        self.asked.append("Status")
        return {"status": {"name": "caf\udce9"}}

    async def start(self, parameters: Message) -> AsyncIterator[Message]:
        """Answer twice."""
        self.asked.append("Start")
        yield {"event": {"n": 1, "jobs": parameters["jobs"]}}
        yield {"event": {"n": 2}}

    async def watch(self, parameters: Message) -> AsyncIterator[Message]:
        """Answer once, then wait for ever."""
        try:
            yield {"event": {}}
            await asyncio.Event().wait()
        finally:
            self.let_go.set()

    async def flood(self, parameters: Message) -> AsyncIterator[Message]:
        """Answer without end."""
        try:
            while True:
                self.asked.append("Tree")
                yield {"tree": "x" * 100_000}
                await asyncio.sleep(0)
        finally:
            self.let_go.set()

    async def reload(self, parameters: Message) -> Message:
        """Answer when the gate opens."""
        self.asked.append("Reload")
        await self.gate.wait()
        return {"message": "done"}

    async def forget(self, parameters: Message) -> Message:
        """Fail as asked."""
        errors: dict[str, Exception] = {
            "not now": NotNowError("absent", "plug it in"),
            "not allowed": NotAllowedError("not enrolled"),
            "config": ConfigError("config.yaml:1:1: wrong"),
            "job": NoSuchJobError("no job 'hom'"),
            "usage": UsageError("no"),
            "bug": ZeroDivisionError("oops"),
            "own": VarlinkError("io.usbbackup.Agent.NoSuchDrive", {"code": 2, "message": "m", "hint": None}),
        }
        raise errors[parameters["drive"]]

    def methods(self) -> dict[str, Any]:
        """By name."""
        return {
            "Status": self.status,
            "Start": self.start,
            "Watch": self.watch,
            "Tree": self.flood,
            "Reload": self.reload,
            "Forget": self.forget,
        }


class Caller:
    """A program at the other end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, method: str, parameters: Message | None = None, **more: bool) -> None:
        """Call; names without a dot are the agent's."""
        full = method if "." in method else f"io.usbbackup.Agent.{method}"
        self.writer.write(encode({"method": full, "parameters": parameters or {}, **more}))

    async def hear(self) -> Message:
        """The next answer."""
        return decode((await self.reader.readuntil(b"\0"))[:-1])

    async def ask(self, method: str, parameters: Message | None = None, **more: bool) -> Message:
        """Call and hear."""
        self.say(method, parameters, **more)
        return await self.hear()

    async def hung_up(self) -> bool:
        """Has the server let go, without another word?"""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


async def until(condition: Callable[[], object]) -> None:
    """Let others go on until it holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event; nothing sleeps
        await asyncio.sleep(0)


class House:
    """A server, what is behind it, and who calls."""

    def __init__(self, path: Path, uid: int | None = None) -> None:
        self.path, self.agent, self.callers = path, Agent(), list[Caller]()
        self.server = VarlinkServer(path, DESCRIPTION, self.agent.methods(), uid)

    async def caller(self) -> Caller:
        """Somebody new."""
        self.callers.append(Caller(*await asyncio.open_unix_connection(self.path, limit=2 * LIMIT)))
        return self.callers[-1]

    async def alive(self) -> bool:
        """Does it answer a newcomer?"""
        return "parameters" in await (await self.caller()).ask("Status")


def housed(path: Path, scene: Callable[[House], Awaitable[None]], uid: int | None = None) -> None:
    """Play a scene; afterwards no task, no caller and no socket is left."""

    async def main() -> None:
        house = House(path, uid)
        await house.server.start()
        try:
            await asyncio.wait_for(scene(house), 60)
        finally:
            await house.server.close()
            for caller in house.callers:
                caller.writer.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert not path.exists()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


def test_a_method_answers_and_the_connection_serves_again(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        for _ in range(3):
            assert await caller.ask("Status") == {"parameters": {"status": {"name": "caf\udce9"}}}

    housed(path, scene)


def test_calls_sent_at_once_are_answered_in_order(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        caller.say("Reload")
        caller.say("Status")
        house.agent.gate.set()
        assert await caller.hear() == {"parameters": {"message": "done"}}
        assert "status" in (await caller.hear())["parameters"]

    housed(path, scene)


def test_more_answers_come_one_by_one_and_the_last_is_empty(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        wish = {"jobs": ["a"], "drive": None, "accept_source": False, "dry_run": False, "wait": True}
        first = await caller.ask("Start", wish, more=True)
        assert first == {"parameters": {"event": {"n": 1, "jobs": ["a"]}}, "continues": True}
        assert (await caller.hear())["continues"] is True
        assert await caller.hear() == {"parameters": {}}
        assert "parameters" in await caller.ask("Status", more=True)
        assert (await caller.ask("Start", wish))["error"] == "org.varlink.service.ExpectedMore"

    housed(path, scene)


def test_the_service_tells_of_itself(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        info = (await caller.ask("org.varlink.service.GetInfo"))["parameters"]
        assert info["interfaces"] == ["org.varlink.service", "io.usbbackup.Agent"]
        for name in info["interfaces"]:
            told = await caller.ask("org.varlink.service.GetInterfaceDescription", {"interface": name})
            assert varlink_idl.parse(told["parameters"]["description"]).name == name

    housed(path, scene)


@pytest.mark.parametrize(
    ("method", "parameters", "error", "about"),
    [
        ("Nothing", {}, "MethodNotFound", {"method": "io.usbbackup.Agent.Nothing"}),
        ("Cancel", {}, "MethodNotImplemented", {"method": "io.usbbackup.Agent.Cancel"}),
        ("io.other.Status", {}, "InterfaceNotFound", {"interface": "io.other"}),
        ("nodot" + ".", {}, "InterfaceNotFound", {"interface": "nodot"}),
        ("org.varlink.service.Nothing", {}, "MethodNotFound", {"method": "org.varlink.service.Nothing"}),
        ("org.varlink.service.GetInterfaceDescription", {}, "InvalidParameter", {"parameter": "interface"}),
        (
            "org.varlink.service.GetInterfaceDescription",
            {"interface": "io.other"},
            "InterfaceNotFound",
            {"interface": "io.other"},
        ),
        ("Start", {"jobs": "home"}, "InvalidParameter", {"parameter": "jobs"}),
        ("Status", {"x" * 1000: 1}, "InvalidParameter", {"parameter": "x" * 200}),
        ("Forget", {"drive": None}, "InvalidParameter", {"parameter": "drive"}),
        ("Cancel" * 1000, {}, "MethodNotFound", {"method": ("io.usbbackup.Agent." + "Cancel" * 1000)[:200]}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_called_is_told_so(
    path: Path, method: str, parameters: Message, error: str, about: Message
) -> None:
    async def scene(house: House) -> None:
        told = await (await house.caller()).ask(method, parameters)
        assert told == {"error": f"org.varlink.service.{error}", "parameters": about}

    housed(path, scene)


@pytest.mark.parametrize(
    ("what", "error", "code"),
    [
        ("not now", "NotReady", 75),
        ("not allowed", "NotAllowed", 77),
        ("config", "ConfigInvalid", 78),
        ("job", "NoSuchJob", 2),
        ("usage", "Failed", 2),
        ("bug", "Failed", 70),
        ("own", "NoSuchDrive", 2),
    ],
)
def test_what_a_method_raises_becomes_an_error_of_the_interface(
    path: Path, what: str, error: str, code: int
) -> None:
    async def scene(house: House) -> None:
        told = await (await house.caller()).ask("Forget", {"drive": what})
        assert told["error"] == f"io.usbbackup.Agent.{error}"
        assert told["parameters"]["code"] == code
        assert varlink_idl.check(told["parameters"], house.server.interface.errors[error]) is None
        assert await house.alive()

    housed(path, scene)


def test_a_one_way_call_is_done_and_not_answered(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        wish = {"jobs": [], "accept_source": False, "dry_run": False, "wait": False}
        caller.say("Start", wish, oneway=True)
        caller.say("Forget", {"drive": "bug"}, oneway=True)
        caller.say("Nothing", oneway=True)
        assert "parameters" in await caller.ask("Status")
        assert house.agent.asked == ["Start", "Status"]

    housed(path, scene)


def test_a_watcher_that_leaves_is_let_go(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        await caller.ask("Watch", more=True)
        caller.writer.close()
        await house.agent.let_go.wait()
        assert await house.alive()

    housed(path, scene)


def test_a_watcher_that_left_before_it_was_served_is_let_go(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        caller.say("Watch", more=True)
        caller.writer.close()
        await caller.writer.wait_closed()
        await until(lambda: not house.server.callers)
        assert await house.alive()

    housed(path, scene)


def test_a_caller_that_says_no_more_still_hears_its_answers(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        caller.say("Reload")
        caller.say("Status")
        caller.writer.write_eof()
        await until(lambda: "Reload" in house.agent.asked)
        house.agent.gate.set()
        assert (await caller.hear())["parameters"] == {"message": "done"}
        assert "status" in (await caller.hear())["parameters"]
        assert await caller.hung_up()

    housed(path, scene)


def test_one_that_does_not_read_holds_up_nobody_and_fills_no_memory(path: Path) -> None:
    async def scene(house: House) -> None:
        slow = socket.socket(socket.AF_UNIX)
        slow.connect(str(path))
        slow.sendall(encode({"method": "io.usbbackup.Agent.Tree", "more": True}))
        before = -1
        while before != len(house.agent.asked) or before < 1:  # until it waits for the reader
            before = len(house.agent.asked)
            for _ in range(50):
                await asyncio.sleep(0)
        assert await house.alive()
        assert len(house.agent.asked) < 100
        slow.close()
        await house.agent.let_go.wait()

    housed(path, scene)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n\0",
        b"\0",
        b"{}\0",
        b"[" * 100_000 + b"\0",
        b"\xff\xfe\0",
        b'{"method": 5}\0',
        b"a" * LIMIT + b"\0",
    ],
    ids=lambda value: str(value[:16]),
)
def test_garbage_is_hung_up_on(path: Path, garbage: bytes) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        caller.writer.write(garbage)
        assert await caller.hung_up()
        assert await house.alive()

    housed(path, scene)


def test_a_line_of_a_hundred_megabytes_is_cut_off_early(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        sent = 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while sent < 100_000_000:
                caller.writer.write(b"a" * 100_000)
                await caller.writer.drain()
                sent += 100_000
        assert sent < 10 * LIMIT
        assert await house.alive()

    housed(path, scene)


def test_calls_piled_up_behind_a_slow_one_wait_outside_and_are_all_answered(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        caller.say("Reload")
        for _ in range(100):
            caller.writer.write(encode({"method": "io.usbbackup.Agent.Status", "x": "y" * 100_000}))
        await until(lambda: house.server.callers)
        (inside,) = house.server.callers
        await until(lambda: inside.held > LIMIT)
        house.agent.gate.set()
        assert "message" in (await caller.hear())["parameters"]
        for _ in range(100):
            assert "status" in (await caller.hear())["parameters"]
            assert inside.held < 2 * LIMIT

    housed(path, scene)


def test_calls_piled_up_behind_a_row_of_answers_end_it(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        await caller.ask("Watch", more=True)
        for _ in range(20):
            caller.writer.write(encode({"method": "io.usbbackup.Agent.Status", "x": "y" * 100_000}))
        assert await caller.hung_up()
        await house.agent.let_go.wait()
        assert await house.alive()

    housed(path, scene)


def test_a_line_that_comes_too_long_behind_a_slow_call_is_hung_up_on(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        caller.say("Reload")
        caller.writer.write(b"a" * (2 * LIMIT))
        await until(lambda: house.server.callers)
        (inside,) = house.server.callers
        await until(lambda: inside.held > LIMIT)
        house.agent.gate.set()
        assert "message" in (await caller.hear())["parameters"]
        assert await caller.hung_up()
        assert await house.alive()

    housed(path, scene)


def test_many_half_sent_lines_are_bounded_in_all(path: Path) -> None:
    async def scene(house: House) -> None:
        patient = await house.caller()
        patient.writer.write(b'{"method": "io.usbbackup')
        for _ in range(100):
            (await house.caller()).writer.write(b"a" * (LIMIT // 2))
            assert sum(inside.held for inside in house.server.callers) <= HELD
        patient.writer.write(b'.Agent.Status"}\0')
        assert "parameters" in await patient.hear()

    housed(path, scene)


def test_two_hundred_callers_are_served_and_idle_ones_cost_no_task(path: Path) -> None:
    async def scene(house: House) -> None:
        before = len(asyncio.all_tasks())
        callers = [await house.caller() for _ in range(200)]
        assert all(["parameters" in await caller.ask("Status") for caller in callers])
        assert len(asyncio.all_tasks()) == before
        assert len(house.server.callers) == 200

    housed(path, scene)


def test_of_too_many_callers_the_one_that_was_silent_longest_makes_room(path: Path) -> None:
    async def scene(house: House) -> None:
        watcher, lazy, active = [await house.caller() for _ in range(3)]
        assert "parameters" in await watcher.ask("Watch", more=True)
        others = [await house.caller() for _ in range(CALLERS - 3)]
        assert "parameters" in await active.ask("Status")
        lazy.writer.write(b"{")
        assert await house.alive()
        assert await lazy.hung_up()
        assert "parameters" in await active.ask("Status")
        assert "parameters" in await others[-1].ask("Status")
        assert len(house.server.callers) == CALLERS
        assert not house.agent.let_go.is_set()

    housed(path, scene)


def test_where_all_callers_are_being_served_one_more_is_told_to_come_later(path: Path) -> None:
    async def scene(house: House) -> None:
        for _ in range(CALLERS):
            await (await house.caller()).ask("Watch", more=True)
        late = await house.caller()
        assert (await late.hear())["error"] == "io.usbbackup.Agent.NotReady"
        assert await late.hung_up()
        house.callers[0].writer.close()
        await house.agent.let_go.wait()
        await until(lambda: len(house.server.working) < CALLERS)
        assert await house.alive()

    housed(path, scene)


@pytest.mark.parametrize("rounds", range(8))
def test_a_caller_that_is_just_coming_in_does_not_outlive_the_server(path: Path, rounds: int) -> None:
    async def main() -> None:
        house = House(path)
        await house.server.start()
        with socket.socket(socket.AF_UNIX) as coming:
            coming.connect(str(path))
            coming.sendall(encode({"method": "io.usbbackup.Agent.Watch", "more": True}))
            for _ in range(rounds):
                await asyncio.sleep(0)
            await house.server.close()
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert not house.server.callers
            coming.settimeout(10)
            with suppress(ConnectionResetError):
                while coming.recv(4096):
                    pass

    asyncio.run(main())


def test_another_user_is_refused(path: Path) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        assert (await caller.hear())["error"] == "org.varlink.service.PermissionDenied"
        assert await caller.hung_up()

    housed(path, scene, uid=os.getuid() + 1)


STRANGER = """
import os, socket
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as caller:
    try:
        caller.connect("control.sock")
        print(caller.recv(4096).decode())
    except PermissionError:
        print("closed")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_real_stranger_cannot_reach_the_socket_and_is_refused_where_he_could(path: Path) -> None:
    def stranger() -> str:
        told = subprocess.run(
            [sys.executable, "-c", STRANGER], cwd=path.parent, capture_output=True, check=True
        )
        return told.stdout.decode().strip(" \n\0")

    def open_up() -> None:
        path.parent.chmod(0o711)
        path.chmod(0o666)

    async def scene(house: House) -> None:
        assert await asyncio.to_thread(stranger) == "closed"
        open_up()
        told = decode((await asyncio.to_thread(stranger)).encode())
        assert told["error"] == "org.varlink.service.PermissionDenied"
        assert await house.alive()

    housed(path, scene)


def test_the_socket_and_its_directory_are_the_users_alone(path: Path) -> None:
    path.parent.mkdir(mode=0o755)

    seen: list[str] = []

    def look() -> None:
        seen.extend(stat.filemode(place.stat().st_mode) for place in (path, path.parent))
        seen.extend(entry.name for entry in path.parent.iterdir())

    async def scene(house: House) -> None:
        look()

    housed(path, scene)
    assert seen == ["srw-------", "drwx------", path.name]


def test_what_a_dead_agent_left_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    for name in (path, path.with_name(f"{path.name}.{os.getpid()}")):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(name))

    async def scene(house: House) -> None:
        assert await house.alive()

    housed(path, scene)


def test_a_living_agent_is_not_pushed_aside(path: Path) -> None:
    async def scene(house: House) -> None:
        with pytest.raises(NotNowError, match="another agent listens"):
            await House(path).server.start()
        assert await house.alive()

    housed(path, scene)


def test_what_is_no_socket_stays_untouched(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(NotNowError, match="is not a socket"):
        asyncio.run(House(path).server.start())
    assert path.read_text() == "precious"


def test_a_directory_that_is_a_link_is_refused(path: Path) -> None:
    (path.parent.parent / "elsewhere").mkdir()
    path.parent.symlink_to("elsewhere")
    with pytest.raises(NotNowError, match="is not a directory of your own"):
        asyncio.run(House(path).server.start())
    assert not list((path.parent.parent / "elsewhere").iterdir())


def test_a_socket_that_somebody_else_put_there_meanwhile_is_left_alone(path: Path) -> None:
    def put_aside() -> None:
        path.rename(path.with_name("old"))

    async def main() -> None:
        first, second = House(path), House(path)
        await first.server.start()
        put_aside()
        await second.server.start()
        await first.server.close()
        assert await second.alive()
        await second.server.close()
        second.callers[0].writer.close()
        await first.server.close()

    asyncio.run(main())


def test_a_path_longer_than_a_socket_may_have_is_served(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "control.sock"

    async def scene(house: House) -> None:
        def ask() -> Message:
            with Client.connect(path) as client:
                return client.call("Status")

        assert "status" in await asyncio.to_thread(ask)

    housed(path, scene)


def test_the_client_and_the_server_understand_each_other(path: Path) -> None:
    def ask() -> list[Message]:
        with Client.connect(path) as client:
            with pytest.raises(VarlinkError, match="absent") as caught:
                client.call("Forget", drive="not now")
            assert (caught.value.code, caught.value.hint) == (75, "plug it in")
            wish = {"jobs": ["a"], "drive": None, "accept_source": False, "dry_run": False, "wait": True}
            return [client.call("Status"), *client.call_more("Start", **wish)]

    async def scene(house: House) -> None:
        answers = await asyncio.to_thread(ask)
        assert [list(answer) for answer in answers] == [["status"], ["event"], ["event"]]

    housed(path, scene)


chunks = st.lists(
    st.one_of(
        st.binary(max_size=50),
        st.sampled_from(
            [b"\0", b"{}\0", encode({"method": "io.usbbackup.Agent.Status"}), b'{"method":', b"[[["]
        ),
        st.dictionaries(
            st.sampled_from(["method", "parameters", "more", "oneway"]),
            st.one_of(st.sampled_from(["io.usbbackup.Agent.Watch", True, {}]), st.text(), st.integers()),
        ).map(encode),
    )
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks)
def test_whatever_is_sent_the_next_caller_is_served(tmp_path: Path, sent: list[bytes]) -> None:
    async def scene(house: House) -> None:
        caller = await house.caller()
        for data in sent:
            caller.writer.write(data)
        await asyncio.sleep(0)
        caller.writer.close()
        assert await house.alive()

    housed(tmp_path / "run" / "control.sock", scene)


@pytest.mark.skipif(shutil.which("varlinkctl") is None, reason="varlinkctl comes with systemd 255 and newer")
def test_varlinkctl_understands_it(path: Path) -> None:
    def run(*arguments: str) -> str:
        return subprocess.run(["varlinkctl", *arguments], check=True, capture_output=True, text=True).stdout

    async def scene(house: House) -> None:
        assert "io.usbbackup.Agent" in await asyncio.to_thread(run, "info", str(path))
        told = await asyncio.to_thread(run, "introspect", str(path), "io.usbbackup.Agent")
        assert "method Start" in told
        assert "status" in await asyncio.to_thread(run, "call", str(path), "io.usbbackup.Agent.Reload", "{}")

    housed(path, scene)
