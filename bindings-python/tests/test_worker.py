"""The blocking worker: as an iterator, as a function, and in the Guide's shape."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Callable

import pytest

import majordomo
from scene import PATIENCE, Script, echo, in_thread, serving, until


def test_iterating_over_a_worker_gives_its_requests(broker: majordomo.Broker, client: majordomo.Client) -> None:
    with majordomo.Worker(broker.endpoint, "upper") as worker:

        def loop() -> list[str]:
            seen = []
            for request in worker:
                seen.append(request.service)
                request.reply(request.body[0].upper())
            return seen

        wait = in_thread(loop)
        assert client.request("upper", "a") == [b"A"]
        assert client.request("upper", "b") == [b"B"]
        worker.drain()
        assert wait() == ["upper", "upper"]


def test_the_guides_loop_answers_by_the_next_recv(broker: majordomo.Broker, client: majordomo.Client) -> None:
    with majordomo.Worker(broker.endpoint, "guide") as worker:

        def loop() -> None:
            reply = None
            for _ in range(3):
                reply = worker.recv(reply).body
            worker.recv(reply)

        wait = in_thread(loop)
        assert [client.request("guide", str(n)) for n in range(3)] == [[b"0"], [b"1"], [b"2"]]
        worker.drain()
        with pytest.raises(majordomo.Closed):
            wait()


def test_recv_gives_none_when_no_request_came_in_time(broker: majordomo.Broker) -> None:
    with majordomo.Worker(broker.endpoint, "idle") as worker:
        assert worker.recv(timeout=0.01) is None
        with pytest.raises(majordomo.InvalidArgument):
            worker.recv(b"a reply to nothing", timeout=0.01)


def test_a_second_answer_is_an_error(broker: majordomo.Broker, client: majordomo.Client) -> None:
    failures: list[BaseException] = []

    def twice(request: majordomo.Request) -> None:
        assert not request.answered
        request.reply(b"first")
        assert request.answered
        for answer in (lambda: request.reply(b"second"), lambda: request.fail(1, ""), lambda: request.partial(b"")):
            try:
                answer()
            except majordomo.InvalidArgument as failure:
                failures.append(failure)

    with serving(broker.endpoint, "twice", twice):
        assert client.request("twice", b"") == [b"first"]
    assert len(failures) == 3


def test_a_dropped_request_fails_instead_of_hanging(broker: majordomo.Broker, client: majordomo.Client) -> None:
    with majordomo.Worker(broker.endpoint, "drop") as worker:
        wait = in_thread(lambda: client.request("drop", b""))
        assert worker.recv(timeout=PATIENCE) is not None
        worker_again = in_thread(lambda: worker.recv(timeout=0.01))
        worker_again()
        with pytest.raises(majordomo.ServiceError) as failure:
            wait()
        assert failure.value.service_code == 500


def test_serve_answers_with_what_the_handler_returns(broker: majordomo.Broker, client: majordomo.Client) -> None:
    with serving(broker.endpoint, "list", lambda request: ["text", b"bytes", bytearray(b"buffer")]):
        assert client.request("list", b"") == [b"text", b"bytes", b"buffer"]


def test_a_generator_streams_all_but_its_last_body_as_partial(broker: majordomo.Broker) -> None:
    def count(request: majordomo.Request) -> Iterator[str]:
        for number in range(int(request.body[0])):
            yield str(number)

    with serving(broker.endpoint, "count", count, protocol="0.2"):
        with majordomo.Client(broker.endpoint, protocol="0.2", timeout=PATIENCE) as client:
            assert [part[0] for part in client.stream("count", "3")] == [b"0", b"1", b"2"]
            assert [list(part) for part in client.stream("count", "0")] == [[]]


def test_an_exception_of_the_handler_is_answered_500_with_its_text(
    broker: majordomo.Broker, client: majordomo.Client
) -> None:
    def broken(request: majordomo.Request) -> bytes:
        raise RuntimeError("out of coffee")

    with serving(broker.endpoint, "broken", broken):
        for _ in range(2):
            with pytest.raises(majordomo.ServiceError) as failure:
                client.request("broken", b"")
            assert (failure.value.service_code, failure.value.text) == (500, "out of coffee")


def test_a_handlers_service_error_keeps_its_code(broker: majordomo.Broker, client: majordomo.Client) -> None:
    def refuse(request: majordomo.Request) -> Iterator[bytes]:
        yield b"a part"
        yield b"another"
        raise majordomo.ServiceError(403, "not you")

    with serving(broker.endpoint, "refuse", refuse):
        with pytest.raises(majordomo.ServiceError) as failure:
            client.request("refuse", b"")
        assert (failure.value.service_code, failure.value.text) == (403, "not you")


@pytest.mark.parametrize("result", [None, 5, [5]])
def test_a_result_that_is_no_body_is_answered_500(
    broker: majordomo.Broker, client: majordomo.Client, result: object
) -> None:
    with serving(broker.endpoint, "odd", lambda request: result):
        with pytest.raises(majordomo.ServiceError) as failure:
            client.request("odd", b"")
        assert failure.value.service_code == 500


def test_serve_works_on_as_many_requests_as_asked_for(broker: majordomo.Broker, script: Callable[..., Script]) -> None:
    # The barrier opens only when all three requests are in the hands of the handler at once.
    workers = script(
        """
