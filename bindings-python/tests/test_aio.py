"""The asyncio face."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

import majordomo
from majordomo import _mailbox, aio
from scene import PATIENCE, echo, in_thread, serving


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run on a fresh event loop, and not for ever."""
    return asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


async def async_echo(request: majordomo.Request) -> majordomo.Message:
    return request.body


def test_a_request_is_awaited(broker: majordomo.Broker, echoing: majordomo.Worker) -> None:
    async def main() -> None:
        async with aio.Client(broker.endpoint, timeout=PATIENCE) as client:
            assert await client.request("echo", ["a", b"", "c"]) == [b"a", b"", b"c"]

    run(main())


def test_a_hundred_requests_are_in_flight_at_once(broker: majordomo.Broker) -> None:
    # The handlers wait for each other: none is answered unless all hundred are in hand.
    async def main() -> None:
        in_hand, all_in_hand = 0, asyncio.Event()

        async def together(request: majordomo.Request) -> majordomo.Message:
            nonlocal in_hand
            in_hand += 1
            if in_hand == 100:
                all_in_hand.set()
            await all_in_hand.wait()
            return request.body

        async with aio.Worker(broker.endpoint, "together", concurrency=100) as worker:
            serve = asyncio.create_task(worker.serve(together))
            async with aio.Client(broker.endpoint, max_in_flight=100, timeout=PATIENCE) as client:
                replies = await asyncio.gather(*(client.request("together", str(n)) for n in range(100)))
            assert replies == [[str(n).encode()] for n in range(100)]
            await worker.drain()
            await serve

    run(main())


def test_a_thousand_requests_wait_for_their_turn(broker: majordomo.Broker, echoing: majordomo.Worker) -> None:
    async def main() -> None:
        async with aio.Client(broker.endpoint, max_in_flight=10, timeout=PATIENCE, deadline=PATIENCE) as client:
            replies = await asyncio.gather(*(client.request("echo", str(n)) for n in range(1000)))
            assert replies == [[str(n).encode()] for n in range(1000)]

    run(main())


def test_a_request_too_many_raises_queue_full(broker: majordomo.Broker) -> None:
    async def main() -> None:
        async with aio.Client(broker.endpoint, max_in_flight=1, max_waiting=1) as client:
            tasks = [asyncio.create_task(client.request("nobody", "")) for _ in range(3)]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            (refused,) = done
            assert isinstance(refused.exception(), majordomo.QueueFull)
            assert len(pending) == 2
        results = await asyncio.gather(*pending, return_exceptions=True)
        assert {type(result) for result in results} == {majordomo.Closed}

    run(main())


def test_a_stream_outlives_the_last_reference_to_its_client(
    broker: majordomo.Broker, echoing: majordomo.Worker
) -> None:
    async def main() -> None:
        parts = aio.Client(broker.endpoint, timeout=PATIENCE).stream("echo", "hi")
        gc.collect()
        assert [part async for part in parts] == [[b"hi"]]

    run(main())


def test_cancelling_a_task_abandons_its_request(broker: majordomo.Broker) -> None:
    async def main() -> None:
        async with aio.Worker(broker.endpoint, "slow", concurrency=2) as worker:
            # One connection: the second request gets it only if the first one has let go.
            async with aio.Client(broker.endpoint, max_in_flight=1, timeout=PATIENCE) as client:
                task = asyncio.create_task(client.request("slow", "first"))
                first = await worker.recv()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                second = asyncio.create_task(client.request("slow", "second"))
                request = await worker.recv()
                assert request.body == [b"second"]
                first.reply(b"too late")
                request.reply(b"answer")
                assert await second == [b"answer"]

    run(main())


def test_a_timeout_of_asyncio_abandons_the_request(broker: majordomo.Broker) -> None:
    async def main() -> None:
        async with aio.Client(broker.endpoint, max_in_flight=1) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.request("nobody", ""), 0.01)
            assert await client.request("mmi.service", "nobody") == [b"404"]

    run(main())


