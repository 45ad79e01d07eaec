"""MDPX/1 (docs/mdpx.md), asked of the broker frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from broker_process import BrokerProcess
from conftest import Peers
from stats import wait_for_stat

from peers import wire, x1
from peers.x1 import Message, X1Client, X1Worker
from vectors import Vector, load

pytestmark = pytest.mark.ours

WELL_FORMED, MALFORMED = load("mdpx1"), load("malformedx1")
FLAGS = ("resumed", "fail_fast", "retryable")
PROPERTIES = [(b"content-type", b"text/plain"), (b"raw", b"\x00\xff")]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes the peers of a test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def client(shared_broker: BrokerProcess, opened: ExitStack) -> X1Client:
    client = X1Client(shared_broker.endpoint)
    opened.callback(client.close)
    assert not client.hello().flag, "a new session"
    return client


@pytest.fixture
def start_worker(shared_broker: BrokerProcess, opened: ExitStack, service: str) -> Callable[..., X1Worker]:
    def start(capacity: int = 1) -> X1Worker:
        worker = X1Worker(shared_broker.endpoint, service, capacity)
        opened.callback(worker.close)
        return worker

    return start


def again(client: X1Client, opened: ExitStack, broker: BrokerProcess) -> tuple[X1Client, Message]:
    """The same session over a new connection, and its WELCOME."""
    successor = X1Client(broker.endpoint, (client.session, client.secret))
    successor.numbers = client.numbers
    opened.callback(successor.close)
    return successor, successor.hello()


def message_of(vector: Vector) -> Message:
    fields = vector.fields
    leg = "any" if (fields["command"], "any") in x1.BYTES else ({fields["from"], fields["to"]} - {"broker"}).pop()
    layout = x1.COMMANDS[x1.BYTES[fields["command"], leg]][2]
    convert: dict[str, Callable[[Any], Any]] = {"Q": int, "16s": bytes.fromhex, "name": bytes.fromhex}
    values = {name: convert.get(kind, lambda value: value)(fields[name]) for name, kind in layout}
    properties = [(bytes.fromhex(name), bytes.fromhex(value)) for name, value in fields.get("properties", [])]
    flag = any(fields.get(name, False) for name in FLAGS)
    return Message(fields["command"], leg, values, flag, properties, vector.body if "body" in fields else [])


@pytest.mark.parametrize("vector", WELL_FORMED, ids=str)
def test_peers_write_and_read_the_golden_frames(vector: Vector) -> None:
    message = message_of(vector)
    assert x1.write(message, vector.fields.get("packed", False)) == vector.frames
    assert x1.read(vector.frames) == message


@pytest.mark.parametrize("vector", [v for v in MALFORMED if v.name.startswith("batch") and v.fields["state"] != "new"], ids=str)
def test_peers_refuse_batches_of_something_else_than_moderate_messages(vector: Vector) -> None:
    with pytest.raises(x1.BadFrames):
        x1.read(vector.frames)


@pytest.mark.parametrize("vector", [v for v in MALFORMED if v.fields["sender"] == "client"], ids=str)
def test_a_malformed_message_of_a_client_is_dropped_and_its_session_goes_on(shared_broker: BrokerProcess, vector: Vector) -> None:
    with X1Client(shared_broker.endpoint) as client:
        assert isinstance(client, X1Client)
        if vector.fields["state"] == "session":
            client.hello()
        client.send_frames(vector.frames)
        if vector.fields["outcome"] == "disconnect":
            client.recv_command("DISCONNECT")
        if vector.fields["state"] == "new":
            client.hello()
        assert client.request("mmi.service", [b"nobody"]).body == [b"404"], "the first thing that it hears"


@pytest.mark.parametrize("vector", [v for v in MALFORMED if v.fields["sender"] == "worker"], ids=str)
def test_a_malformed_message_of_a_worker_ends_that_worker_only(shared_broker: BrokerProcess, vector: Vector) -> None:
    with X1Worker(shared_broker.endpoint, "echo", ready=vector.fields["state"] == "registered") as worker:
        worker.send_frames(vector.frames)
        if vector.fields["outcome"] == "disconnect":
            worker.recv_command("DISCONNECT")
        shared_broker.assert_serves()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("body", [[], [b""], [b"", b""], [b"a", b"", bytes(5000)], [bytes(100_000)]], ids=len)
def test_bodies_and_properties_go_there_and_back_in_either_form(
    client: X1Client, start_worker: Callable[..., X1Worker], service: str, packed: bool, body: list[bytes]
) -> None:
    packed = packed and sum(map(len, body)) < 50_000
    worker = start_worker()
    number = client.send(service, body, packed=packed, properties=PROPERTIES)
    work = worker.recv_request()
    assert (work.body, work.properties) == (body, PROPERTIES)
    assert (work.session, work.number, work.attempt, work.ttl_ms) == (client.session, number, 1, 0)
    worker.reply(work.delivery, body, packed=packed, properties=PROPERTIES)
    reply = client.recv_command("FINAL")
    assert (reply.number, reply.sequence, reply.body, reply.properties) == (number, 0, body, PROPERTIES)


def test_the_largest_request_that_can_be_written_can_be_delivered(
    client: X1Client, start_worker: Callable[..., X1Worker], service: str
) -> None:
    worker = start_worker()
    body = [bytes(x1.MAX_INLINE - 4)]
    client.send(service, body, packed=True)
    assert worker.recv_request().body == body


def test_a_stream_is_numbered_and_ends_once(client: X1Client, start_worker: Callable[..., X1Worker], service: str) -> None:
    worker = start_worker()
    client.send(service)
    delivery = worker.recv_request().delivery
    for sequence in range(3):
        worker.partial(delivery, sequence, [b"part"])
    worker.reply(delivery, [b"end"], sequence=3)
    worker.reply(delivery, [b"twice"], sequence=3)
    assert [client.recv_command("PARTIAL").sequence for _ in range(3)] == [0, 1, 2]
    assert client.recv_command("FINAL").sequence == 3
    assert client.request("mmi.service").command == "FINAL", "nothing came in between"


def test_a_session_goes_on_over_a_new_connection_and_nothing_runs_twice(
    shared_broker: BrokerProcess, client: X1Client, start_worker: Callable[..., X1Worker], opened: ExitStack, service: str
) -> None:
    worker = start_worker(capacity=8)
    number = client.send(service, [b"once"])
    delivery = worker.recv_request().delivery
    client.close()
    second, welcome = again(client, opened, shared_broker)
    assert welcome.flag, "resumed"
    second.send(service, [b"once"], number=number)
    worker.reply(delivery, [b"answer"])
    assert second.recv_command("FINAL").body == [b"answer"]
    second.close()
    third, welcome = again(second, opened, shared_broker)
    assert welcome.flag, "its outcome is not acknowledged"
    third.send(service, [b"once"], number=number)
    assert third.recv_command("FINAL").body == [b"answer"], "from what was kept"
    third.ack(number)
    third.send(service, [b"once"], number=number)
    error = third.recv_command("ERROR")
    assert (error.kind, error.flag) == (4, False)
    third.send(service, [b"next"])
    assert worker.recv_request().body == [b"next"], "it has never seen the repeats"


def test_a_session_is_denied_to_whoever_does_not_know_its_secret(
    shared_broker: BrokerProcess, client: X1Client, opened: ExitStack
) -> None:
    thief = X1Client(shared_broker.endpoint, (client.session, bytes(16)))
    opened.callback(thief.close)
    thief.send_hello()
    assert thief.recv_command("DISCONNECT").kind == 10
    assert client.request("mmi.service").command == "FINAL"


def test_a_cancelled_request_has_no_outcome_and_its_worker_is_told(
    client: X1Client, start_worker: Callable[..., X1Worker], service: str
) -> None:
    worker = start_worker()
    number = client.send(service)
    delivery = worker.recv_request().delivery
    client.cancel(number)
    assert worker.recv_command("CANCEL").delivery == delivery
    worker.reply(delivery, [b"late"])
    client.send(service, [b"next"])
    assert worker.echo_one() == [b"next"]
    assert client.recv_command("FINAL").body == [b"next"]


def test_time_runs_out_while_a_request_waits_and_while_it_runs(
    client: X1Client, start_worker: Callable[..., X1Worker], service: str
) -> None:
    worker = start_worker()
    numbers = [client.send(service, ttl_ms=200) for _ in range(2)]
    work = worker.recv_request()
    assert 1 <= work.ttl_ms <= 200
    assert worker.recv_command("CANCEL").delivery == work.delivery
    errors = [client.recv_command("ERROR") for _ in numbers]
    assert [(error.number, error.kind, error.flag) for error in errors] == [(number, 4, True) for number in numbers]


def test_a_failure_keeps_code_and_text_and_a_retryable_one_is_tried_elsewhere(
    client: X1Client, start_worker: Callable[..., X1Worker], service: str
) -> None:
    first = start_worker()
    client.send(service, max_attempts=2)
    delivery = first.recv_request().delivery
    second = start_worker()
    first.fail(delivery, 503, "later", retryable=True)
    work = second.recv_request()
    assert work.attempt == 2
    second.fail(work.delivery, 503, "größer", retryable=True)
    error = client.recv_command("ERROR")
    assert (error.kind, error.code, error.text, error.flag) == (8, 503, "größer", True)


def test_a_request_of_one_attempt_is_returned_but_never_run_twice(
    client: X1Client, start_worker: Callable[..., X1Worker], service: str
) -> None:
    first = start_worker()
    client.send(service, max_attempts=1)
    delivery = first.recv_request().delivery
    second = start_worker()
    first.drain()
    first.give_back(delivery)
    assert second.recv_request().attempt == 1, "no handler had seen it"
    start_worker()
    second.close()
    assert client.recv_command("ERROR").kind == 5


def test_capacity_bounds_what_a_worker_holds_and_may_be_changed(
    client: X1Client, start_worker: Callable[..., X1Worker], service: str
) -> None:
    worker = start_worker(capacity=0)
    for number in range(3):
        client.send(service, [b"%d" % number])
    worker.ready(capacity=1)
    held = worker.recv_request()
    worker.ready(capacity=2)
    assert worker.recv_request().body == [b"1"]
    worker.reply(held.delivery, held.body)
    assert worker.recv_request().body == [b"2"]


def test_credit_refuses_what_exceeds_it(client: X1Client, service: str) -> None:
    credit = client.hello().credit
    numbers = [client.send(service) for _ in range(credit + 1)]
    error = client.recv_command("ERROR")
    assert (error.number, error.kind) == (numbers[-1], 3)
    client.cancel(numbers[0])
    number = client.send(service, fail_fast=True)
    error = client.recv_command("ERROR")
    assert (error.number, error.kind) == (number, 2), "the credit is free again, and there is no worker"


def test_a_client_hears_heartbeats_while_it_waits(client: X1Client, service: str) -> None:
    client.hello(heartbeat_ms=50)
    client.send(service)
    assert [client.recv_any().command for _ in range(3)] == ["HEARTBEAT"] * 3


@pytest.mark.parametrize("protocol", ["0.1", "0.2"])
def test_older_clients_reach_mdpx_workers(
    shared_broker: BrokerProcess, peers: Peers, start_worker: Callable[..., X1Worker], service: str, protocol: str
) -> None:
    worker = start_worker()
    client = peers.client(shared_broker, protocol)
    client.send(service, [b"hi", b""])
    work = worker.recv_request()
    assert (work.session, work.number, work.body) == (bytes(16), 0, [b"hi", b""])
    worker.partial(work.delivery, 0, [b"part"])
    worker.reply(work.delivery, [b"end"], sequence=1)
    partials, final = client.recv_all()
    parts = [partial.body for partial in partials] + [final.body]
    assert parts == ([[b"part", b"end"]] if protocol == "0.1" else [[b"part"], [b"end"]])
    client.send(service)
    worker.fail(worker.recv_request().delivery, 404, "no such page")
    assert client.recv().body == [b"MAJORDOMO-ERROR", b"404", b"no such page"]


@pytest.mark.parametrize("protocol", ["0.1", "0.2"])
def test_mdpx_clients_reach_older_workers(
    shared_broker: BrokerProcess, peers: Peers, client: X1Client, service: str, protocol: str
) -> None:
    worker = peers.worker(shared_broker, service, protocol)
    client.send(service, [b"hi", b""], properties=PROPERTIES)
    work = worker.recv_request()
    assert work.body == [b"hi", b""]
    if protocol == "0.2":
        worker.partial(work.address, [b"part"])
        assert client.recv_command("PARTIAL").sequence == 0
    worker.reply(work.address, [b"end"])
    final = client.recv_command("FINAL")
    assert (final.sequence, final.body) == (int(protocol == "0.2"), [b"end"])
    client.send(service)
    worker.reply(worker.recv_request().address, [b"MAJORDOMO-ERROR", b"404", b"no such page"])
    error = client.recv_command("ERROR")
    assert (error.kind, error.code, error.text, error.flag) == (8, 404, "no such page", False)


def test_a_batch_counts_as_its_messages_and_is_said_to_whom_takes_batches_only(client: X1Client) -> None:
    def ask(*numbers: int) -> None:
        questions = (
            Message("REQUEST", "client", {"number": n, "acked": 0, "ttl_ms": 0, "max_attempts": 0, "service": b"mmi.service"})
            for n in numbers
        )
        client.say("BATCH", [x1.write(question, packed=True)[0] for question in questions])

    ask(1, 2)
    assert [client.recv_command("FINAL").number for _ in range(2)] == [1, 2]
    client.say("BATCH", packed=False)
    ask(3, 4)
    together = client.recv_command("BATCH").body
    assert [(answer.command, answer.number) for answer in (x1.read([one]) for one in together)] == [("FINAL", 3), ("FINAL", 4)]


def test_the_broker_says_that_it_speaks_mdpx(shared_broker: BrokerProcess, peers: Peers) -> None:
    answer = peers.client(shared_broker).request("mmi.protocols", [b""])
    assert answer == wire.Reply(wire.FINAL, b"mmi.protocols", [b"200", b"0.1", b"0.2", b"x1"])


def test_malformed_messages_are_counted(start_broker: Callable[..., BrokerProcess], peers: Peers, opened: ExitStack) -> None:
    broker = start_broker()
    client = X1Client(broker.endpoint)
    opened.callback(client.close)
    client.hello()
    client.send_frames([x1.MAGIC + b"\x7f\x00"])
    wait_for_stat(peers.client(broker), "malformed", 1)
