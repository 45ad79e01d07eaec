"""What the broker refuses or gives up, and that there is none, arrives in each language as what it is."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from agent_process import Agent, AgentError, AgentSpec, body_fields, describes
from broker_process import BrokerProcess
from cells import Cells, open_client, unique
from conftest import Agents

from peers.x1 import X1Worker

StartBroker = Callable[..., BrokerProcess]
STYLES = ("blocking", "async")


def failure(agent: Agent, **request: object) -> tuple[str, int, bool]:
    """The kind of error that a request ends with, its number, and whether it may be sent again."""
    with pytest.raises(AgentError) as caught:
        agent.do("request", **request)
    return caught.value.kind, caught.value.number, caught.value.retryable


@pytest.mark.mdpx
@pytest.mark.parametrize("style", STYLES)
def test_a_request_that_the_broker_kept_for_as_long_as_it_may_has_expired(
    start_broker: StartBroker, agents: Agents, client_spec: AgentSpec, style: str
) -> None:
    agent = agents.get(client_spec, "client")
    broker = start_broker(request_ttl_ms=50)
    client = open_client(agent, broker, protocol="x1", style=style)
    request = {"client": client, "service": "nobody", **body_fields([b"x"])}
    assert failure(agent, **request) == ("Expired", 4, True), "and not a timeout: the caller would have waited"
    agent.do("close_client", client=client)


@pytest.mark.mdpx
@pytest.mark.parametrize("style", STYLES)
def test_a_request_whose_workers_were_lost_at_every_attempt_has_exhausted_them(
    cells: Cells, client_spec: AgentSpec, style: str
) -> None:
    service = unique("deadly")
    agent, client = cells.client(client_spec, "x1", style)
    request = agent.start("request", client=client, service=service, max_attempts=2, **body_fields([b"x"]))
    for attempt in (1, 2):
        with X1Worker(cells.broker.endpoint, service) as worker:
            assert isinstance(worker, X1Worker)
            assert worker.recv_request().attempt == attempt
    with pytest.raises(AgentError) as caught:
        agent.finish(request)
    assert (caught.value.kind, caught.value.number, caught.value.retryable) == ("AttemptsExhausted", 6, True)


@pytest.mark.mdpx
@pytest.mark.parametrize("style", STYLES)
def test_a_request_of_more_bytes_than_the_broker_takes_is_too_large_and_the_client_asks_on(
    start_broker: StartBroker, agents: Agents, client_spec: AgentSpec, style: str
) -> None:
    agent = agents.get(client_spec, "client")
    broker = start_broker(max_message_bytes=100_000)
    client = open_client(agent, broker, protocol="x1", style=style)
    with X1Worker(broker.endpoint, "echo") as worker:
        assert isinstance(worker, X1Worker)
        for number in range(2):
            assert failure(agent, client=client, service="echo", frames=2, size=60_000) == ("TooLarge", 14, False)
            request = agent.start("request", client=client, service="echo", **body_fields([b"%d" % number]))
            assert worker.echo_one() == [b"%d" % number], "the large one came through"
            assert describes(agent.finish(request)[1], [b"%d" % number])
    agent.do("close_client", client=client)


@pytest.mark.parametrize("protocol", ["0.1", "x1", "auto"])
@pytest.mark.parametrize("style", STYLES)
def test_where_nobody_listens_a_broker_is_unreachable(agents: Agents, our_spec: AgentSpec, protocol: str, style: str) -> None:
    agent = agents.get(our_spec, "client")
    with socket.socket() as bound:
        # Nobody else gets the port, and nobody listens on it.
        bound.bind(("127.0.0.1", 0))
        nowhere = SimpleNamespace(endpoint=f"tcp://127.0.0.1:{bound.getsockname()[1]}")
        client = open_client(agent, nowhere, protocol=protocol, style=style, timeout_ms=50)
        request = {"client": client, "service": "nobody", **body_fields([b"x"])}
        assert failure(agent, **request) == ("BrokerUnreachable", 9, True)
        agent.do("close_client", client=client)
