"""Golden vectors: exact frames, well-formed and malformed."""

from __future__ import annotations

import pytest
from broker_process import BrokerProcess
from conftest import Peers

from peers import wire
from vectors import MALFORMED, WELL_FORMED, Vector


@pytest.mark.parametrize("vector", WELL_FORMED, ids=str)
def test_peers_write_and_read_the_golden_frames(vector: Vector) -> None:
    version = wire.VERSIONS[vector.protocol]
    command, direction = vector.fields["command"], (vector.fields["from"], vector.fields["to"])
    if direction == ("client", "broker"):
        assert version.client_to_broker(vector.field("service"), vector.body) == vector.frames
    elif direction == ("broker", "client"):
        assert version.broker_to_client(command, vector.field("service"), vector.body) == vector.frames
        assert wire.read_reply(version, vector.frames) == wire.Reply(command, vector.field("service"), vector.body)
    elif command in (wire.HEARTBEAT, wire.DISCONNECT):
        assert version.worker_to_broker(command) == vector.frames
        assert wire.read_to_worker(version, vector.frames) == wire.ToWorker(command, b"", [])
    elif command == wire.READY:
        assert version.worker_to_broker(command, vector.field("service")) == vector.frames
    else:
        assert version.worker_to_broker(command, vector.field("address"), b"", *vector.body) == vector.frames
        if command == wire.REQUEST:
            expected = wire.ToWorker(command, vector.field("address"), vector.body)
            assert wire.read_to_worker(version, vector.frames) == expected


def spoken(vector: Vector, config: pytest.Config) -> None:
    if vector.protocol not in config.getoption("--broker-protocols").split(","):
        pytest.skip(f"this broker does not speak {vector.protocol}")


@pytest.mark.parametrize("vector", [v for v in MALFORMED if v.fields["sender"] == "client"], ids=str)
def test_05_a_malformed_message_of_a_client_is_dropped(
    pytestconfig: pytest.Config, shared_broker: BrokerProcess, peers: Peers, vector: Vector
) -> None:
    spoken(vector, pytestconfig)
    client = peers.client(shared_broker, vector.protocol)
    client.send_frames(vector.frames)
    # The same client is served on, and the first thing it hears is the answer to this.
    answer = client.request("mmi.service", [b"nobody"])
    assert answer == wire.Reply(wire.FINAL, b"mmi.service", [b"404"])


@pytest.mark.parametrize("vector", [v for v in MALFORMED if v.fields["sender"] == "worker"], ids=str)
def test_05_a_malformed_message_of_a_worker_ends_that_worker_only(
    pytestconfig: pytest.Config, shared_broker: BrokerProcess, peers: Peers, vector: Vector, service: str
) -> None:
    spoken(vector, pytestconfig)
    registered = vector.fields["state"] == "registered"
    bystander = peers.worker(shared_broker, f"{service}-bystander", vector.protocol)
    worker = peers.worker(shared_broker, service, vector.protocol, ready=registered)
    worker.send_frames(vector.frames)
    if vector.fields["outcome"] == "disconnect":
        worker.recv_disconnect()
    client = peers.client(shared_broker, vector.protocol)
    assert client.request("mmi.service", [service.encode()]).body == [b"404"]
    client.send(f"{service}-bystander", [b"unharmed"])
    assert bystander.echo_one() == [b"unharmed"]
    assert client.recv().body == [b"unharmed"]


@pytest.mark.ours
@pytest.mark.parametrize("vector", [v for v in MALFORMED if v.fields["outcome"] != "drop"][:1] + MALFORMED[:1], ids=str)
def test_malformed_messages_are_counted(start_broker, peers: Peers, vector: Vector) -> None:  # type: ignore[no-untyped-def]
    from stats import ask, wait_for_stat

    broker = start_broker()
    asker = peers.client(broker)
    assert ask(asker, "mmi.stats")["malformed"] == 0
    peers.client(broker, vector.protocol).send_frames(vector.frames)
    wait_for_stat(asker, "malformed", 1)
