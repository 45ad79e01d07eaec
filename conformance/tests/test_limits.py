"""The options of `mdbroker` that bound what it holds and how often it tries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from broker_process import BrokerProcess
from conftest import Peers
from stats import ask, wait_for_stat, wait_until

from peers.raw_client import Silence

pytestmark = pytest.mark.ours
StartBroker = Callable[..., BrokerProcess]


def test_a_full_queue_refuses_and_drops_nothing_it_accepted(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(max_queued=5)
    client = peers.client(broker, protocol)
    for number in range(8):
        client.send(service, [b"%d" % number])
    stats = wait_for_stat(client, "refused", 3)
    assert stats["queued"] == 5
    worker = peers.worker(broker, service, protocol, ready=False)
    worker.ready()
    assert [worker.echo_one() for _ in range(5)] == [[b"%d" % number] for number in range(5)]
    assert [client.recv().body for _ in range(5)] == [[b"%d" % number] for number in range(5)]
    client.send(service, [b"room again"])
    assert worker.echo_one() == [b"room again"]


def test_a_queued_request_expires_after_its_time(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    broker = start_broker(request_ttl_ms=200)
    client = peers.client(broker, protocol)
    client.send(service, [b"stale"])
    wait_for_stat(client, "expired", 1)
    client.send(service, [b"fresh"])
    worker = peers.worker(broker, service, protocol, ready=False)
    worker.ready()
    assert worker.echo_one() == [b"fresh"]


def test_a_running_request_does_not_expire(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    broker = start_broker(request_ttl_ms=200)
    worker = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    client.send(service, [b"slow"])
    request = worker.recv_request()
    other = peers.client(broker, protocol)
    other.send(f"{service}-nobody", [b"clock"])
    wait_for_stat(other, "expired", 1)
    worker.reply(request.address, [b"done"])
    assert client.recv().body == [b"done"]


def test_a_message_over_the_limit_is_not_served_and_harms_nobody_else(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(max_message_bytes=100_000)
    worker = peers.worker(broker, service, protocol)
    bystander, client = peers.client(broker, protocol), peers.client(broker, protocol)
    client.send(service, [bytes(200_000)])
    bystander.send(service, [bytes(90_000)])
    assert worker.echo_one() == [bytes(90_000)], "the large one came through"
    assert bystander.recv().body == [bytes(90_000)]
    assert broker.alive


def test_many_small_frames_over_the_limit_are_not_served_either(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(max_message_bytes=100_000)
    worker = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    client.send(service, [bytes(1000)] * 200)
    other = peers.client(broker, protocol)
    other.send(service, [b"small"])
    assert worker.echo_one() == [b"small"]


def test_an_attempt_over_its_time_goes_to_another_worker(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(attempt_timeout_ms=300)
    first = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    client.send(service, [b"work"])
    late = first.recv_request()
    second = peers.worker(broker, service, protocol, ready=False)
    second.ready()
    request = second.recv_request()
    assert request.body == [b"work"]
    first.reply(late.address, [b"late"])
    asker = peers.client(broker, protocol)
    wait_for_stat(asker, "stray_replies", 1)
    second.reply(request.address, [b"in time"])
    assert client.recv().body == [b"in time"]
    assert client.request("mmi.service", [b"nobody"]).body == [b"404"], "one outcome, not two"


def test_a_request_that_kills_its_workers_is_given_up(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker(max_attempts=2)
    client = peers.client(broker, protocol)
    client.send(service, [b"poison"])
    for _ in range(2):
        worker = peers.worker(broker, service, protocol, ready=False)
        worker.ready()
        assert worker.recv_request().body == [b"poison"]
        worker.close()
    asker = peers.client(broker, protocol)
    wait_for_stat(asker, "exhausted", 1)
    asker.send(service, [b"sound"])
    worker = peers.worker(broker, service, protocol, ready=False)
    worker.ready()
    assert worker.echo_one() == [b"sound"]


def test_one_attempt_means_never_twice(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    broker = start_broker(max_attempts=1)
    client = peers.client(broker, protocol)
    client.send(service, [b"once"])
    first = peers.worker(broker, service, protocol, ready=False)
    first.ready()
    first.recv_request()
    first.close()
    asker = peers.client(broker, protocol)
    wait_for_stat(asker, "exhausted", 1)
    asker.send(service, [b"next"])
    second = peers.worker(broker, service, protocol, ready=False)
    second.ready()
    assert second.echo_one() == [b"next"]


def test_a_redelivered_request_goes_before_the_waiting_ones(
    start_broker: StartBroker, peers: Peers, protocol: str, service: str
) -> None:
    broker = start_broker()
    first = peers.worker(broker, service, protocol)
    client = peers.client(broker, protocol)
    for body in (b"a", b"b", b"c"):
        client.send(service, [body])
    assert first.recv_request().body == [b"a"]
    asker = peers.client(broker, protocol)
    wait_until(asker, "mmi.stats", lambda stats: stats["queued"] == 2)
    first.close()
    # The end of one connection and the words of another reach the broker in either order.
    wait_until(asker, "mmi.stats", lambda stats: stats["queued"] == 3)
    second = peers.worker(broker, service, protocol, ready=False)
    second.ready()
    assert [second.echo_one() for _ in range(3)] == [[b"a"], [b"b"], [b"c"]]


def test_several_endpoints_are_one_broker(start_broker: StartBroker, peers: Peers, protocol: str, service: str) -> None:
    broker = start_broker(bind=["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"])
    one, two = broker.endpoints
    assert one != two
    broker.endpoint = one
    worker = peers.worker(broker, service, protocol)
    broker.endpoint = two
    client = peers.client(broker, protocol)
    client.send(service, [b"across"])
    assert worker.echo_one() == [b"across"]
    assert client.recv().body == [b"across"]


def test_stats_of_a_fresh_broker_do_not_count_the_question(start_broker: StartBroker, peers: Peers) -> None:
    client = peers.client(start_broker())
    assert ask(client, "mmi.stats")["accepted"] == ask(client, "mmi.stats")["accepted"]
    with pytest.raises(Silence):
        client.recv(timeout_ms=1)
