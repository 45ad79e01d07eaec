"""The programs of `cargo xtask bench` in Python: the same options and lines of JSON as those of `majordomo-bench`."""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import majordomo
import majordomo.aio
import zmq
import zmq.asyncio

SERVICE = "echo"

# Long enough that no request is ever sent twice.
TIMEOUT = 60.0

# Requests that a worker of MDPX works on at once, and further ones that it holds ready; MDP/0.1 has one at a time.
AT_ONCE = 256
PREFETCH = 512


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


class Meter:
    """Counts replies once the warm-up is over, for some seconds."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.begin = time.perf_counter() + arguments.warm_up
        self.end = self.begin + arguments.seconds
        self.replies = 0
        self.seconds = 0.0
        self.counts = False

    def receive(self) -> bool:
        """A reply came; whether to go on."""
        now = time.perf_counter()
        if self.counts:
            self.replies += 1
        elif now >= self.begin:
            self.counts = True
            self.begin = now
        self.seconds = now - self.begin
        return now < self.end

    def report(self, **more: float) -> None:
        say(replies=self.replies, seconds=self.seconds, rate=self.replies / self.seconds, **more)


async def client(arguments: argparse.Namespace) -> None:
    """Keeps requests outstanding: as many tasks as requests, each of which waits for its reply."""
    body = b"x" * arguments.size
    meter = Meter(arguments)
    options = {"protocol": arguments.protocol, "max_in_flight": arguments.outstanding, "timeout": TIMEOUT}
    async with majordomo.aio.Client(arguments.endpoint, **options) as hub:
        enough = asyncio.get_running_loop().create_future()

        async def keep_asking() -> None:
            while not enough.done():
                await hub.request(SERVICE, body)
                if not meter.receive() and not enough.done():
                    enough.set_result(None)

        tasks = [asyncio.create_task(keep_asking()) for _ in range(arguments.outstanding)]
        await asyncio.wait([enough, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    meter.report()


async def worker(arguments: argparse.Namespace) -> None:
    options = {"concurrency": AT_ONCE, "prefetch": PREFETCH} if arguments.protocol == "x1" else {}
    async with majordomo.aio.Worker(arguments.endpoint, SERVICE, protocol=arguments.protocol, **options) as serving:
        say(ready=True)
        await serving.serve(lambda request: request.body)


def blocking_worker(arguments: argparse.Namespace) -> None:
    with majordomo.Worker(arguments.endpoint, SERVICE, protocol=arguments.protocol) as serving:
        say(ready=True)
        serving.serve(lambda request: request.body)


def round_trip(arguments: argparse.Namespace) -> None:
    body = b"x" * arguments.size
    meter = Meter(arguments)
    times = []
    with majordomo.Client(arguments.endpoint, protocol=arguments.protocol, timeout=TIMEOUT) as hub:
        while True:
            begin = time.perf_counter()
            hub.request(SERVICE, body)
            if meter.counts:
                times.append(time.perf_counter() - begin)
            if not meter.receive():
                break
    percentiles = statistics.quantiles(times, n=100)
    meter.report(median_us=percentiles[49] * 1e6, p99_us=percentiles[98] * 1e6)


def dealer(arguments: argparse.Namespace) -> zmq.asyncio.Socket:
    socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
    socket.sndhwm = 0
    socket.rcvhwm = 0
    socket.linger = 0
    socket.connect(arguments.endpoint)
    return socket


async def hand_written_client(arguments: argparse.Namespace) -> None:
    """MDP/0.1 as the Guide's asynchronous client: send without waiting, then take replies as they come."""
    socket = dealer(arguments)
    request = [b"", b"MDPC01", SERVICE.encode(), b"x" * arguments.size]
    meter = Meter(arguments)
    for _ in range(arguments.outstanding):
        await socket.send_multipart(request)
    while True:
        await socket.recv_multipart()
        if not meter.receive():
            break
        await socket.send_multipart(request)
    meter.report()


async def hand_written_worker(arguments: argparse.Namespace) -> None:
    """MDP/0.1: one request at a time."""
    socket = dealer(arguments)
    await socket.send_multipart([b"", b"MDPW01", b"\x01", SERVICE.encode()])
    say(ready=True)
    beat = time.monotonic() + 2.5
    while True:
        frames = await socket.recv_multipart()
        if frames[2] == b"\x02":
            await socket.send_multipart([b"", b"MDPW01", b"\x03", frames[3], b"", *frames[5:]])
        if time.monotonic() >= beat:
            beat += 2.5
            await socket.send_multipart([b"", b"MDPW01", b"\x04"])


ROLES: dict[str, Callable[[argparse.Namespace], Awaitable[None] | None]] = {
    "client": client,
    "worker": worker,
    "blocking-worker": blocking_worker,
    "round-trip": round_trip,
    "hand-written-client": hand_written_client,
    "hand-written-worker": hand_written_worker,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--protocol", default="0.1")
    parser.add_argument("--size", type=int, default=11, help="the body's, in bytes")
    parser.add_argument("--outstanding", type=int, default=1000)
    parser.add_argument("--warm-up", type=float, default=0.5, help="in seconds")
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    running = ROLES[arguments.role](arguments)
    if running is not None:
        asyncio.run(running)


if __name__ == "__main__":
    main()
