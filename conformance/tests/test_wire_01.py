"""MDP/0.1 only: the REQ client of the Guide, and clients that cannot hear of partials."""

from __future__ import annotations

import pytest
import zmq
from broker_process import BrokerProcess
from conftest import Peers

pytestmark = pytest.mark.usefixtures("speaks_01")


def test_a_req_socket_is_a_client(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    worker = peers.worker(shared_broker, service)
    client = peers.client(shared_broker, socket_type=zmq.REQ)
    for number in range(3):
        client.send(service, [b"%d" % number, b""])
        assert worker.echo_one() == [b"%d" % number, b""]
        assert client.recv().body == [b"%d" % number, b""]


def test_a_req_socket_hears_the_brokers_own_services(shared_broker: BrokerProcess, peers: Peers) -> None:
    client = peers.client(shared_broker, socket_type=zmq.REQ)
    assert client.request("mmi.service", [b"nobody"]).body == [b"404"]
    assert client.request("mmi.unknown", [b""]).body == [b"501"]


def test_lazy_pirate_retry_is_answered_once(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    """The Guide's client: no answer in time, so it closes the socket and asks again on a new one."""
    worker = peers.worker(shared_broker, service)
    first = peers.client(shared_broker, socket_type=zmq.REQ)
    first.send(service, [b"ask"])
    held = worker.recv_request()
    first.close()
    again = peers.client(shared_broker, socket_type=zmq.REQ)
    again.send(service, [b"ask"])
    worker.reply(held.address, [b"late"])
    second = worker.recv_request()
    worker.reply(second.address, [b"in time"])
    assert again.recv().body == [b"in time"]
    assert again.request("mmi.service", [b"nobody"]).body == [b"404"]
