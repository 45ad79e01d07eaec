"""The blocking client."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import majordomo
from scene import PATIENCE, echo, in_thread, serving


@pytest.mark.parametrize("protocol", ["0.1", "0.2"])
@pytest.mark.parametrize("frames", [[b"x"], [b""], [b"", b""], [b"a", b"", bytes(range(256))], [b"frame"] * 20])
def test_a_reply_comes_back_frame_by_frame(
    broker: majordomo.Broker, echoing: majordomo.Worker, protocol: str, frames: list[bytes]
) -> None:
    with majordomo.Client(broker.endpoint, protocol=protocol, timeout=PATIENCE) as client:
        assert client.request("echo", frames) == frames


def test_a_hundred_megabytes_come_back(client: majordomo.Client, echoing: majordomo.Worker) -> None:
    body = bytes(range(256)) * (100 * 4096)
    assert client.request("echo", body)[0] == body


def test_a_service_that_nobody_serves_times_out(broker: majordomo.Broker) -> None:
    with majordomo.Client(broker.endpoint, timeout=0.05, retries=2) as client:
        with pytest.raises(majordomo.RequestTimeout) as failure:
            client.request("nobody", b"")
        assert failure.value.kind == "Timeout"
        assert failure.value.retryable
        with pytest.raises(TimeoutError):
            client.request("nobody", b"", timeout=10, retries=1, deadline=0.05)


def test_a_client_is_usable_after_a_timeout(broker: majordomo.Broker) -> None:
    with majordomo.Client(broker.endpoint, timeout=0.05, retries=1) as client:
        with pytest.raises(majordomo.RequestTimeout):
            client.request("late", b"first")
        with serving(broker.endpoint, "late", echo):
            assert client.request("late", b"second", timeout=PATIENCE) == [b"second"]


def test_the_broker_answers_management_requests(broker: majordomo.Broker, client: majordomo.Client) -> None:
    assert client.request("mmi.service", "nobody") == [b"404"]
    assert client.request("mmi.unheard-of", "") == [b"501"]


def test_a_failed_service_raises_its_code_and_text(broker: majordomo.Broker, client: majordomo.Client) -> None:
    def fail(request: majordomo.Request) -> None:
        request.fail(404, "no such page: ü")

    with serving(broker.endpoint, "pages", fail):
        with pytest.raises(majordomo.ServiceError) as failure:
            client.request("pages", b"")
    assert (failure.value.service_code, failure.value.text) == (404, "no such page: ü")


def parts(request: majordomo.Request) -> Iterator[bytes]:
    yield from request.body


def test_a_stream_gives_the_parts_and_then_the_final_message(broker: majordomo.Broker) -> None:
    with serving(broker.endpoint, "parts", parts, protocol="0.2"):
        with majordomo.Client(broker.endpoint, protocol="0.2", timeout=PATIENCE) as client:
            stream = client.stream("parts", ["1", "2", "3"])
            assert [(part[0], stream.final) for part in stream] == [(b"1", False), (b"2", False), (b"3", True)]
            assert list(stream) == []


def test_over_the_older_protocol_the_parts_come_as_one(broker: majordomo.Broker) -> None:
    with serving(broker.endpoint, "parts", parts, protocol="0.2"):
        with majordomo.Client(broker.endpoint, protocol="0.1") as client:
            assert [list(part) for part in client.stream("parts", ["1", "2", "3"])] == [[b"1", b"2", b"3"]]


def test_an_abandoned_stream_frees_the_client(broker: majordomo.Broker, echoing: majordomo.Worker) -> None:
    with serving(broker.endpoint, "parts", parts, protocol="0.2"):
        with majordomo.Client(broker.endpoint, protocol="0.2", timeout=PATIENCE) as client:
            for part in client.stream("parts", ["1", "2", "3"]):
                assert part == [b"1"]
                break
            assert client.request("echo", b"after dropping") == [b"after dropping"]
            with client.stream("parts", ["1", "2", "3"]) as stream:
                assert next(stream) == [b"1"]
            assert list(stream) == []
            assert client.request("echo", b"after closing") == [b"after closing"]


def test_a_failure_is_raised_by_the_stream(broker: majordomo.Broker, client: majordomo.Client) -> None:
    with pytest.raises(majordomo.RequestTimeout):
        list(client.stream("nobody", b"", timeout=0.05, retries=1))


def test_threads_take_turns_on_one_client(client: majordomo.Client, echoing: majordomo.Worker) -> None:
    def ask(thread: int) -> bool:
        return all(client.request("echo", f"{thread} {n}") == [f"{thread} {n}".encode()] for n in range(50))

    waits = [in_thread(lambda thread=thread: ask(thread)) for thread in range(8)]  # type: ignore[misc]
    assert all(wait() for wait in waits)


def test_other_threads_run_while_a_call_waits(broker: majordomo.Broker, client: majordomo.Client) -> None:
    gate = threading.Event()

    def hold(request: majordomo.Request) -> bytes:
        gate.wait(PATIENCE)
        return b"released"

    with serving(broker.endpoint, "hold", hold):
        wait = in_thread(lambda: client.request("hold", b""))
        gate.set()
        assert wait() == [b"released"]


def test_the_next_endpoint_is_tried_when_one_is_silent(broker: majordomo.Broker, echoing: majordomo.Worker) -> None:
    with majordomo.Broker("tcp://127.0.0.1:0") as dead:
        silent = dead.endpoint
    for endpoints in ([silent, broker.endpoint], f"{silent},{broker.endpoint}"):
        with majordomo.Client(endpoints, timeout=0.2, deadline=PATIENCE, retries=100) as client:
            assert client.request("echo", b"hi") == [b"hi"]


def test_a_closed_client_raises_closed(client: majordomo.Client) -> None:
    client.close()
    client.close()
    with pytest.raises(majordomo.Closed):
        client.request("echo", b"")
    with pytest.raises(majordomo.Closed):
        list(client.stream("echo", b""))
    assert "Client" in repr(client)


def test_a_message_over_the_limit_is_too_large(broker: majordomo.Broker) -> None:
    with majordomo.Client(broker.endpoint, max_message_bytes=1000) as client:
        with pytest.raises(majordomo.TooLarge):
            client.request("echo", b"x" * 2000)
