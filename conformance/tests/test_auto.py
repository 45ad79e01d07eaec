"""Peers that are told nothing of their broker's protocol find it out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agent_process import AgentSpec, body_fields, describes
from broker_process import GUIDE_BROKER, BrokerCommand, BrokerProcess
from cells import open_client, start_worker, unique
from conftest import Agents

STYLES = ("blocking", "async")
WORKER = {"heartbeat_ms": 500, "liveness": 3, "reconnect_ms": 100}
BROKER = {"heartbeat_ms": 500, "liveness": 5}


@pytest.fixture(scope="module")
def brokers(broker_command: BrokerCommand) -> Iterator[dict[str, BrokerProcess]]:
    """By the best protocol that each knows: ours, and strangers' of the Guide's habits."""
    running = {"x1": BrokerProcess(broker_command, **BROKER)}
    for protocol in ("0.1", "0.2"):
        running[protocol] = BrokerProcess(BrokerCommand(f"{GUIDE_BROKER} --protocol {protocol}"), **BROKER)
    yield running
    alive = {name: process.alive for name, process in running.items()}
    for process in running.values():
        process.kill()
    assert all(alive.values()), f"one of our peers ended a broker: {alive}"


@pytest.mark.mdpx
@pytest.mark.each_once
@pytest.mark.parametrize("spoken", ["x1", "0.1", "0.2"])
@pytest.mark.parametrize("style", STYLES)
def test_client_and_worker_find_out_what_their_broker_speaks(
    brokers: dict[str, BrokerProcess], agents: Agents, client_spec: AgentSpec, worker_spec: AgentSpec, spoken: str, style: str
) -> None:
    broker, service = brokers[spoken], unique("auto")
    workers, clients = agents.get(worker_spec, "worker"), agents.get(client_spec, "client")
    worker = start_worker(
        workers, broker, service=service, protocol="auto", style=style, behaviour="echo", events=True, **WORKER
    )  # fmt: skip
    client = open_client(clients, broker, protocol="auto", style=style, events=True)
    for body in ([], [b""], [b"a", b"", b"c"], [bytes(100_000)]):
        assert describes(clients.do("request", client=client, service=service, **body_fields(body)), body)
    many = clients.do("request_many", client=client, service=service, count=50, concurrency=1, size=100)
    assert (many["ok"], many["mismatched"]) == (50, 0), many
    for agent, spec, role, name in ((clients, client_spec, "client", client), (workers, worker_spec, "worker", worker)):
        if not spec.stranger:
            assert agent.event("connection", **{role: name, "name": "connected"})["protocol"] == spoken
    clients.do("close_client", client=client)
    assert workers.do("stop_worker", worker=worker)["handled"] == 54


@pytest.mark.ours
@pytest.mark.parametrize("style", STYLES)
def test_peers_ask_again_when_a_broker_of_another_protocol_has_taken_the_place_of_theirs(
    broker_command: BrokerCommand, agents: Agents, our_spec: AgentSpec, style: str
) -> None:
    workers, clients = agents.get(our_spec, "worker"), agents.get(our_spec, "client")
    guides = {protocol: BrokerCommand(f"{GUIDE_BROKER} --protocol {protocol}") for protocol in ("0.1", "0.2")}
    broker = BrokerProcess(broker_command, **BROKER)
    try:
        worker = start_worker(workers, broker, service="s", protocol="auto", style=style, behaviour="echo", **WORKER)
        client = open_client(
            clients, broker, protocol="auto", style=style,
            timeout_ms=1000, retries=60, reconnect_min_ms=50, reconnect_max_ms=200,
        )  # fmt: skip
        for successor in (guides["0.1"], guides["0.2"], guides["0.1"], broker_command, guides["0.2"]):
            assert describes(clients.do("request", client=client, service="s", **body_fields([b"x"])), [b"x"])
            assert broker.alive, "one of our peers ended it"
            broker.kill()
            broker = BrokerProcess(successor, bind=broker.endpoints, **BROKER)
        assert describes(clients.do("request", client=client, service="s", **body_fields([b"x"])), [b"x"])
        assert broker.alive, "one of our peers ended it"
        clients.do("close_client", client=client)
        workers.do("stop_worker", worker=worker)
    finally:
        broker.kill()