def test_failures_are_raised_where_they_are_awaited(broker: majordomo.Broker) -> None:
    async def main() -> None:
        async def fail(request: majordomo.Request) -> bytes:
            if request.body == [b"mine"]:
                raise majordomo.ServiceError(404, "not here")
            raise RuntimeError("out of coffee")

        async with aio.Worker(broker.endpoint, "fail") as worker:
            serve = asyncio.create_task(worker.serve(fail))
            async with aio.Client(broker.endpoint) as client:
                with pytest.raises(majordomo.ServiceError) as failure:
                    await client.request("fail", "mine")
                assert (failure.value.service_code, failure.value.text) == (404, "not here")
                with pytest.raises(majordomo.ServiceError) as failure:
                    await client.request("fail", "other")
                assert (failure.value.service_code, failure.value.text) == (500, "out of coffee")
                with pytest.raises(majordomo.RequestTimeout):
                    await client.request("nobody", "", timeout=0.05, retries=1)
                with pytest.raises(majordomo.InvalidArgument):
                    await client.request("", "")
                with pytest.raises(majordomo.InvalidArgument):
                    await client.request("echo", "", timeout=-1)
                with pytest.raises(TypeError):
                    await client.request("echo", 5)  # type: ignore[arg-type]
            await worker.drain()
            await serve

    run(main())


def test_a_stream_gives_each_part_and_then_the_final_message(broker: majordomo.Broker) -> None:
    async def main() -> None:
        async def count(request: majordomo.Request) -> AsyncIterator[str]:
            for number in range(int(request.body[0])):
                yield str(number)

        async with aio.Worker(broker.endpoint, "count", protocol="0.2") as worker:
            serve = asyncio.create_task(worker.serve(count))
            async with aio.Client(broker.endpoint, protocol="0.2", timeout=PATIENCE) as client:
                stream = client.stream("count", "3")
                assert [(part[0], stream.final) async for part in stream] == [
                    (b"0", False),
                    (b"1", False),
                    (b"2", True),
                ]
                assert [list(part) async for part in client.stream("count", "0")] == [[]]
                with pytest.raises(majordomo.RequestTimeout):
                    async for _ in client.stream("nobody", "", timeout=0.05, retries=1):
                        pass
            await worker.drain()
            await serve

    run(main())


def test_a_stream_that_nobody_reads_fails_alone_when_too_much_waits(
    broker: majordomo.Broker, echoing: majordomo.Worker
) -> None:
    async def main() -> None:
        async with aio.Worker(broker.endpoint, "flood") as worker:
            async with aio.Client(broker.endpoint, timeout=PATIENCE, max_message_bytes=10_000) as client:
                stream = client.stream("flood", "")
                request = await worker.recv()
                # What is read makes room, whoever keeps it.
                kept = []
                for _ in range(20):
                    request.partial(bytes(1000))
                    kept.append(await stream.__anext__())
                for _ in range(200):
                    request.partial(bytes(1000))
                while not request.cancelled:
                    # Each answer takes a turn of the loop, so what waits does so on this side of the mailbox.
                    assert await client.request("echo", "others go on") == [b"others go on"]
                assert [len((await stream.__anext__())[0]) for _ in range(9)] == [1000] * 9
                with pytest.raises(majordomo.QueueFull):
                    await stream.__anext__()

    run(main())


def test_a_stream_that_nobody_reads_is_held_back_over_0_2_and_loses_nothing(
    broker: majordomo.Broker, echoing: majordomo.Worker
) -> None:
    async def main() -> None:
        async with aio.Worker(broker.endpoint, "flood", protocol="0.2") as worker:
            async with aio.Client(
                broker.endpoint, protocol="0.2", timeout=PATIENCE, max_message_bytes=10_000
            ) as client:
                stream = client.stream("flood", "")
                request = await worker.recv()
                for number in range(1000):
                    request.partial([str(number), bytes(100)])
                request.reply(["end", b""])
                assert await client.request("echo", "others go on") == [b"others go on"]
                names = [part[0] async for part in stream]
                assert names == [*(str(number).encode() for number in range(1000)), b"end"]

    run(main())


def test_an_abandoned_stream_gives_its_connection_back(broker: majordomo.Broker) -> None:
    async def main() -> None:
        async with aio.Worker(broker.endpoint, "count", protocol="0.2", concurrency=3) as worker:
            async with aio.Client(broker.endpoint, protocol="0.2", max_in_flight=1, timeout=PATIENCE) as client:
                async with client.stream("count", "closed") as stream:
                    (await worker.recv()).partial("part")
                    assert (await stream.__anext__())[0] == b"part"
                assert [part async for part in stream] == []
                stream = client.stream("count", "dropped")
                (await worker.recv()).partial("part")
                assert (await stream.__anext__())[0] == b"part"
                del stream
                gc.collect()
                assert await client.request("mmi.service", "nobody") == [b"404"]

    run(main())


