"""Wrong arguments and odd messages are Python errors, and never end the process."""

from __future__ import annotations

import asyncio
import inspect
import math
from typing import Any, Callable

import pytest

import majordomo
from majordomo import _majordomo, aio
from scene import PATIENCE, in_thread, serving

HANDLES = [majordomo.Client, majordomo.Broker, aio.Client]


@pytest.mark.parametrize("handle", HANDLES)
@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://", "udp://127.0.0.1:1", "tcp://127.0.0.1:1\0", ","])
def test_an_endpoint_that_is_none_is_an_invalid_argument(handle: Any, endpoint: str) -> None:
    with pytest.raises(majordomo.InvalidArgument):
        handle(endpoint)


@pytest.mark.parametrize("handle", HANDLES)
@pytest.mark.parametrize("endpoint", [None, 5, b"tcp://127.0.0.1:1", [5], object()])
def test_an_endpoint_of_another_type_is_a_type_error(handle: Any, endpoint: object) -> None:
    with pytest.raises(TypeError):
        handle(endpoint)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": math.nan},
        {"timeout": math.inf},
        {"timeout": 1e300},
        {"retries": 0},
        {"retries": -1},
        {"retries": 2**40},
        {"deadline": -0.001},
        {"protocol": "0.3"},
        {"protocol": ""},
        {"max_message_bytes": -1},
        {"max_message_bytes": 0},
        {"reconnect_min": -1},
    ],
)
def test_an_option_out_of_range_is_an_invalid_argument(options: dict[str, Any]) -> None:
    for handle in (majordomo.Client, aio.Client):
        with pytest.raises(majordomo.InvalidArgument):
            handle("tcp://127.0.0.1:1", **options)


# What no duration can be. None of it may stand for another duration, or for none.
NO_DURATIONS = [0, -0.001, -1, 1e-4, math.nan, math.inf, -math.inf, 8 * 24 * 3600, 1e18, 1e300]


async def start_broker(**options: Any) -> None:
    async with aio.Broker("tcp://127.0.0.1:0", **options):
        pass


async def start_worker(endpoint: str, service: str, **options: Any) -> None:
    async with aio.Worker(endpoint, service, **options):
        pass


def refuse(seconds: float, option: str, make: Callable[..., Any], *arguments: Any) -> None:
    def call() -> Any:
        outcome = make(*arguments, **{option: seconds})
        return asyncio.run(outcome) if inspect.iscoroutine(outcome) else outcome

    # On a thread of its own: what takes the option for something else may serve for ever.
    outcome = in_thread(call)
    with pytest.raises(majordomo.InvalidArgument):
        outcome()


@pytest.mark.parametrize("seconds", NO_DURATIONS)
def test_what_no_duration_can_be_is_an_invalid_argument_of_every_handle(seconds: float) -> None:
    nobody = "tcp://127.0.0.1:1"
    for option in ("timeout", "deadline", "reconnect_min", "reconnect_max"):
        refuse(seconds, option, majordomo.Client, nobody)
        refuse(seconds, option, aio.Client, nobody)
    for option in ("heartbeat", "reconnect", "drain_timeout", "keep_outcomes_age"):
        refuse(seconds, option, majordomo.Worker, nobody, "echo")
        refuse(seconds, option, start_worker, nobody, "echo")
        refuse(seconds, option, majordomo.serve, nobody, "echo", lambda request: b"")
        refuse(seconds, option, aio.serve, nobody, "echo", lambda request: b"")
    # The two that can be without a limit say so by infinity.
    limits = () if seconds == math.inf else ("attempt_timeout", "request_ttl")
    for option in ("heartbeat", "heartbeat_min", "heartbeat_max", *limits):
        refuse(seconds, option, majordomo.Broker, "tcp://127.0.0.1:0")
        refuse(seconds, option, start_broker)


@pytest.mark.parametrize("seconds", NO_DURATIONS)
def test_what_no_duration_can_be_is_an_invalid_argument_of_every_request(
    broker: majordomo.Broker, client: majordomo.Client, seconds: float
) -> None:
    async def ask(**options: Any) -> None:
        async with aio.Client(broker.endpoint) as client:
            await client.request("nobody", b"", **options)

    async def stream(**options: Any) -> None:
        async with aio.Client(broker.endpoint) as client, client.stream("nobody", b"", **options) as parts:
            await parts.__anext__()

    for option in ("timeout", "deadline"):
        refuse(seconds, option, client.request, "nobody", b"")
        refuse(seconds, option, ask)
        refuse(seconds, option, stream)
        refuse(seconds, option, client.stream, "nobody", b"")


@pytest.mark.parametrize("seconds", [-0.001, math.nan, math.inf, -math.inf, 1e300])
def test_a_wait_takes_no_time_that_cannot_be(
    broker: majordomo.Broker, client: majordomo.Client, seconds: float
) -> None:
    worker = majordomo.Worker(broker.endpoint, "waits")
    refuse(seconds, "timeout", worker.recv)
    asked = in_thread(lambda: client.request("waits", b""))
    request = worker.recv(timeout=PATIENCE)
    assert request is not None
    refuse(seconds, "timeout", request.wait_cancelled)
    request.reply(b"")
    assert asked() == [b""]
    worker.close()


