"""A program for test_many.py: handles are opened and closed by the thousand."""

from __future__ import annotations

import asyncio
import resource
import sys
from contextlib import ExitStack
from typing import Any

import majordomo
import majordomo.aio
from measure import growth

PATIENCE = 60.0


def client(endpoint: str) -> None:
    with majordomo.Client(endpoint, timeout=PATIENCE) as client:
        assert client.request("echo", "x") == [b"x"]


def forgotten_client(endpoint: str) -> None:
    assert majordomo.Client(endpoint, timeout=PATIENCE).request("echo", "x") == [b"x"]


def worker(endpoint: str) -> None:
    with majordomo.Worker(endpoint, "mine") as worker:
        assert worker.recv(timeout=0) is None


def broker(_: str) -> None:
    with majordomo.Broker("tcp://127.0.0.1:0") as broker:
        assert broker.stats()


def aio(endpoint: str) -> None:
    async def main() -> None:
        async with majordomo.aio.Client(endpoint, timeout=PATIENCE) as client:
            assert await client.request("echo", "x") == [b"x"]
        async with majordomo.aio.Worker(endpoint, "mine"):
            pass

    asyncio.run(main())


def several(endpoint: str, count: int) -> None:
    """As many clients and workers at once, each with a connection."""
    with ExitStack() as stack:
        clients = [stack.enter_context(majordomo.Client(endpoint, timeout=PATIENCE)) for _ in range(count)]
        stack.enter_context(majordomo.Worker(endpoint, "mine"))
        for client in clients:
            assert client.request("echo", "x") == [b"x"]

    async def main() -> None:
        many = [majordomo.aio.Client(endpoint, timeout=PATIENCE) for _ in range(count)]
        replies = await asyncio.gather(*(client.request("echo", "x") for client in many))
        assert replies == [[b"x"]] * count
        for client in many:
            await client.close()

    asyncio.run(main())


def main(kind: str, endpoint: str, rounds: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kinds: dict[str, Any] = {f.__name__: f for f in (client, forgotten_client, worker, broker, aio)}
    if kind == "several":
        print(growth(1, lambda: several(endpoint, int(rounds))))
    else:
        print(growth(int(rounds), lambda: kinds[kind](endpoint)))


if __name__ == "__main__":
    main(*sys.argv[1:])
