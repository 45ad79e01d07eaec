"""Peers of unequal versions on one broker: the older side gets what it can express."""

from __future__ import annotations

import itertools

import pytest
from agent_process import AgentError, AgentSpec, body_fields, describes
from broker_process import BrokerProcess
from cells import Cells
from conftest import KNOWN, Peers

from peers import wire

pytestmark = [pytest.mark.usefixtures("speaks_01"), pytest.mark.usefixtures("speaks_02")]
MIXED = [("0.1", "0.2"), ("0.2", "0.1")]
UNEQUAL = pytest.mark.parametrize("client_protocol, worker_protocol", list(itertools.permutations(KNOWN, 2)))
STYLES = ("blocking", "async")


@pytest.mark.parametrize("client_protocol, worker_protocol", MIXED)
@pytest.mark.parametrize("body", [[], [b""], [b"hello"], [b"\x00" * 7, b"", b"\xff"]], ids=len)
def test_request_and_reply_cross_the_versions(
    shared_broker: BrokerProcess,
    peers: Peers,
    service: str,
    client_protocol: str,
    worker_protocol: str,
    body: list[bytes],
) -> None:
    worker = peers.worker(shared_broker, service, worker_protocol)
    client = peers.client(shared_broker, client_protocol)
    client.send(service, body)
    assert worker.echo_one() == body
    assert client.recv() == wire.Reply(wire.FINAL, service.encode(), body)


def test_an_older_client_gets_the_frames_of_all_partials_in_one_reply(
    shared_broker: BrokerProcess, peers: Peers, service: str
) -> None:
    worker = peers.worker(shared_broker, service, "0.2")
    client = peers.client(shared_broker, "0.1")
    client.send(service, [b"go"])
    address = worker.recv_request().address
    worker.partial(address, [b"a", b"b"])
    worker.partial(address, [])
    worker.partial(address, [b""])
    worker.reply(address, [b"c"])
    assert client.recv().body == [b"a", b"b", b"", b"c"]


@pytest.mark.ours
def test_an_older_clients_stream_is_begun_again_by_another_worker(
    shared_broker: BrokerProcess, peers: Peers, service: str
) -> None:
    """Nothing of it was seen, so what the lost worker sent is forgotten."""
    first = peers.worker(shared_broker, service, "0.2")
    client = peers.client(shared_broker, "0.1")
    client.send(service, [b"go"])
    first.partial(first.recv_request().address, [b"lost"])
    first.leave()
    second = peers.worker(shared_broker, service, "0.2", ready=False)
    second.ready()
    address = second.recv_request().address
    second.partial(address, [b"a"])
    second.reply(address, [b"b"])
    assert client.recv().body == [b"a", b"b"]


def test_workers_of_both_versions_share_a_service(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    client = peers.client(shared_broker, "0.1")
    older = peers.worker(shared_broker, service, "0.1")
    client.send(service, [b"hold"])
    held = older.recv_request()
    newer = peers.worker(shared_broker, service, "0.2", ready=False)
    newer.ready()
    client.send(service, [b"for the newer"])
    assert newer.echo_one() == [b"for the newer"]
    older.reply(held.address, [b"held"])
    assert {client.recv().body[0] for _ in range(2)} == {b"for the newer", b"held"}


@pytest.mark.parametrize("first_protocol, second_protocol", MIXED)
def test_a_lost_workers_request_goes_to_a_worker_of_the_other_version(
    shared_broker: BrokerProcess, peers: Peers, service: str, first_protocol: str, second_protocol: str
) -> None:
    first = peers.worker(shared_broker, service, first_protocol)
    client = peers.client(shared_broker, first_protocol)
    client.send(service, [b"work"])
    first.recv_request()
    first.leave()
    second = peers.worker(shared_broker, service, second_protocol, ready=False)
    second.ready()
    assert second.echo_one() == [b"work"]
    assert client.recv().body == [b"work"]


def test_mmi_service_knows_workers_of_both_versions(shared_broker: BrokerProcess, peers: Peers, service: str) -> None:
    peers.worker(shared_broker, service, "0.2")
    assert peers.client(shared_broker, "0.1").request("mmi.service", [service.encode()]).body == [b"200"]


@pytest.mark.ours
@pytest.mark.our_peers
@pytest.mark.each_once
@UNEQUAL
@pytest.mark.parametrize("style", STYLES)
def test_echo_crosses_the_versions_in_every_language(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, client_protocol: str, worker_protocol: str, style: str
) -> None:
    service = cells.service(worker_spec, worker_protocol, style, "echo")
    agent, client = cells.client(client_spec, client_protocol, style)
    for body in ([], [b""], [b"", b"x", b""], [b"MDPC01", bytes(range(256))], [bytes(100_000)]):
        assert describes(agent.do("request", client=client, service=service, **body_fields(body)), body)


@pytest.mark.ours
@pytest.mark.our_peers
@pytest.mark.each_once
@UNEQUAL
@pytest.mark.parametrize("style", STYLES)
def test_a_stream_crosses_the_versions_in_parts_where_both_have_them(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, client_protocol: str, worker_protocol: str, style: str
) -> None:
    service = cells.service(worker_spec, worker_protocol, style, "stream")
    agent, client = cells.client(client_spec, client_protocol, style)
    frames = [b"one", b"", bytes(5000), b"END"]
    parts, end = agent.finish(agent.start("stream", client=client, service=service, **body_fields(frames[:-1])))
    # With 0.1 on either side, all of it is one reply.
    expected = [frames] if "0.1" in (client_protocol, worker_protocol) else [[frame] for frame in frames]
    assert end["parts"] == len(parts) == len(expected)
    assert all(describes(part, body) for part, body in zip(parts, expected, strict=True))


@pytest.mark.ours
@pytest.mark.our_peers
@pytest.mark.each_once
@UNEQUAL
@pytest.mark.parametrize("style", STYLES)
def test_a_failure_crosses_the_versions_with_code_and_text(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, client_protocol: str, worker_protocol: str, style: str
) -> None:
    service = cells.service(worker_spec, worker_protocol, style, "fail", code=42, text="no such file")
    agent, client = cells.client(client_spec, client_protocol, style)
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service=service, **body_fields([b"x"]))
    assert (caught.value.kind, caught.value.number, caught.value.retryable) == ("ServiceError", 8, False)
    assert (caught.value.service_code, caught.value.text) == (42, "no such file")