@pytest.mark.parametrize("options", [{"timeout": "1"}, {"retries": 1.5}, {"retries": 2**70}, {"unknown": 1}])
def test_an_option_of_another_type_is_a_python_error(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, OverflowError)):
        majordomo.Client("tcp://127.0.0.1:1", **options)


@pytest.mark.parametrize("service", ["", "x" * 256, "nul\0", "line\n"])
def test_a_name_that_is_none_is_an_invalid_argument(broker: majordomo.Broker, service: str) -> None:
    with majordomo.Client(broker.endpoint) as client, pytest.raises(majordomo.InvalidArgument):
        client.request(service, b"")
    with pytest.raises(majordomo.InvalidArgument):
        majordomo.Worker(broker.endpoint, service)
    with pytest.raises(majordomo.InvalidArgument):
        majordomo.serve(broker.endpoint, service, lambda request: b"")


def test_management_names_cannot_be_served(broker: majordomo.Broker) -> None:
    with pytest.raises(majordomo.InvalidArgument):
        majordomo.Worker(broker.endpoint, "mmi.service")


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_worker_needs_a_concurrency(broker: majordomo.Broker, concurrency: int) -> None:
    with pytest.raises(majordomo.InvalidArgument):
        majordomo.serve(broker.endpoint, "echo", lambda request: b"", concurrency=concurrency)


SERVES: list[Callable[..., Any]] = [majordomo.serve, lambda *args, **options: asyncio.run(aio.serve(*args, **options))]


@pytest.mark.parametrize("serve", SERVES)
@pytest.mark.parametrize("option", ["prefetch", "keep_outcomes", "keep_outcomes_bytes", "keep_outcomes_age"])
def test_options_of_a_worker_reach_it_through_serve(
    broker: majordomo.Broker, serve: Callable[..., Any], option: str
) -> None:
    # On a thread of its own: a call that does not see the option serves for ever.
    outcome = in_thread(lambda: serve(broker.endpoint, "echo", lambda request: b"", **{option: -1}))
    with pytest.raises(majordomo.InvalidArgument):
        outcome()


@pytest.mark.parametrize("serve", [majordomo.serve, aio.serve])
def test_serve_has_all_options_of_a_worker(serve: Callable[..., Any]) -> None:
    assert not inspect.signature(majordomo.Worker).parameters.keys() - inspect.signature(serve).parameters.keys()


@pytest.mark.parametrize("body", [None, 5, object(), [5], {"a": 1}])
def test_a_body_of_another_type_is_a_type_error(client: majordomo.Client, body: Any) -> None:
    with pytest.raises(TypeError):
        client.request("echo", body)
    with pytest.raises(TypeError):
        client.stream("echo", body)


def test_a_request_refuses_odd_answers_and_can_still_be_answered(
    broker: majordomo.Broker, client: majordomo.Client
) -> None:
    def answer(request: majordomo.Request) -> None:
        for odd in (None, 5, [None]):
            with pytest.raises(TypeError):
                request.reply(odd)  # type: ignore[arg-type]
        with pytest.raises(OverflowError):
            request.fail(-1, "")
        with pytest.raises(UnicodeEncodeError):
            request.fail(1, "\ud800")
        request.reply(b"right")

    with serving(broker.endpoint, "odd", answer):
        assert client.request("odd", b"") == [b"right"]


def test_empty_and_large_messages_come_through(client: majordomo.Client, echoing: majordomo.Worker) -> None:
    assert client.request("echo", b"") == [b""]
    assert client.request("echo", [b""] * 20) == [b""] * 20
    assert client.request("echo", [b"x" * 4095, b"y" * 4096, b"z" * 4097]) == [b"x" * 4095, b"y" * 4096, b"z" * 4097]


def test_closing_while_another_thread_waits_ends_its_wait(broker: majordomo.Broker) -> None:
    worker = majordomo.Worker(broker.endpoint, "idle")
    wait = in_thread(worker.recv)
    worker.close()
    with pytest.raises(majordomo.Closed):
        wait()
    client = majordomo.Client(broker.endpoint, timeout=PATIENCE)
    wait = in_thread(lambda: client.request("nobody", b""))
    client.close()
    with pytest.raises(majordomo.Closed):
        wait()


@pytest.mark.parametrize("name", ["Request", "Parts"])
def test_what_only_the_library_makes_cannot_be_made(name: str) -> None:
    with pytest.raises(TypeError):
        getattr(_majordomo, name)()


def test_handles_need_no_cleaning_up(broker: majordomo.Broker) -> None:
    for _ in range(20):
        majordomo.Client(broker.endpoint)
        majordomo.Worker(broker.endpoint, "dropped")
        aio.Client(broker.endpoint)


def test_everything_public_is_documented() -> None:
    for module in (majordomo, aio):
        for name in module.__all__:
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isroutine(thing)):
                continue
            assert inspect.getdoc(thing), name
            if inspect.isclass(thing):
                for member, value in vars(thing).items():
                    if not member.startswith("_") and callable(value):
                        assert inspect.getdoc(value), f"{name}.{member}"
