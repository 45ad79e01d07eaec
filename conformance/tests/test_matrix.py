"""Client language × worker language × protocol version, on one broker."""

from __future__ import annotations

import random

import pytest
from agent_process import Agent, AgentError, AgentSpec, Unsupported, body_fields, describes, made_frame, properties_of
from broker_process import BrokerCommand, BrokerProcess
from cells import Cells, open_client, start_worker, unique
from conftest import Agents

# The column of MDPX too.
EVERY_PROTOCOL = True
STYLES = ("blocking", "async")
ERROR_FRAME = b"MAJORDOMO-ERROR"
PROPERTIES = {"content-type": b"text/plain", "x-part": bytes(range(256)), "x-empty": b""}


@pytest.mark.parametrize("style", STYLES)
def test_echo_of_0_to_20_frames(
    cells: Cells, rng: random.Random, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str, style: str
) -> None:
    service = cells.service(worker_spec, protocol, style, "echo")
    agent, client = cells.client(client_spec, protocol, style)
    for count in range(21):
        body = [rng.randbytes(rng.choice([0, 1, 2, 33, 255, 256, 1000])) for _ in range(count)]
        reply = agent.do("request", client=client, service=service, **body_fields(body))
        assert describes(reply, body), f"{count} frames"


def test_echo_of_empty_and_telling_frames(cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str) -> None:
    service = cells.service(worker_spec, protocol, "blocking", "reverse")
    agent, client = cells.client(client_spec, protocol, "blocking")
    bodies = (
        [b""],
        [b"", b""],
        [b"", b"x", b""],
        [bytes(range(256))],
        [b"MDPC01", b"\x02", b"", b"MDPW02", b"mmi.service"],
    )
    for body in bodies:
        reply = agent.do("request", client=client, service=service, **body_fields(body))
        assert describes(reply, body[::-1])


def test_echo_of_ten_megabytes(cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str) -> None:
    service = cells.service(worker_spec, protocol, "blocking", "echo")
    agent, client = cells.client(client_spec, protocol, "blocking")
    reply = agent.do("request", client=client, service=service, frames=2, size=5_000_000, seed=7)
    assert describes(reply, [made_frame(5_000_000, 7, 0), made_frame(5_000_000, 7, 1)])


def test_a_thousand_requests_in_a_row(cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str) -> None:
    service = cells.service(worker_spec, protocol, "blocking", "echo")
    agent, client = cells.client(client_spec, protocol, "blocking")
    many = agent.do("request_many", client=client, service=service, count=1000, concurrency=1, size=100)
    assert (many["ok"], many["mismatched"], many["errors"]) == (1000, 0, 0), many


def test_a_hundred_requests_at_once(cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str) -> None:
    service = cells.service(worker_spec, protocol, "async", "echo")
    agent, client = cells.client(client_spec, protocol, "async")
    many = agent.do("request_many", client=client, service=service, count=100, concurrency=100, size=1000)
    assert (many["ok"], many["mismatched"], many["errors"]) == (100, 0, 0), many


@pytest.mark.parametrize("style", STYLES)
def test_a_stream_arrives_in_order(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str, style: str
) -> None:
    service = cells.service(worker_spec, protocol, style, "stream")
    agent, client = cells.client(client_spec, protocol, style)
    body = [b"one", b"", b"three", bytes(5000)]
    if protocol == "0.1":
        # No partials in this version: one reply with all frames, in order.
        reply = agent.do("request", client=client, service=service, **body_fields(body))
        assert describes(reply, [*body, b"END"])
        return
    # Which only MDPX has; the handler gives them to every part.
    properties = PROPERTIES if protocol == "x1" else {}
    try:
        parts, end = agent.finish(agent.start("stream", client=client, service=service, **body_fields(body, properties)))
    except Unsupported:
        pytest.skip(f"{client_spec.language} has no {style} stream")
    assert end["parts"] == len(parts) == 5
    for part, frame in zip(parts, [*body, b"END"], strict=True):
        assert describes(part, [frame])
        assert properties_of(part) == properties


