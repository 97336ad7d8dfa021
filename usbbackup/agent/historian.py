"""The one writer of the run history: what cannot be written now is kept and written later, never dropped."""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from usbbackup.agent.adopt import end_left_over
from usbbackup.agent.journal import story
from usbbackup.agent.messages import Message
from usbbackup.agent.world import World
from usbbackup.clock import Timer
from usbbackup.history import History, HistoryError
from usbbackup.otp import Continue, Sender, Server, Target, call, cast

T = TypeVar("T")
Question = Callable[[History], Any]

RETRY_SECONDS = 30.0
TROUBLE = {"kind": Message.HISTORY_TROUBLE}
KEPT = 10_000  # writes kept while the disk is full; beyond that the oldest go, and the journal says so


class Historian(Server):
    """Opens the history, closes what an earlier agent left open, then writes and answers in order."""

    trap_exits = True

    def __init__(self, world: World) -> None:
        self._world = world

    async def init(self) -> Continue:
        """Start without the database: a full home is no reason for having no agent."""
        self._kept: deque[Question] = deque()
        self._retry: Timer | None = None
        self._history: History | None = None
        self._aside: str | None = None
        return Continue()

    async def handle_continue(self, argument: object) -> None:
        """End what an agent that died has left running, and say so in the history."""
        try:
            lines = await end_left_over(self._opened())
        except HistoryError as error:
            self._later(error)
            return
        for line in lines:
            story.warning("%s", line, extra={"kind": Message.RUN_INTERRUPTED})

    async def handle_cast(self, message: Question) -> None:
        """Write, in order with all that waits."""
        if len(self._kept) >= KEPT:
            self._kept.popleft()
            lost = "the history could not be written for so long that its oldest news is lost"
            story.error(lost, extra=TROUBLE)
        self._kept.append(message)
        self._write()

    async def handle_call(self, request: Question, sender: Sender) -> Any:
        """Answer, after all that was written before; an unreadable history answers with its error."""
        self._write()
        try:
            return request(self._opened())
        except HistoryError as error:
            return error

    async def handle_info(self, message: object) -> None:
        """The time has come to try again."""
        if message == "again":
            self._retry = None
            self._write()

    def _opened(self) -> History:
        if self._history is None:
            self._history = History.open(self._world.paths.history_db, self._world.clock)
        if self._history.set_aside != self._aside:
            self._aside = self._history.set_aside
            story.warning("%s", self._aside, extra=TROUBLE)
        return self._history

    def _write(self) -> None:
        try:
            while self._kept:
                self._kept[0](self._opened())
                self._kept.popleft()
        except HistoryError as error:
            self._later(error)

    def _later(self, error: HistoryError) -> None:
        if self._retry is None:
            story.error("the history cannot be written now, it is kept in memory: %s", error, extra=TROUBLE)
            self._retry = self._world.clock.later(RETRY_SECONDS, lambda: self.pid.deliver("again"))

    async def terminate(self, reason: object) -> None:
        """Write the last of it."""
        self._write()
        if self._retry is not None:
            self._retry.cancel()
        if self._history is not None:
            self._history.close()


def write(historian: Target, verb: Callable[[History], Any]) -> None:
    """Have something written; it is written later where it cannot be now."""
    cast(historian, verb)


async def ask(historian: Target, question: Callable[[History], T], otherwise: T) -> T:
    """Ask the history; `otherwise` where it cannot be read, which the journal tells."""
    answer = await call(historian, question, timeout=None)
    if isinstance(answer, HistoryError):
        story.error("the history cannot be read: %s", answer, extra=TROUBLE)
        return otherwise
    return answer  # type: ignore[no-any-return] # the answer of `question`, through a mailbox
