"""Services that the broker answers itself (8/MMI, and ours beside it)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from broker_process import BrokerProcess
from conftest import Peers
from stats import ask, service_entry, wait_for_stat, wait_until

STATS = {
    "uptime_seconds",
    "services",
    "workers",
    "queued",
    "queued_bytes",
    "in_flight",
    "accepted",
    "answered",
    "redelivered",
    "expired",
    "refused",
    "exhausted",
    "malformed",
    "stray_replies",
    "undeliverable",
    "workers_lost",
    "protocols",
    "version",
}


def test_service_says_200_with_a_worker_and_404_without(
    shared_broker: BrokerProcess, peers: Peers, protocol: str, service: str
) -> None:
    client = peers.client(shared_broker, protocol)
    assert client.request("mmi.service", [service.encode()]).body == [b"404"]
    worker = peers.worker(shared_broker, service, protocol)
    assert client.request("mmi.service", [service.encode()]).body == [b"200"]
    client.send(service, [b"busy"])
    worker.recv_request()
    assert client.request("mmi.service", [service.encode()]).body == [b"200"], "a busy worker serves too"
    worker.disconnect()
    while client.request("mmi.service", [service.encode()]).body != [b"404"]:
        pass


def test_the_answer_names_the_service_that_was_asked(shared_broker: BrokerProcess, peers: Peers, protocol: str) -> None:
    assert peers.client(shared_broker, protocol).request("mmi.service", [b"x"]).service == b"mmi.service"


@pytest.mark.parametrize("name", ["mmi.unknown", "mmi.", "mmi.serviceX", "mmi.Service"])
def test_unknown_services_of_the_broker_say_501(shared_broker: BrokerProcess, peers: Peers, protocol: str, name: str) -> None:
    assert peers.client(shared_broker, protocol).request(name, [b"x"]).body == [b"501"]


@pytest.mark.parametrize("body", [[], [b""], [b"a", b"b"], [b"\xff\x00"]], ids=repr)
def test_service_survives_odd_questions(shared_broker: BrokerProcess, peers: Peers, protocol: str, body: list[bytes]) -> None:
    client = peers.client(shared_broker, protocol)
    assert client.request("mmi.service", body).body == [b"404"]
    assert client.request("mmi.service", [b"x"]).body == [b"404"]


@pytest.mark.ours
def test_protocols_names_what_the_broker_speaks(shared_broker: BrokerProcess, peers: Peers, protocol: str) -> None:
    answer = peers.client(shared_broker, protocol).request("mmi.protocols", [b""])
    assert answer.body == [b"200", b"0.1", b"0.2", b"x1"]


@pytest.mark.ours
def test_services_lists_workers_and_waiting_requests(broker: BrokerProcess, peers: Peers, protocol: str) -> None:
    client = peers.client(broker, protocol)
    assert ask(client, "mmi.services") == []
    busy = peers.worker(broker, "served", protocol)
    peers.client(broker, protocol).send("served", [b"work"])
    busy.recv_request()
    waiting = peers.client(broker, protocol)
    waiting.send("unserved", [b"12345", b"678"])
    waiting.send("unserved", [b"9"])
    report = wait_until(client, "mmi.services", lambda r: service_entry(r, "unserved").get("queued") == 2 and len(r) == 2)
    served, unserved = service_entry(report, "served"), service_entry(report, "unserved")
    assert served == {"name": "served", "workers": 1, "idle": 0, "queued": 0, "queued_bytes": 0, "in_flight": 1}
    assert {**unserved, "queued_bytes": 0} == {
        "name": "unserved", "workers": 0, "idle": 0, "queued": 2, "queued_bytes": 0, "in_flight": 0,
    }  # fmt: skip
    assert unserved["queued_bytes"] >= 9


@pytest.mark.ours
def test_workers_lists_each_worker(broker: BrokerProcess, peers: Peers, protocol: str) -> None:
    client = peers.client(broker, protocol)
    assert ask(client, "mmi.workers") == []
    worker = peers.worker(broker, "echo", protocol)
    (entry,) = ask(client, "mmi.workers")
    assert set(entry) >= {"id", "service", "protocol", "state", "in_flight", "silent_ms"}
    assert bytes.fromhex(entry["id"]) != b""
    assert (entry["service"], entry["protocol"], entry["state"], entry["in_flight"]) == ("echo", protocol, "idle", 0)
    client.send("echo", [b"x"])
    request = worker.recv_request()
    (entry,) = ask(client, "mmi.workers")
    assert (entry["state"], entry["in_flight"]) == ("busy", 1)
    worker.reply(request.address, [b"y"])
    client.recv()
    (entry,) = ask(client, "mmi.workers")
    assert entry["state"] == "idle"


@pytest.mark.ours
def test_stats_count_what_happens(broker: BrokerProcess, peers: Peers, protocol: str) -> None:
    client = peers.client(broker, protocol)
    stats = ask(client, "mmi.stats")
    assert set(stats) >= STATS
    assert stats["protocols"] == ["0.1", "0.2", "x1"]
    assert isinstance(stats["version"], str) and stats["version"]
    counters = ("services", "workers", "queued", "in_flight", "answered", "redelivered", "expired", "malformed")
    assert {name: stats[name] for name in counters} == dict.fromkeys(counters, 0)
    first = peers.worker(broker, "echo", protocol)
    client.send("echo", [b"x"])
    first.recv_request()
    stats = ask(peers.client(broker, protocol), "mmi.stats")
    assert (stats["workers"], stats["services"], stats["in_flight"]) == (1, 1, 1)
    first.close()
    second = peers.worker(broker, "echo", protocol, ready=False)
    second.ready()
    second.echo_one()
    client.recv()
    stats = wait_for_stat(client, "answered", 1)
    assert (stats["redelivered"], stats["workers_lost"], stats["in_flight"]) == (1, 1, 0)


@pytest.mark.ours
def test_an_answer_that_nobody_waits_for_is_counted(broker: BrokerProcess, peers: Peers, protocol: str) -> None:
    worker = peers.worker(broker, "echo", protocol)
    client = peers.client(broker, protocol)
    client.send("echo", [b"x"])
    request = worker.recv_request()
    worker.reply(request.address, [b"once"])
    worker.reply(request.address, [b"twice"])
    assert client.recv().body == [b"once"]
    wait_for_stat(client, "stray_replies", 1)


@pytest.mark.ours
def test_counters_return_to_zero(start_broker: Callable[..., BrokerProcess], peers: Peers, protocol: str) -> None:
    """Services without workers and requests leave no trace."""
    broker = start_broker()
    client = peers.client(broker, protocol)
    for number in range(20):
        worker = peers.worker(broker, f"service-{number}", protocol)
        client.send(f"service-{number}", [b"x"])
        worker.echo_one()
        client.recv()
        worker.leave()
    stats = wait_until(client, "mmi.stats", lambda s: s["workers"] == 0)
    assert (stats["services"], stats["queued"], stats["queued_bytes"], stats["in_flight"]) == (0, 0, 0, 0)
    assert ask(client, "mmi.services") == [] and ask(client, "mmi.workers") == []