@pytest.mark.our_worker
@pytest.mark.parametrize("style", STYLES)
def test_a_failed_handler_is_an_error_with_code_and_text(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str, style: str
) -> None:
    service = cells.service(worker_spec, protocol, style, "fail", code=42, text="no such file")
    agent, client = cells.client(client_spec, protocol, style)
    text = "no such file"
    if client_spec.stranger and protocol in ("0.1", "0.2"):
        reply = agent.do("request", client=client, service=service, **body_fields([b"x"]))
        assert describes(reply, [ERROR_FRAME, b"42", text.encode()])
        return
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service=service, **body_fields([b"x"]))
    assert (caught.value.kind, caught.value.number) == ("ServiceError", 8)
    assert (caught.value.service_code, caught.value.text) == (42, text)


@pytest.mark.our_worker
def test_a_handler_that_raises_is_an_error_and_the_worker_serves_on(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str
) -> None:
    service = cells.service(worker_spec, protocol, "blocking", "raise", text="it broke")
    agent, client = cells.client(client_spec, protocol, "blocking")
    for _ in range(2):
        if client_spec.stranger and protocol in ("0.1", "0.2"):
            reply = agent.do("request", client=client, service=service, **body_fields([b"x"]))
            assert reply["sizes"][0] == len(ERROR_FRAME) and len(reply["sizes"]) == 3
            continue
        with pytest.raises(AgentError) as caught:
            agent.do("request", client=client, service=service, **body_fields([b"x"]))
        assert caught.value.kind == "ServiceError"
        assert "it broke" in caught.value.text


@pytest.mark.parametrize("style", STYLES)
def test_an_unknown_service_is_a_timeout(cells: Cells, client_spec: AgentSpec, protocol: str, style: str) -> None:
    agent, client = cells.client(client_spec, protocol, style)
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service=unique("unknown"), timeout_ms=100, retries=2, **body_fields([b"x"]))
    assert (caught.value.kind, caught.value.number) == ("Timeout", 1)


def test_a_worker_killed_in_the_middle_of_a_request_is_replaced_and_answers_once(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, protocol: str
) -> None:
    service = unique("killed")
    agent, client = cells.client(client_spec, protocol, "blocking")
    body = [b"survive", b""]
    with Agent(worker_spec) as victim:
        start_worker(victim, cells.broker, service=service, protocol=protocol, behaviour="hold")
        request = agent.start("request", client=client, service=service, **body_fields(body))
        victim.event("holding", handled=1)
        victim.kill()
    successor = cells.agent_of(worker_spec, "worker")
    worker = start_worker(successor, cells.broker, service=service, protocol=protocol, behaviour="echo")
    assert describes(agent.finish(request)[1], body)
    assert successor.do("stop_worker", worker=worker)["handled"] == 1, "answered exactly once"


def test_all_pairs_find_each_other_again_after_the_broker_was_killed(
    broker_command: BrokerCommand, agents: Agents, pytestconfig: pytest.Config, protocol: str
) -> None:
    """One restart for the whole matrix: every client asks every worker, before and after, without being opened again."""
    every: list[AgentSpec] = pytestconfig.majordomo_all_specs  # type: ignore[attr-defined]
    specs = [spec for spec in every if protocol in spec.protocols]
    broker = BrokerProcess(broker_command, heartbeat_ms=300, liveness=4)
    cells = Cells(broker, agents.get)
    try:
        options = {"heartbeat_ms": 300, "reconnect_ms": 100, "liveness": 4}
        services = {s.language: cells.service(s, protocol, "blocking", "name", **options) for s in specs}
        clients = []
        for spec in specs:
            agent = agents.get(spec, "client")
            for style in STYLES:
                name = open_client(
                    agent, broker, protocol=protocol, style=style,
                    timeout_ms=1000, retries=30, reconnect_min_ms=50, reconnect_max_ms=200,
                )  # fmt: skip
                clients.append((agent, name))
        ask_all(clients, services)
        broker = broker.restart()
        ask_all(clients, services)
        for agent, name in clients:
            agent.do("close_client", client=name)
        cells.close()
    finally:
        broker.kill()


def ask_all(clients: list[tuple[Agent, str]], services: dict[str, str]) -> None:
    for service in services.values():
        started = [
            (agent, agent.start("request", client=client, service=service, **body_fields([b"?"]))) for agent, client in clients
        ]
        for agent, number in started:
            assert len(agent.finish(number)[1]["sizes"]) == 1
