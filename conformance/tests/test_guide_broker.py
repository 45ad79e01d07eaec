"""Our clients and workers with a stranger's broker that follows the Guide's habits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agent_process import AgentError, AgentSpec, Unsupported, body_fields, describes
from broker_process import GUIDE_BROKER, BrokerCommand, BrokerProcess
from cells import open_client, start_worker, tick, unique
from conftest import Agents, Peers

HEARTBEAT_MS = 200
WORKER = {"heartbeat_ms": HEARTBEAT_MS, "liveness": 3, "reconnect_ms": 100}


@pytest.fixture
def guide(protocol: str) -> Iterator[BrokerProcess]:
    command = BrokerCommand(f"{GUIDE_BROKER} --protocol {protocol}")
    with BrokerProcess(command, heartbeat_ms=HEARTBEAT_MS, liveness=5) as broker:
        yield broker
        assert broker.alive, "one of our peers ended the stranger's broker"


@pytest.mark.parametrize("style", ["blocking", "async"])
def test_our_client_and_our_worker_meet_there(
    guide: BrokerProcess, agents: Agents, our_spec: AgentSpec, protocol: str, style: str
) -> None:
    service = unique("meet")
    worker_agent, agent = agents.get(our_spec, "worker"), agents.get(our_spec, "client")
    worker = start_worker(worker_agent, guide, service=service, protocol=protocol, behaviour="echo", style=style, **WORKER)
    client = open_client(agent, guide, protocol=protocol, style=style)
    for body in ([], [b""], [b"a", b"", b"c"], [bytes(100_000)]):
        assert describes(agent.do("request", client=client, service=service, **body_fields(body)), body)
    many = agent.do("request_many", client=client, service=service, count=200, concurrency=1, size=100)
    assert (many["ok"], many["mismatched"]) == (200, 0), many
    agent.do("close_client", client=client)
    assert worker_agent.do("stop_worker", worker=worker)["handled"] == 204


def test_our_client_is_served_by_their_worker(
    guide: BrokerProcess, agents: Agents, peers: Peers, our_spec: AgentSpec, protocol: str
) -> None:
    worker = peers.worker(guide, "theirs", protocol)
    agent = agents.get(our_spec, "client")
    client = open_client(agent, guide, protocol=protocol)
    request = agent.start("request", client=client, service="theirs", **body_fields([b"x", b""]))
    assert worker.echo_one() == [b"x", b""]
    assert describes(agent.finish(request)[1], [b"x", b""])
    agent.do("close_client", client=client)


def test_our_worker_serves_their_client(
    guide: BrokerProcess, agents: Agents, peers: Peers, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, guide, service="ours", protocol=protocol, behaviour="reverse", **WORKER)
    client = peers.client(guide, protocol)
    assert client.request("ours", [b"a", b"", b"c"]).body == [b"c", b"", b"a"]
    agent.do("stop_worker", worker=worker)


def test_unknown_services_of_that_broker_say_501(
    guide: BrokerProcess, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "client")
    client = open_client(agent, guide, protocol=protocol)
    reply = agent.do("request", client=client, service="mmi.protocols", **body_fields([b""]))
    assert describes(reply, [b"501"])
    agent.do("close_client", client=client)


def test_an_idle_worker_of_ours_stays_registered(
    guide: BrokerProcess, agents: Agents, peers: Peers, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, guide, service="idle", protocol=protocol, behaviour="echo", **WORKER)
    tick(guide, protocol, 8)
    client = peers.client(guide, protocol)
    assert client.request("mmi.service", [b"idle"]).body == [b"200"]
    assert client.request("idle", [b"awake"]).body == [b"awake"]
    agent.do("stop_worker", worker=worker)


def test_a_busy_worker_of_ours_bears_that_it_hears_no_heartbeat(
    guide: BrokerProcess, agents: Agents, peers: Peers, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, guide, service="long", protocol=protocol, behaviour="hold", **WORKER)
    client = peers.client(guide, protocol)
    client.send("long", [b"take your time"])
    agent.event("holding", worker=worker)
    tick(guide, protocol, 8)
    agent.do("release", worker=worker)
    assert client.recv().body == [b"take your time"]
    assert client.request("long", [b"again"]).body == [b"again"]
    assert agent.do("stop_worker", worker=worker)["handled"] == 2


def test_a_stopped_worker_of_ours_says_goodbye(agents: Agents, peers: Peers, our_spec: AgentSpec, protocol: str) -> None:
    agent = agents.get(our_spec, "worker")
    command = BrokerCommand(f"{GUIDE_BROKER} --protocol {protocol}")
    # Nobody expires within the test: only DISCONNECT can make this broker forget the worker.
    patient = {"heartbeat_ms": 60_000, "liveness": 3}
    with BrokerProcess(command, **patient) as guide:
        worker = start_worker(agent, guide, service="leaving", protocol=protocol, behaviour="echo", **patient)
        client = peers.client(guide, protocol)
        assert client.request("leaving", [b"x"]).body == [b"x"]
        agent.do("stop_worker", worker=worker)
        # The worker's farewell and the client's question come by different connections, in either order.
        answers = (client.request("mmi.service", [b"leaving"]).body for _ in range(10_000))
        assert any(answer == [b"404"] for answer in answers), "the stopped worker has not said DISCONNECT"


def test_a_stream_crosses_that_broker(agents: Agents, our_spec: AgentSpec, speaks_02: None) -> None:
    command = BrokerCommand(f"{GUIDE_BROKER} --protocol 0.2")
    worker_agent, agent = agents.get(our_spec, "worker"), agents.get(our_spec, "client")
    with BrokerProcess(command, heartbeat_ms=HEARTBEAT_MS, liveness=5) as guide:
        worker = start_worker(worker_agent, guide, service="s", protocol="0.2", behaviour="stream", **WORKER)
        client = open_client(agent, guide, protocol="0.2")
        try:
            parts, _ = agent.finish(agent.start("stream", client=client, service="s", **body_fields([b"a", b"b"])))
        except Unsupported:
            pytest.skip(f"{our_spec.language} has no blocking stream")
        for part, frame in zip(parts, [b"a", b"b", b"END"], strict=True):
            assert describes(part, [frame])
        agent.do("close_client", client=client)
        worker_agent.do("stop_worker", worker=worker)


def test_a_failed_handler_is_told_through_that_broker(
    guide: BrokerProcess, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    worker_agent, agent = agents.get(our_spec, "worker"), agents.get(our_spec, "client")
    worker = start_worker(worker_agent, guide, service="bad", protocol=protocol, behaviour="fail", code=7, text="no", **WORKER)
    client = open_client(agent, guide, protocol=protocol)
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service="bad", **body_fields([b"x"]))
    assert (caught.value.kind, caught.value.service_code, caught.value.text) == ("ServiceError", 7, "no")
    agent.do("close_client", client=client)
    worker_agent.do("stop_worker", worker=worker)


def test_our_peers_find_that_broker_again_after_its_restart(agents: Agents, our_spec: AgentSpec, protocol: str) -> None:
    command = BrokerCommand(f"{GUIDE_BROKER} --protocol {protocol}")
    worker_agent, agent = agents.get(our_spec, "worker"), agents.get(our_spec, "client")
    guide = BrokerProcess(command, heartbeat_ms=HEARTBEAT_MS, liveness=5)
    try:
        worker = start_worker(worker_agent, guide, service="back", protocol=protocol, behaviour="echo", **WORKER)
        client = open_client(
            agent, guide, protocol=protocol, timeout_ms=500, retries=60, reconnect_min_ms=50, reconnect_max_ms=200
        )
        for _ in range(2):
            assert describes(agent.do("request", client=client, service="back", **body_fields([b"x"])), [b"x"])
            guide = guide.restart()
        agent.do("close_client", client=client)
        worker_agent.do("stop_worker", worker=worker)
    finally:
        guide.kill()