def test_a_worker_is_an_asynchronous_iterator(broker: majordomo.Broker) -> None:
    async def main() -> None:
        async with aio.Worker(broker.endpoint, "upper") as worker, aio.Client(broker.endpoint) as client:
            asking = asyncio.gather(client.request("upper", "a"), client.request("upper", "b"))
            answered = 0
            async for request in worker:
                request.reply(request.body[0].upper())
                answered += 1
                if answered == 2:
                    break
            assert list(await asking) == [[b"A"], [b"B"]]
            await worker.drain()
            assert [request async for request in worker] == []
            with pytest.raises(majordomo.Closed):
                await worker.recv()

    run(main())


def test_cancelling_serve_gives_requests_in_hand_to_other_workers(broker: majordomo.Broker) -> None:
    async def main() -> None:
        taken = asyncio.Event()

        async def hang(request: majordomo.Request) -> None:
            taken.set()
            await asyncio.Event().wait()

        async with aio.Client(broker.endpoint, timeout=PATIENCE) as client:
            asking = asyncio.create_task(client.request("work", "body"))
            serve = asyncio.create_task(aio.serve(broker.endpoint, "work", hang))
            await taken.wait()
            async with aio.Worker(broker.endpoint, "work") as other:
                serve.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await serve
                (await other.recv()).reply("answered by another")
                assert await asking == [b"answered by another"]

    run(main())


def test_a_synchronous_handler_serves_as_well(broker: majordomo.Broker) -> None:
    async def main() -> None:
        async with aio.Worker(broker.endpoint, "echo") as worker, aio.Client(broker.endpoint) as client:
            serve = asyncio.create_task(worker.serve(echo))
            assert await client.request("echo", "hi") == [b"hi"]
            await worker.drain()
            await serve

    run(main())


def test_closed_handles_raise_closed(broker: majordomo.Broker) -> None:
    async def main() -> None:
        client = aio.Client(broker.endpoint)
        waiting = asyncio.create_task(client.request("nobody", ""))
        await client.request("mmi.service", "nobody")
        await client.close()
        with pytest.raises(majordomo.Closed):
            await waiting
        with pytest.raises(majordomo.Closed):
            await client.request("echo", "")
        worker = aio.Worker(broker.endpoint, "echo")
        await worker.close()
        with pytest.raises(majordomo.Closed):
            await worker.recv()
        hub = aio.Broker("tcp://127.0.0.1:0")
        with pytest.raises(majordomo.Closed):
            _ = hub.endpoint

    run(main())


def test_one_client_serves_several_event_loops(broker: majordomo.Broker, echoing: majordomo.Worker) -> None:
    client = aio.Client(broker.endpoint, timeout=PATIENCE)

    async def ask(loop: int) -> list[majordomo.Message]:
        return await asyncio.gather(*(client.request("echo", f"{loop} {n}") for n in range(20)))

    waits = [in_thread(lambda loop=loop: run(ask(loop))) for loop in range(4)]  # type: ignore[misc]
    for loop, wait in enumerate(waits):
        assert wait() == [[f"{loop} {n}".encode()] for n in range(20)]
    run(client.close())


def test_mailboxes_go_with_their_loops(broker: majordomo.Broker, echoing: majordomo.Worker) -> None:
    async def main() -> None:
        async with aio.Client(broker.endpoint) as client:
            await client.request("echo", "")

    gc.collect()
    before = len(_mailbox._mailboxes)
    for _ in range(5):
        run(main())
    gc.collect()
    assert len(_mailbox._mailboxes) == before


def test_a_broker_is_an_asynchronous_context_manager() -> None:
    async def main() -> None:
        async with aio.Broker("tcp://127.0.0.1:0") as hub, aio.Client(hub.endpoint) as client:
            assert await client.request("mmi.service", "nobody") == [b"404"]
            assert await hub.stats()
            assert hub.endpoints == [hub.endpoint]

    run(main())


def test_blocking_and_asynchronous_handles_share_a_process(broker: majordomo.Broker) -> None:
    async def main() -> None:
        gate = threading.Event()

        def hold(request: majordomo.Request) -> bytes:
            gate.wait(PATIENCE)
            return b"released"

        with serving(broker.endpoint, "hold", hold):
            async with aio.Client(broker.endpoint, timeout=PATIENCE) as client:
                asking = asyncio.create_task(client.request("hold", ""))
                assert await client.request("mmi.service", "nobody") == [b"404"]
                gate.set()
                assert await asking == [b"released"]

    run(main())


@pytest.mark.asyncio
async def test_it_works_under_pytest_asyncio(broker: majordomo.Broker) -> None:
    async with aio.Client(broker.endpoint) as client:
        assert await client.request("mmi.service", "nobody") == [b"404"]
