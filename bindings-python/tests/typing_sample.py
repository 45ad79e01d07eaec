"""How programs use the types; checked by `mypy --strict`, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import majordomo
import majordomo.aio
from majordomo.compat.mdcliapi import MajorDomoClient
from majordomo.compat.mdcliapi2 import MajorDomoClient as AsyncMajorDomoClient
from majordomo.compat.mdwrkapi import MajorDomoWorker


def ask(endpoint: str) -> bytes:
    with majordomo.Client(endpoint, timeout=1, retries=3, deadline=2.5, protocol="0.2") as client:
        reply: majordomo.Message = client.request("echo", [b"bytes", "text", bytearray(b"any buffer")], timeout=0.5)
        for part in client.stream("echo", reply):
            frames: list[bytes] = list(part)
            assert frames == part
        rest: majordomo.Message = reply[1:]
        return rest[0]


def answer(endpoint: str) -> None:
    worker = majordomo.Worker([endpoint, "tcp://127.0.0.1:5556"], "echo", heartbeat=1.0)
    request: majordomo.Request
    for request in worker:
        request.reply(request.body)
    request = worker.recv(b"the last one's reply")
    perhaps: majordomo.Request | None = worker.recv(timeout=0.1)
    if perhaps is not None:
        perhaps.fail(404, "not here")


def handler(request: majordomo.Request) -> bytes:
    return request.body[0]


def streaming(request: majordomo.Request) -> Iterator[bytes]:
    yield from request.body


@majordomo.service("upper", concurrency=2)
def upper(request: majordomo.Request) -> bytes:
    return request.body[0].upper()


def serve(endpoint: str) -> None:
    majordomo.serve(endpoint, "echo", handler, concurrency=4)
    majordomo.serve(endpoint, "frames", streaming)
    upper.serve(endpoint)


def broker() -> int:
    with majordomo.Broker("tcp://127.0.0.1:0", request_ttl=float("inf")) as hub:
        ask(hub.endpoint)
        return len(hub.stats())


def failures(client: majordomo.Client) -> tuple[str, int, str, bool]:
    try:
        client.request("echo", ())
    except majordomo.ServiceError as failure:
        return failure.text, failure.service_code, failure.kind, failure.retryable
    except (TimeoutError, ConnectionError):
        return "", 0, "", True
    return "", 0, "", False


async def async_handler(request: majordomo.Request) -> majordomo.Message:
    return request.body


async def async_streaming(request: majordomo.Request) -> AsyncIterator[bytes]:
    for frame in request.body:
        yield frame


async def asynchronous(endpoint: str) -> bytes:
    async with majordomo.aio.Client(endpoint, max_in_flight=10) as client:
        reply: majordomo.Message = await client.request("echo", "hi")
        part: majordomo.Message
        async for part in client.stream("echo", "hi"):
            assert part
    async with majordomo.aio.Worker(endpoint, "echo", concurrency=2) as worker:
        request: majordomo.Request = await worker.recv()
        request.partial(b"a part")
        async for request in worker:
            request.reply(())
        await worker.serve(async_handler)
        await worker.serve(async_streaming)
        await worker.drain()
    await majordomo.aio.serve(endpoint, "echo", async_handler, concurrency=3)
    return reply[0]


def guide(endpoint: str) -> None:
    client = MajorDomoClient(endpoint, True)
    client.timeout = 1000
    reply: list[bytes] | None = client.send(b"echo", [b"Hello world"])
    asynchronous_client = AsyncMajorDomoClient(endpoint)
    asynchronous_client.send("echo", b"Hello world")
    reply = asynchronous_client.recv()
    worker = MajorDomoWorker(endpoint, b"echo", False)
    while True:
        request = worker.recv(reply)
        if request is None:
            break
        reply = request
