"""What supervision costs: checkouts, messages, pools and idle workers, against a bare mailbox round trip.

The floor is what any message-passing pool must pay at least once per checkout: one round trip through a queue
to a task that answers by a future. Every figure is the median of several rounds in one run, taken in turns.
"""

import argparse
import asyncio
import gc
import json
import shutil
import statistics
import subprocess
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from usbbackup.otp import Pid, Pools, Sender, Server, call, send, start, stop

ROUNDS, PAIRS, MESSAGES = 5, 50_000, 10_000
WANTED = {"pairs, 1 client": 0.5, "pairs, 100 clients, nobody waits": 0.5}  # of the floor, at least


class Worker(Server):
    """Does nothing."""

    async def handle_call(self, request: Any, sender: Sender) -> Any:
        """Answer with what was asked."""
        return request


async def timed(work: Awaitable[Any]) -> float:
    before = time.perf_counter()
    await work
    return time.perf_counter() - before


async def floor() -> float:
    """Bare mailbox round trips per second."""
    queue: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def mailbox() -> None:
        while True:
            (await queue.get()).set_result(None)

    async def client() -> None:
        for _ in range(PAIRS):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue.put_nowait(future)
            await future

    task = asyncio.create_task(mailbox())
    seconds = await timed(client())
    task.cancel()
    return PAIRS / seconds


async def pairs(clients: int, size: int, held: bool = False) -> float:
    """Checkout and checkin, pairs per second; `held`: each worker is kept for one turn of the loop."""
    pools = Pools()
    await start(pools)
    await pools.start_pool("bench", Worker, size)

    async def client() -> None:
        for _ in range(PAIRS // clients):
            worker = await pools.checkout("bench", None)
            assert isinstance(worker, Pid)
            if held:
                await asyncio.sleep(0)
            pools.checkin("bench", worker)

    seconds = await timed(asyncio.gather(*(client() for _ in range(clients))))
    await stop(pools.pid)
    return PAIRS / seconds


async def calls() -> float:
    """Calls of one process per second."""
    pid = await start(Worker())

    async def client() -> None:
        for n in range(MESSAGES):
            await call(pid, n)

    seconds = await timed(client())
    await stop(pid)
    return MESSAGES / seconds


async def messages() -> float:
    """Plain messages through one process per second."""
    pid = await start(Worker())

    async def client() -> None:
        for n in range(MESSAGES):
            send(pid, n)
        await call(pid, "done", None)

    seconds = await timed(client())
    await stop(pid)
    return MESSAGES / seconds


async def start_and_stop(count: int) -> tuple[float, float]:
    """Seconds per pool of 3 workers to start, and to stop."""
    pools = Pools()
    await start(pools)

    async def start_all() -> None:
        for n in range(count):
            await pools.start_pool(str(n), Worker, 3)

    async def stop_all() -> None:
        for n in range(count):
            await pools.stop_pool(str(n))

    seconds = await timed(start_all()) / count, await timed(stop_all()) / count
    await stop(pools.pid)
    return seconds


async def bytes_per_worker(size: int = 2_000) -> float:
    """Memory that one idle worker takes, its task included."""
    pools = Pools()
    await start(pools)
    gc.collect()
    tracemalloc.start()
    await pools.start_pool("bench", Worker, size)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    await stop(pools.pid)
    return used / size


def elixir() -> list[float] | None:
    """Pairs per second of the same pool in Elixir, with 1 and 100 clients; None where it is not installed."""
    program = shutil.which("elixir")
    if program is None:
        return None
    script = Path(__file__).with_suffix(".exs")
    done = subprocess.run([program, str(script)], capture_output=True, text=True, check=True, timeout=300)
    return [float(line) for line in done.stdout.split()]


def medians(benches: dict[str, Callable[[], Any]]) -> dict[str, float]:
    rounds = [{name: asyncio.run(bench()) for name, bench in benches.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(one[name] for one in rounds) for name in benches}


def measure() -> dict[str, Any]:
    rates = medians(
        {
            "floor": floor,
            "pairs, 1 client": lambda: pairs(1, 3),
            "pairs, 100 clients, nobody waits": lambda: pairs(100, 100),
            "pairs, 100 clients, 10 workers, held": lambda: pairs(100, 10, held=True),
            "calls": calls,
            "messages": messages,
        }
    )
    spans = {count: asyncio.run(start_and_stop(count)) for count in (100, 1_000)}
    return {
        "per_second": rates,
        "of_floor": {name: rate / rates["floor"] for name, rate in rates.items() if name != "floor"},
        "elixir_pairs_per_second": elixir(),
        "pool_start_stop_seconds": spans,
        "linear": sum(spans[1_000]) / sum(spans[100]),
        "bytes_per_idle_worker": asyncio.run(bytes_per_worker()),
    }


def show(figures: dict[str, Any]) -> None:
    print("A pair is one checkout and one checkin; the floor is one bare mailbox round trip.\n")
    for name, rate in figures["per_second"].items():
        ratio, wanted = figures["of_floor"].get(name), WANTED.get(name)
        print(
            f"{name:40} {rate:10,.0f} /s"
            + (f"   {ratio:5.2f} of the floor" if ratio else "")
            + (f", at least {wanted} wanted" if wanted else "")
        )
    elixir = figures["elixir_pairs_per_second"]
    for clients, rate in zip((1, 100), elixir or (), strict=False):
        print(f"{f'the same pool in Elixir, {clients} clients':40} {rate:10,.0f} /s")
    if elixir is None:
        print("(Elixir is not installed here, so the same pool in it was not measured)")
    for count, (up, down) in figures["pool_start_stop_seconds"].items():
        print(f"{count:5} pools of 3: {up * 1e6:6.0f} us to start one, {down * 1e6:6.0f} us to stop one")
    print(f"cost of one of 1,000 pools over one of 100: {figures['linear']:.2f}")
    print(f"bytes per idle worker: {figures['bytes_per_idle_worker']:,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    figures = measure()
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        show(figures)


if __name__ == "__main__":
    main()
