"""What a client and a worker of each language tell of their connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from agent_process import Agent, AgentSpec, body_fields, describes
from broker_process import BrokerProcess
from cells import open_client, start_worker, unique
from conftest import Agents

from peers.x1 import X1Worker

StartBroker = Callable[..., BrokerProcess]
STYLES = ("blocking", "async")
FAST = {"heartbeat_ms": 300, "liveness": 3}
PATIENT_CLIENT = {"timeout_ms": 1000, "retries": 60, "reconnect_min_ms": 50, "reconnect_max_ms": 200}
WORKER = {"heartbeat_ms": 200, "liveness": 5, "reconnect_ms": 100}


def expect(agent: Agent, broker: BrokerProcess, role: str, name: str, *events: str, protocol: str = "x1") -> None:
    """The next events of the connection are these, in this order."""
    for event in events:
        happened = agent.event("connection", **{role: name})
        assert happened["name"] == event, happened
        if event != "draining":
            assert happened["endpoint"] == broker.endpoint
        if event == "connected":
            assert happened["protocol"] == protocol
        if event == "disconnected":
            assert happened["reason"]


@pytest.mark.ours
@pytest.mark.parametrize("style", STYLES)
def test_a_client_tells_that_its_broker_is_there_and_gone_and_there_again(
    start_broker: StartBroker, agents: Agents, our_spec: AgentSpec, style: str
) -> None:
    broker = start_broker(**FAST)
    agent = agents.get(our_spec, "client")
    client = open_client(agent, broker, protocol="x1", style=style, events=True, **PATIENT_CLIENT)
    service = unique("events")
    request = agent.start("request", client=client, service=service, **body_fields([b"x"]))
    expect(agent, broker, "client", client, "connected")
    with broker.restart() as broker:
        expect(agent, broker, "client", client, "disconnected", "reconnecting")
        while (again := agent.event("connection", client=client))["name"] != "connected":
            assert again["name"] in ("disconnected", "reconnecting"), again
        with X1Worker(broker.endpoint, service) as worker:
            assert isinstance(worker, X1Worker)
            assert worker.echo_one() == [b"x"]
            assert describes(agent.finish(request)[1], [b"x"])
        agent.do("close_client", client=client)


@pytest.mark.ours
@pytest.mark.parametrize("style", STYLES)
def test_a_worker_tells_that_its_broker_is_there_and_gone_and_there_again_and_that_it_drains(
    start_broker: StartBroker, agents: Agents, our_spec: AgentSpec, style: str
) -> None:
    broker = start_broker(**FAST)
    agent = agents.get(our_spec, "worker")
    worker = start_worker(
        agent, broker, service="s", protocol="x1", style=style, behaviour="echo", events=True, **WORKER
    )  # fmt: skip
    expect(agent, broker, "worker", worker, "connected")
    with broker.restart() as broker:
        expect(agent, broker, "worker", worker, "disconnected", "reconnecting")
        while (again := agent.event("connection", worker=worker))["name"] != "connected":
            assert again["name"] in ("disconnected", "reconnecting"), again
        agent.do("stop_worker", worker=worker)
        expect(agent, broker, "worker", worker, "draining")


@pytest.mark.parametrize("style", STYLES)
def test_the_older_protocols_have_the_same_events(
    start_broker: StartBroker, agents: Agents, our_spec: AgentSpec, protocol: str, style: str
) -> None:
    broker = start_broker(**FAST)
    workers, clients = agents.get(our_spec, "worker"), agents.get(our_spec, "client")
    worker = start_worker(
        workers, broker, service="s", protocol=protocol, style=style, behaviour="echo", events=True, **WORKER
    )  # fmt: skip
    client = open_client(clients, broker, protocol=protocol, style=style, events=True, **PATIENT_CLIENT)
    assert describes(clients.do("request", client=client, service="s", **body_fields([b"x"])), [b"x"])
    expect(clients, broker, "client", client, "connected", protocol=protocol)
    expect(workers, broker, "worker", worker, "connected", protocol=protocol)
    with broker.restart() as broker:
        expect(workers, broker, "worker", worker, "disconnected", "reconnecting", protocol=protocol)
        assert describes(clients.do("request", client=client, service="s", **body_fields([b"y"])), [b"y"])
        workers.do("stop_worker", worker=worker)
        while (happened := workers.event("connection", worker=worker))["name"] != "draining":
            assert happened["name"] in ("connected", "disconnected", "reconnecting"), happened
        clients.do("close_client", client=client)
