"""Defects of earlier workers and clients, checked against ours by a broker that does only what the test says.

The number in each name is that of the list of known defects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from agent_process import Agent, AgentError, AgentSpec, body_fields, describes
from broker_process import BrokerProcess
from cells import open_client, start_worker, tick, unique
from conftest import Agents, Peers

from peers import wire
from peers.raw_broker import RawBroker

BEAT = {"heartbeat_ms": 200, "liveness": 3, "reconnect_ms": 200}


@pytest.fixture
def scripted(protocol: str) -> Iterator[RawBroker]:
    with RawBroker(protocol) as broker:
        yield broker


@pytest.mark.parametrize("style", ["blocking", "async"])
def test_14_heartbeats_go_out_while_the_handler_waits(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str, style: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="hold", style=style, **BEAT)
    peer = scripted.recv_command(wire.READY).peer
    scripted.request(peer, [b"x"])
    agent.event("holding", worker=worker)
    for _ in range(5):
        assert scripted.recv_command(wire.HEARTBEAT, passing_over=()).peer == peer
        scripted.to_worker(peer, wire.HEARTBEAT)
    agent.do("release", worker=worker)
    assert scripted.recv_command(wire.FINAL).body == (b"x",)
    agent.do("stop_worker", worker=worker)


def test_14_heartbeats_go_out_while_the_handler_computes(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="spin", spin_ms=1500, **BEAT)
    peer = scripted.recv_command(wire.READY).peer
    scripted.request(peer, [b"x"])
    beats = 0
    while (message := scripted.recv()).command == wire.HEARTBEAT:
        beats += 1
        scripted.to_worker(peer, wire.HEARTBEAT)
    assert message.command == wire.FINAL
    assert beats >= 3, f"{beats} heartbeats in seven intervals of computing"
    agent.do("stop_worker", worker=worker)


def test_two_hasty_beats_of_the_broker_do_not_start_a_storm(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    """A worker may follow its broker's pace, but has to find back to its own after a stall delivered two beats together."""
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="echo", **BEAT)
    hasty = scripted.recv_command(wire.READY).peer
    clock_worker = start_worker(agent, scripted, service="clock", protocol=protocol, behaviour="echo", **BEAT)
    clock = scripted.recv_command(wire.READY).peer
    scripted.to_worker(hasty, wire.HEARTBEAT)
    scripted.to_worker(hasty, wire.HEARTBEAT)
    beats = {hasty: 0, clock: 0}
    while beats[clock] < 5:
        peer = scripted.recv_command(wire.HEARTBEAT, passing_over=()).peer
        beats[peer] += 1
        scripted.to_worker(peer, wire.HEARTBEAT)
    assert beats[hasty] <= 4 * beats[clock], f"{beats[hasty]} beats in {beats[clock]} intervals"
    for name in (worker, clock_worker):
        agent.do("stop_worker", worker=name)


def test_15_a_worker_registers_again_when_the_broker_falls_silent(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="echo", **BEAT)
    first = scripted.recv_command(wire.READY).peer
    # Not a word from the broker. The worker gives this connection up and comes back on another.
    second = scripted.recv_command(wire.READY, passing_over=(wire.HEARTBEAT, wire.DISCONNECT)).peer
    assert second != first
    scripted.request(second, [b"x"])
    assert scripted.recv_command(wire.FINAL).body == (b"x",)
    agent.do("stop_worker", worker=worker)


def test_15_a_worker_told_to_disconnect_comes_back_on_a_new_connection(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="echo", **BEAT)
    first = scripted.recv_command(wire.READY).peer
    scripted.to_worker(first, wire.DISCONNECT)
    second = scripted.recv_command(wire.READY).peer
    assert second != first
    agent.do("stop_worker", worker=worker)


