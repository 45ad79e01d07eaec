"""What both published versions promise, frame by frame, to peers that a stranger wrote."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest
from broker_process import BrokerProcess
from conftest import Peers

from peers import wire

StartBroker = Callable[..., BrokerProcess]


def test_request_and_reply_are_exactly_the_published_frames(
    shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    version = wire.VERSIONS[protocol]
    name = service.encode()
    worker = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    client.send_frames(version.client_to_broker(name, [b"hello", b"", b"world"]))
    frames = worker.recv_frames()
    address = frames[len(version.lead) + 2]
    assert frames == version.broker_to_worker(wire.REQUEST, address, b"", b"hello", b"", b"world")
    assert address != b""
    worker.send_frames(version.worker_to_broker(wire.FINAL, address, b"", b"good", b"", b"bye"))
    assert client.recv_frames() == version.broker_to_client(wire.FINAL, name, [b"good", b"", b"bye"])


def test_ready_has_no_answer(shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str) -> None:
    worker = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    client.send(service, [b"first"])
    assert worker.recv_any().command == wire.REQUEST, "the first thing that a worker hears is work"


@pytest.mark.parametrize("frames", range(21))
def test_bodies_of_any_number_of_frames_pass_unchanged(
    shared_broker: BrokerProcess, peers: Peers, rng: random.Random, protocol: str, service: str, frames: int
) -> None:
    body = [rng.randbytes(rng.choice([0, 0, 1, 7, 32, 33, 255, 256, 5000])) for _ in range(frames)]
    worker = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    client.send(service, body)
    assert worker.echo_one() == body
    assert client.recv().body == body


def test_ten_megabytes_pass_unchanged(
    shared_broker: BrokerProcess, peers: Peers, rng: random.Random, protocol: str, service: str
) -> None:
    body = [rng.randbytes(10_000_000)]
    worker = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    client.send(service, body)
    worker.echo_one()
    (answer,) = client.recv().body
    assert hashlib.sha256(answer).digest() == hashlib.sha256(body[0]).digest()


def test_body_frames_that_look_like_protocol_pass_unchanged(
    shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    body = [b"", b"MDPC01", b"MDPW02", b"\x01", b"\x05", b"", b"MAJORDOMO", b"mmi.service"]
    worker = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    client.send(service, body)
    assert worker.echo_one() == body
    assert client.recv().body == body


def test_a_request_waits_for_its_first_worker(shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str) -> None:
    client = peers.client(shared_broker, protocol)
    client.send(service, [b"early"])
    assert client.request("mmi.service", [service.encode()]).body == [b"404"]
    worker = peers.worker(shared_broker, service, protocol, ready=False)
    worker.ready()
    assert worker.echo_one() == [b"early"]
    assert client.recv().body == [b"early"]


def test_requests_go_to_the_worker_that_has_been_idle_longest(
    shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    client = peers.client(shared_broker, protocol)
    held = []
    for _ in range(3):
        # All earlier ones are busy, so each request goes to the newest.
        client.send(service, [b"hold"])
        worker = peers.worker(shared_broker, service, protocol, ready=False)
        worker.ready()
        held.append((worker, worker.recv_request().address))
    for worker, address in held:
        worker.reply(address, [b"free"])
        client.recv()
    for round_number in range(6):
        client.send(service, [b"%d" % round_number])
        assert held[round_number % 3][0].echo_one() == [b"%d" % round_number]
        client.recv()


def test_an_idle_worker_hears_heartbeats(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    broker = start_broker(heartbeat_ms=100, liveness=50)
    worker = peers.worker(broker, service, protocol)
    assert [worker.recv_any().command for _ in range(3)] == [wire.HEARTBEAT] * 3


@pytest.mark.ours
def test_a_busy_worker_hears_heartbeats(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    broker = start_broker(heartbeat_ms=100, liveness=50)
    worker = peers.worker(broker, service, protocol)
    peers.client(broker, protocol).send(service, [b"work"])
    worker.recv_request()
    assert [worker.recv_any().command for _ in range(3)] == [wire.HEARTBEAT] * 3


def test_a_worker_that_beats_stays(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    broker = start_broker(heartbeat_ms=300, liveness=3)
    peers.worker(broker, service, protocol).answer_beats(9)
    client = peers.client(broker, protocol)
    assert client.request("mmi.service", [service.encode()]).body == [b"200"]


def test_two_hasty_beats_do_not_start_a_storm(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    """After a stall two beats arrive together. A broker that follows its peers' pace must find back to its own, or two such
    sides keep each other beating as fast as they can."""
    broker = start_broker(heartbeat_ms=300, liveness=10)
    clock = peers.worker(broker, f"{service}-clock", protocol)
    hasty = peers.worker(broker, service, protocol)
    hasty.heartbeat()
    hasty.heartbeat()
    beats, ticks = 0, 0
    while ticks < 5:
        if hasty.socket.poll(5):
            hasty.answer_beats(1)
            beats += 1
        if clock.socket.poll(0):
            clock.answer_beats(1)
            ticks += 1
    assert beats <= 4 * ticks, f"{beats} beats to the hasty worker in {ticks} intervals of the broker"


def test_a_worker_that_says_goodbye_gets_no_more_work(
    shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    leaving = peers.worker(shared_broker, service, protocol)
    leaving.disconnect()
    client = peers.client(shared_broker, protocol)
    while client.request("mmi.service", [service.encode()]).body != [b"404"]:
        pass
    client.send(service, [b"work"])
    staying = peers.worker(shared_broker, service, protocol, ready=False)
    staying.ready()
    assert staying.echo_one() == [b"work"]
    assert client.recv().body == [b"work"]


@pytest.mark.ours
def test_the_address_frame_is_the_brokers_own(shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str) -> None:
    """Two deliveries never share an address, so a late answer cannot pass for a current one."""
    worker = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    addresses = set()
    for _ in range(10):
        client.send(service, [b"x"])
        request = worker.recv_request()
        addresses.add(request.address)
        worker.reply(request.address, [b"y"])
        client.recv()
    assert len(addresses) == 10
    assert {len(address) for address in addresses} == {16}


@pytest.mark.ours
def test_a_second_answer_to_the_same_request_is_dropped(
    shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    worker = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    client.send(service, [b"once"])
    request = worker.recv_request()
    worker.reply(request.address, [b"first"])
    worker.reply(request.address, [b"second"])
    assert client.recv().body == [b"first"]
    for _ in range(20):
        assert client.request("mmi.service", [b"nobody"]).body == [b"404"]


def test_several_thousand_requests_of_one_client_come_back_in_order(
    shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    worker = peers.worker(shared_broker, service, protocol)
    client = peers.client(shared_broker, protocol)
    count = 2000
    for number in range(count):
        client.send(service, [b"%d" % number])
    for _ in range(count):
        worker.echo_one()
    assert [int(client.recv().body[0]) for _ in range(count)] == list(range(count))
