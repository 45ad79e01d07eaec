"""MDP/0.2 only: partials."""

from __future__ import annotations

import pytest
from broker_process import BrokerProcess
from conftest import Peers

from peers import wire

pytestmark = pytest.mark.usefixtures("speaks_02")


def test_partials_and_final_arrive_as_published_frames_in_order(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    worker = peers.worker(shared_broker, service, "0.2")
    client = peers.client(shared_broker, "0.2")
    name = service.encode()
    client.send(service, [b"go"])
    address = worker.recv_request().address
    for number in range(3):
        worker.partial(address, [b"part", b"%d" % number, b""])
    worker.reply(address, [b"end"])
    for number in range(3):
        assert client.recv_frames() == [b"MDPC02", b"\x02", name, b"part", b"%d" % number, b""]
    assert client.recv_frames() == [b"MDPC02", b"\x03", name, b"end"]


def test_each_partial_is_passed_on_before_the_next_is_made(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    worker = peers.worker(shared_broker, service, "0.2")
    client = peers.client(shared_broker, "0.2")
    client.send(service, [b"go"])
    address = worker.recv_request().address
    for number in range(5):
        worker.partial(address, [b"%d" % number])
        assert client.recv() == wire.Reply(wire.PARTIAL, service.encode(), [b"%d" % number])
    worker.reply(address, [])
    assert client.recv() == wire.Reply(wire.FINAL, service.encode(), [])


def test_a_thousand_partials_keep_their_order(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    worker = peers.worker(shared_broker, service, "0.2")
    client = peers.client(shared_broker, "0.2")
    client.send(service, [b"go"])
    address = worker.recv_request().address
    for number in range(1000):
        worker.partial(address, [b"%d" % number])
    worker.reply(address, [b"end"])
    partials, final = client.recv_all()
    assert [int(partial.body[0]) for partial in partials] == list(range(1000))
    assert final.body == [b"end"]


@pytest.mark.ours
def test_a_stream_that_has_begun_is_not_begun_again(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    """The client has seen partials: a second worker's stream would repeat them."""
    first = peers.worker(shared_broker, service, "0.2")
    client = peers.client(shared_broker, "0.2")
    client.send(service, [b"stream"])
    first.partial(first.recv_request().address, [b"seen"])
    assert client.recv().body == [b"seen"]
    first.leave()
    other = peers.client(shared_broker, "0.2")
    while other.request("mmi.service", [service.encode()]).body != [b"404"]:
        pass
    other.send(service, [b"another"])
    second = peers.worker(shared_broker, service, "0.2", ready=False)
    second.ready()
    assert second.echo_one() == [b"another"], "the begun stream was given to a second worker"
    assert other.recv().body == [b"another"]


@pytest.mark.ours
def test_a_stream_without_partials_yet_goes_to_another_worker(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    first = peers.worker(shared_broker, service, "0.2")
    client = peers.client(shared_broker, "0.2")
    client.send(service, [b"stream"])
    first.recv_request()
    first.leave()
    second = peers.worker(shared_broker, service, "0.2", ready=False)
    second.ready()
    address = second.recv_request().address
    second.partial(address, [b"a"])
    second.reply(address, [b"b"])
    partials, final = client.recv_all()
    assert [partial.body for partial in partials] == [[b"a"]] and final.body == [b"b"]