def test_15_a_worker_can_be_stopped_while_it_waits_to_reconnect(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(
        agent, scripted, service="s", protocol=protocol, behaviour="echo",
        heartbeat_ms=100, liveness=2, reconnect_ms=600_000,
    )  # fmt: skip
    peer = scripted.recv_command(wire.READY).peer
    scripted.to_worker(peer, wire.DISCONNECT)
    # The pause is ten minutes: this ends only if the worker is not deaf during it.
    agent.do("stop_worker", worker=worker)


def test_16_requests_are_a_sign_of_life(scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="echo", **BEAT)
    peer = scripted.recv_command(wire.READY).peer
    # No HEARTBEAT of the broker for three times the worker's patience, but a request in each of its intervals.
    for _ in range(9):
        scripted.request(peer, [b"x"])
        answer = scripted.recv_command(wire.FINAL)
        assert answer.peer == peer, "the worker gave up a broker that was talking to it"
        scripted.try_recv(100)
    agent.do("stop_worker", worker=worker)


def test_17_a_stopped_worker_says_disconnect(scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="echo", **BEAT)
    peer = scripted.recv_command(wire.READY).peer
    stopping = agent.start("stop_worker", worker=worker)
    assert scripted.recv_command(wire.DISCONNECT).peer == peer
    agent.finish(stopping)


def test_17_a_stopped_worker_answers_what_it_holds_first(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="hold", drain_timeout_ms=60_000, **BEAT)
    peer = scripted.recv_command(wire.READY).peer
    scripted.request(peer, [b"x"])
    agent.event("holding", worker=worker)
    stopping = agent.start("stop_worker", worker=worker)
    agent.do("release", worker=worker)
    assert scripted.recv_command(wire.FINAL).body == (b"x",)
    assert scripted.recv_command(wire.DISCONNECT).peer == peer
    agent.finish(stopping)


def test_the_client_address_comes_back_untouched(scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="echo", **BEAT)
    peer = scripted.recv_command(wire.READY).peer
    for address in (b"a", b"\x00\x01\x02\x03\x04", bytes(range(255)), b"\xff" * 16):
        scripted.request(peer, [b"x"], address)
        assert scripted.recv_command(wire.FINAL).address == address
    agent.do("stop_worker", worker=worker)


def test_a_worker_survives_nonsense_from_its_broker(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, scripted, service="s", protocol=protocol, behaviour="echo", **BEAT)
    lead, header = list(scripted.version.lead), scripted.version.worker
    nonsense = ([b""], [b"noise"], [*lead, header], [*lead, header, b"\x7f"], [*lead, header, b"\x02"],
                [*lead, header, b"\x02", b"a", b"b"], [*lead, b"MDPW99", b"\x02", b"a", b"", b"x"])  # fmt: skip
    peer = scripted.recv_command(wire.READY).peer
    for frames in nonsense:
        scripted.send_frames(peer, frames)
        scripted.request(peer, [b"still there"])
        # The worker may also take such a broker for none, and come back on a new connection.
        message = scripted.recv()
        while message.command in (wire.HEARTBEAT, wire.DISCONNECT):
            message = scripted.recv()
        if message.command == wire.READY:
            peer = message.peer
            scripted.request(peer, [b"still there"])
            message = scripted.recv_command(wire.FINAL)
        assert message.body == (b"still there",)
    agent.do("stop_worker", worker=worker)


def test_18_the_deadline_bounds_all_attempts_together(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "client")
    client = open_client(agent, scripted, protocol=protocol)
    # Ten minutes of attempts, and a deadline that ends them; the driver's own patience is a minute.
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service="s", timeout_ms=200, retries=3000, deadline_ms=700, **body_fields([b"x"]))
    assert caught.value.kind == "Timeout"
    agent.do("close_client", client=client)


