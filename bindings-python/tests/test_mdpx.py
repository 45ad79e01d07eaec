"""What MDPX adds, over a real broker."""

import asyncio
import pickle
import threading

import pytest

import majordomo
import majordomo.aio
from scene import PATIENCE, echo, serving


def test_properties_travel_both_ways(broker: majordomo.Broker) -> None:
    def handler(request: majordomo.Request) -> majordomo.Message:
        assert request.body.properties == request.properties
        return majordomo.Message("r", properties={**request.properties, majordomo.CONTENT_TYPE: b"text/plain"})

    with serving(broker.endpoint, "s", handler), majordomo.Client(broker.endpoint) as client:
        reply = client.request("s", "x", properties={"a": "1", "b": b"\0"})
    assert reply == [b"r"]
    assert reply.properties == {"a": b"1", "b": b"\0", "content-type": b"text/plain"}


def test_a_pickled_message_keeps_its_properties() -> None:
    copy = pickle.loads(pickle.dumps(majordomo.Message(["a", "b"], properties={"n": "v"}), 4))
    assert (copy, copy.properties) == ((b"a", b"b"), {"n": b"v"})


def test_properties_that_do_not_fit_raise_invalid_argument() -> None:
    with pytest.raises(majordomo.InvalidArgument):
        majordomo.Message("x", properties={"": "v"})


def test_a_retryable_failure_is_tried_again_until_it_succeeds(broker: majordomo.Broker) -> None:
    attempts = []

    def handler(request: majordomo.Request) -> str:
        attempts.append(request.attempt)
        assert request.remaining is not None
        assert request.remaining > 0
        if request.attempt < 3:
            raise majordomo.ServiceError(503, "not yet", retryable=True)
        return "done"

    with serving(broker.endpoint, "s", handler), majordomo.Client(broker.endpoint) as client:
        assert client.request("s", "x")[0] == b"done"
        assert attempts == [1, 2, 3]
        with pytest.raises(majordomo.MajordomoError):
            client.request("s", "x", max_attempts=1)
        assert attempts == [1, 2, 3, 1]


def test_a_request_that_fails_fast_does_not_wait_for_a_worker(broker: majordomo.Broker) -> None:
    with majordomo.Client(broker.endpoint) as client, pytest.raises(majordomo.NoWorker):
        client.request("nobody", "x", fail_fast=True)


def test_events_tell_of_the_connection(broker: majordomo.Broker) -> None:
    events: list[majordomo.Event] = []
    with serving(broker.endpoint, "s", echo):
        with majordomo.Client(broker.endpoint, on_event=events.append) as client:
            client.request("s", "x")
    assert [(event.name, event.endpoint, event.protocol) for event in events][:1] == [
        ("connected", broker.endpoint, "x1")
    ]


def test_a_cancelled_request_cancels_the_task_of_its_handler(broker: majordomo.Broker) -> None:
    async def main() -> None:
        started, cancelled = asyncio.Event(), asyncio.Event()

        async def handler(request: majordomo.Request) -> None:
            started.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                assert request.cancelled
                cancelled.set()

        events: list[majordomo.Event] = []
        async with majordomo.aio.Worker(broker.endpoint, "s") as worker:
            task = asyncio.create_task(worker.serve(handler))
            async with majordomo.aio.Client(broker.endpoint, on_event=events.append) as client:
                asking = asyncio.create_task(client.request("s", "x", timeout=30))
                await started.wait()
                asking.cancel()
                await cancelled.wait()
            await worker.drain()
            await task
        assert events[0].protocol == "x1"

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_blocking_handler_can_wait_for_its_cancellation(broker: majordomo.Broker) -> None:
    told: list[bool] = []
    waiting = threading.Event()

    def handler(request: majordomo.Request) -> str:
        told.append(request.wait_cancelled(0))
        waiting.set()
        told.extend((request.wait_cancelled(PATIENCE), request.cancelled))
        return "nobody waits"

    async def ask_and_give_up() -> None:
        async with majordomo.aio.Client(broker.endpoint, timeout=PATIENCE) as client:
            asking = asyncio.create_task(client.request("s", "x"))
            assert await asyncio.to_thread(waiting.wait, PATIENCE)
            asking.cancel()
            await asyncio.wait([asking])

    with serving(broker.endpoint, "s", handler):
        asyncio.run(ask_and_give_up())
    assert told == [False, True, True]
