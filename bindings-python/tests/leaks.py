"""A program for test_leaks.py: client, worker and broker of one process do everything again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any, Callable

import majordomo
from majordomo import aio
from measure import SPANS, growth

PATIENCE = 10.0

BODIES: dict[str, Any] = {
    "bytes": b"bytes of a caller",
    "bytearray": bytearray(b"a bytearray"),
    "memoryview": memoryview(b"a memoryview"),
    "text": "text of a caller",
    "list": ["several", b"frames", bytearray(b"of all kinds")],
    "message": majordomo.Message(["a", "message"], properties={"of": "its own"}),
    "large": b"x" * 100_000,
    "nothing": [],
}
PROPERTIES: dict[str, str | bytes] = {"content-type": "text/plain of a caller", "x-bytes": b"bytes"}
SERVICE = "echo of a caller"
REFUSED: list[tuple[str, Any, dict[str, Any]]] = [
    ("fail", "own", {}),
    ("fail", "any", {}),
    ("nobody", b"", {"fail_fast": True}),
    ("nobody", b"", {"deadline": 0.001}),
    (SERVICE, b"x" * 300_000, {}),
    (SERVICE, object(), {}),
    ("no\x00name", b"", {}),
    (SERVICE, b"", {"timeout": -1.0}),
]
"""Requests that fail, each in another way."""
FAILURES = (majordomo.MajordomoError, TypeError)


def answer(request: majordomo.Request) -> Any:
    if request.service == SERVICE:
        return majordomo.Message(request.body, properties=request.properties)
    if request.service == "parts":
        return iter(["1", "2", "3"])
    raise majordomo.ServiceError(404, "not here") if request.body == [b"own"] else RuntimeError("out of coffee")


def listen(event: majordomo.Event) -> None:
    assert event.name


def passed_in() -> list[Any]:
    """Whatever a caller hands over; the library must not keep it."""
    values = [*BODIES.values(), *BODIES["list"], *PROPERTIES.keys(), *PROPERTIES.values()]
    return [*values, PROPERTIES, SERVICE, answer, listen, *(body for _, body, _ in REFUSED)]


class Blocking:
    """A worker of each way to be one, and a client."""

    def __init__(self, endpoint: str) -> None:
        self.client = majordomo.Client(endpoint, timeout=PATIENCE, max_message_bytes=200_000, on_event=listen)
        self.workers = [majordomo.Worker(endpoint, name) for name in (SERVICE, "parts", "fail", "guide")]
        for worker in self.workers[:3]:
            threading.Thread(target=worker.serve, args=[answer]).start()
        threading.Thread(target=self.serve_as_the_guide_does).start()

    def serve_as_the_guide_does(self) -> None:
        worker, reply = self.workers[3], None
        with contextlib.suppress(majordomo.Closed):
            while True:
                reply = worker.recv(reply).body

    def round(self) -> int:
        """Do everything once; the number of requests."""
        client, count = self.client, 0
        for body in BODIES.values():
            for service, properties in ((SERVICE, None), (SERVICE, PROPERTIES), ("guide", PROPERTIES)):
                reply = client.request(service, body, properties=properties)
                assert len(reply) == len(client.request(SERVICE, reply))
                count += 2
        for service, body, options in REFUSED:
            with contextlib.suppress(*FAILURES):
                client.request(service, body, **options)
                raise AssertionError(service)
            with contextlib.suppress(*FAILURES):
                list(client.stream(service, body, **options))
                raise AssertionError(service)
            count += 2
        assert len(list(client.stream("parts", b"", properties=PROPERTIES))) == 3
        with client.stream("parts", b"") as closed:
            next(closed)
        dropped = client.stream("parts", b"")
        next(dropped)
        return count + 3

    def end(self) -> None:
        for worker in self.workers:
            worker.drain()
        self.client.close()


class Asynchronous:
    """The same with asyncio, and with tasks that are cancelled."""

    def __init__(self, endpoint: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.begin(endpoint))

    async def begin(self, endpoint: str) -> None:
        self.client = aio.Client(endpoint, timeout=PATIENCE, max_message_bytes=200_000, on_event=listen)
        self.begun: asyncio.Queue[None] = asyncio.Queue()
        names = {SERVICE: answer, "parts": self.parts, "fail": answer, "coroutine": self.echo, "hang": self.hang}
        self.workers = [aio.Worker(endpoint, name, concurrency=8) for name in names]
        handlers: list[Callable[..., Any]] = list(names.values())
        self.serving = [asyncio.create_task(w.serve(handler)) for w, handler in zip(self.workers, handlers)]

    async def parts(self, _: majordomo.Request) -> AsyncIterator[str]:
        for part in ("1", "2", "3"):
            yield part

    async def echo(self, request: majordomo.Request) -> majordomo.Message:
        await asyncio.sleep(0)
        return request.body

    async def hang(self, _: majordomo.Request) -> None:
        self.begun.put_nowait(None)
        await self.loop.create_future()

    def round(self) -> int:
        return self.loop.run_until_complete(self.ask())

    async def refused(self, ask: Callable[[], Any]) -> None:
        with contextlib.suppress(*FAILURES):
            await ask()
            raise AssertionError

    async def ask(self) -> int:
        """Do everything once; the number of requests."""
        client = self.client
        asked = [
            client.request(service, body, properties=properties)
            for body in BODIES.values()
            for service, properties in ((SERVICE, None), (SERVICE, PROPERTIES), ("coroutine", PROPERTIES))
        ]
        await asyncio.gather(*asked)

        async def whole(service: str, body: Any, **options: Any) -> int:
            return len([part async for part in client.stream(service, body, **options)])

        for service, body, options in REFUSED:
            await self.refused(lambda: client.request(service, body, **options))  # noqa: B023
            await self.refused(lambda: whole(service, body, **options))  # noqa: B023
        assert await whole("parts", b"", properties=PROPERTIES) == 3
        async with client.stream("parts", b"") as closed:
            await closed.__anext__()
        dropped = client.stream("parts", b"")
        await dropped.__anext__()
        # Given up before it is sent, on its way, in a queue of the broker's, and in its handler.
        for service, steps in ((SERVICE, 0), (SERVICE, 1), ("nobody", 3), ("hang", 0)):
            task = asyncio.ensure_future(client.request(service, b""))
            for _ in range(steps):
                await asyncio.sleep(0)
            if service == "hang":
                await self.begun.get()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(client.request("nobody", b""), 0.001)
        return len(asked) + 2 * len(REFUSED) + 8

    def end(self) -> None:
        async def drained() -> None:
            for worker in self.workers:
                await worker.drain()
            await asyncio.gather(*self.serving)
            await self.client.close()

        self.loop.run_until_complete(drained())
        self.loop.close()


@contextlib.contextmanager
def side(face: str, endpoint: str) -> Iterator[Blocking | Asynchronous]:
    it = Blocking(endpoint) if face == "blocking" else Asynchronous(endpoint)
    yield it
    it.end()


def main(face: str, requests: str) -> None:
    logging.disable()
    tracemalloc.start()
    with majordomo.Broker("tcp://127.0.0.1:0") as broker, side(face, broker.endpoint) as it:
        each = it.round()
        values = passed_in()
        counts = [sys.getrefcount(value) for value in values]
        rounds = max(1, int(requests) // each // SPANS)
        more = growth(rounds, it.round)
        references = [sys.getrefcount(value) - before for value, before in zip(values, counts)]
        kept = [pair for pair in zip(references, values) if pair[0] > 2]
    print({"requests": SPANS * rounds * each, "rounds": rounds, "kept": repr(kept)[:1000], **more})


if __name__ == "__main__":
    main(*sys.argv[1:])