def test_18_each_retry_is_a_request_on_a_fresh_connection(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "client")
    client = open_client(agent, scripted, protocol=protocol)
    request = agent.start("request", client=client, service="s", timeout_ms=300, retries=3, **body_fields([b"x"]))
    attempts = [scripted.recv() for _ in range(3)]
    assert len({attempt.peer for attempt in attempts}) == 3
    assert {(a.command, a.service, a.body) for a in attempts} == {(wire.REQUEST, b"s", (b"x",))}
    with pytest.raises(AgentError) as caught:
        agent.finish(request)
    assert caught.value.kind == "Timeout"
    assert scripted.try_recv(0) is None, "retries are all sends together"
    agent.do("close_client", client=client)


def test_18_a_late_answer_to_an_earlier_attempt_reaches_nobody(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "client")
    client = open_client(agent, scripted, protocol=protocol)
    with pytest.raises(AgentError):
        agent.do("request", client=client, service="s", timeout_ms=200, retries=1, **body_fields([b"old"]))
    old = scripted.recv()
    request = agent.start("request", client=client, service="s", timeout_ms=20_000, **body_fields([b"new"]))
    new = scripted.recv()
    assert new.body == (b"new",)
    if old.peer != new.peer:
        # The old connection is gone; on the way there this falls on the floor.
        scripted.answer(old.peer, b"s", [b"late"])
    scripted.answer(new.peer, b"s", [b"right"])
    assert old.peer != new.peer, "a connection with an open answer was used again"
    assert describes(agent.finish(request)[1], [b"right"])
    agent.do("close_client", client=client)


def test_18_nonsense_and_answers_of_other_services_do_not_abort_the_client(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    agent = agents.get(our_spec, "client")
    client = open_client(agent, scripted, protocol=protocol)
    lead, header = list(scripted.version.lead), scripted.version.client
    for frames in ([b""], [b"noise"], [*lead, header], [*lead, b"MDPC99", b"s", b"x"]):
        request = agent.start("request", client=client, service="s", timeout_ms=1000, retries=5, **body_fields([b"x"]))
        peer = scripted.recv().peer
        scripted.send_frames(peer, frames)
        scripted.answer(peer, b"another-service", [b"wrong"])
        scripted.answer(peer, b"s", [b"right"])
        reply = _answering(scripted, agent, request)
        assert describes(reply, [b"right"])
    agent.do("close_client", client=client)


def _answering(scripted: RawBroker, agent: Agent, request: int) -> dict[str, Any]:
    """Answers every further attempt rightly while the request goes on: a client may drop a connection that talks nonsense."""
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(agent.finish, request)
        while not outcome.done():
            if message := scripted.try_recv(20):
                scripted.answer(message.peer, b"s", [b"right"])
        return outcome.result()[1]


def test_19_each_of_many_answers_reaches_its_own_caller(
    scripted: RawBroker, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    """Answers in the reverse order of the requests."""
    agent = agents.get(our_spec, "client")
    client = open_client(agent, scripted, protocol=protocol, style="async", max_in_flight=16)
    bodies = [[b"%d" % number] for number in range(16)]
    started = [agent.start("request", client=client, service="s", **body_fields(body)) for body in bodies]
    requests = [scripted.recv() for _ in bodies]
    assert len({request.peer for request in requests}) == 16, "one request at a time on each connection"
    for request in reversed(requests):
        scripted.answer(request.peer, b"s", list(request.body))
    for number, body in zip(started, bodies, strict=True):
        assert describes(agent.finish(number)[1], body)
    agent.do("close_client", client=client)


def test_20_a_worker_that_beats_slower_than_the_broker_expects_still_serves(
    start_broker: Callable[..., BrokerProcess], peers: Peers, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    broker = start_broker(heartbeat_ms=150, liveness=3)
    agent = agents.get(our_spec, "worker")
    service = unique("slow-beat")
    worker = start_worker(
        agent, broker, service=service, protocol=protocol, behaviour="echo",
        heartbeat_ms=2500, liveness=3, reconnect_ms=100,
    )  # fmt: skip
    client = peers.client(broker, protocol)
    for number in range(3):
        assert client.request(service, [b"%d" % number]).body == [b"%d" % number]
        tick(broker, protocol, 5)
    agent.do("stop_worker", worker=worker)
