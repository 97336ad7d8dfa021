"""Blocking work beside the event loop, on a thread that may be left behind.

Not `asyncio.to_thread`: its pool joins its threads at exit, and a thread that is stuck in a system call on a
pulled drive would keep the whole program from ending. These threads are daemons, one for each call.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")


async def in_thread(
    work: Callable[[*Args], T], *args: *Args, unwanted: Callable[[T], object] = lambda _: None
) -> T:
    """Run `work(*args)` on a thread of its own and wait for what it returns or raises.

    Cancelled, it returns at once: the thread goes on by itself, and what it brings back is given to
    `unwanted`, there or here: an open file would stay open otherwise.
    """
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from here on a cancelled waiter cannot cancel the thread's half
    Thread(target=_settle, args=(result, work, args), name=f"offload {work!r}", daemon=True).start()
    try:
        return await asyncio.wrap_future(result)
    except asyncio.CancelledError:
        result.add_done_callback(lambda late: None if late.exception() else unwanted(late.result()))
        raise


def _settle(result: Future[T], work: Callable[[*Args], T], args: tuple[*Args]) -> None:
    try:
        result.set_result(work(*args))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the one who waits
        result.set_exception(error)