import sys, threading, majordomo
together = threading.Barrier(3)

@majordomo.service("together", concurrency=3)
def handler(request):
    together.wait()
    return request.body

print("serving", flush=True)
handler.serve(sys.argv[1])
""",
        broker.endpoint,
    )
    assert workers.line() == "serving"

    def ask(number: int) -> majordomo.Message:
        with majordomo.Client(broker.endpoint, timeout=PATIENCE) as client:
            return client.request("together", str(number))

    waits = [in_thread(lambda number=number: ask(number)) for number in range(3)]  # type: ignore[misc]
    assert [wait() for wait in waits] == [[b"0"], [b"1"], [b"2"]]


def test_a_killed_workers_request_is_answered_by_another_once(
    broker: majordomo.Broker, client: majordomo.Client, script: Callable[..., Script]
) -> None:
    victim = script(
        """
import sys, majordomo
worker = majordomo.Worker(sys.argv[1], "work")
request = worker.recv()
print("holding", flush=True)
worker.recv()
""",
        broker.endpoint,
    )
    wait = in_thread(lambda: client.request("work", b"precious"))
    assert victim.line() == "holding"
    answered: list[majordomo.Message] = []

    def answer(request: majordomo.Request) -> majordomo.Message:
        answered.append(request.body)
        return request.body

    with serving(broker.endpoint, "work", answer):
        victim.process.kill()
        assert wait() == [b"precious"]
    assert answered == [[b"precious"]]


def test_drain_lets_a_request_in_hand_be_answered(broker: majordomo.Broker, client: majordomo.Client) -> None:
    taken, gate = threading.Event(), threading.Event()

    def hold(request: majordomo.Request) -> bytes:
        taken.set()
        gate.wait(PATIENCE)
        return b"finished"

    worker = majordomo.Worker(broker.endpoint, "hold", drain_timeout=PATIENCE)
    serve = in_thread(lambda: worker.serve(hold))
    wait = in_thread(lambda: client.request("hold", b""))
    assert taken.wait(PATIENCE)
    drain = in_thread(worker.drain)
    gate.set()
    assert wait() == [b"finished"]
    drain()
    serve()
    assert client.request("mmi.service", "hold") == [b"404"]


def test_a_closed_worker_raises_closed(broker: majordomo.Broker) -> None:
    worker = majordomo.Worker(broker.endpoint, "echo")
    worker.close()
    worker.close()
    worker.drain()
    with pytest.raises(majordomo.Closed):
        worker.recv()
    assert list(worker) == []


def test_closing_a_worker_gives_its_request_to_another(broker: majordomo.Broker, client: majordomo.Client) -> None:
    worker = majordomo.Worker(broker.endpoint, "work")
    wait = in_thread(lambda: client.request("work", b"body"))
    request = worker.recv()
    worker.close()
    with serving(broker.endpoint, "work", echo):
        assert wait() == [b"body"]
    request.reply(b"too late, and dropped")


def test_a_worker_registers_again_with_a_broker_that_comes_back() -> None:
    first = majordomo.Broker("tcp://127.0.0.1:0")
    endpoint = first.endpoint
    with serving(endpoint, "echo", echo, heartbeat=0.05, reconnect=0.05):
        first.stop()
        with majordomo.Broker(endpoint), majordomo.Client(endpoint, timeout=PATIENCE) as client:
            assert client.request("echo", b"again") == [b"again"]


def test_serve_holds_further_requests_ready_and_tells_of_its_connection(broker: majordomo.Broker) -> None:
    class Enough(BaseException):
        pass

    events: list[majordomo.Event] = []
    begun, go_on = threading.Event(), threading.Event()

    def handler(request: majordomo.Request) -> majordomo.Message:
        if request.body == [b"end"]:
            raise Enough
        begun.set()
        go_on.wait(PATIENCE)
        return request.body

    def ask(body: bytes) -> majordomo.Message:
        with majordomo.Client(broker.endpoint, timeout=PATIENCE) as client:
            return client.request("work", body, max_attempts=1)

    serve = in_thread(lambda: majordomo.serve(broker.endpoint, "work", handler, prefetch=1, on_event=events.append))
    waits = [in_thread(lambda: ask(b"1")), in_thread(lambda: ask(b"2"))]
    begun.wait(PATIENCE)
    # The handler has one of them; the other waits with the worker, not with the broker.
    until(lambda: broker.stats()["in_flight"] == 2)
    go_on.set()
    assert [wait() for wait in waits] == [[b"1"], [b"2"]]
    with pytest.raises(majordomo.WorkerLost):
        ask(b"end")
    with pytest.raises(Enough):
        serve()
    assert events[0].name == "connected"
