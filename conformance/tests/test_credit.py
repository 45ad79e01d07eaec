"""Nobody holds more than it may: a worker its capacity, a client the broker's credit."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
from agent_process import AgentError, AgentSpec, body_fields, describes
from cells import Cells, open_client, start_worker, unique
from conftest import KNOWN, Agents

from peers.lines import Body
from peers.x1 import Message, X1Worker
from peers.x1_broker import X1Broker

pytestmark = pytest.mark.mdpx
CAPACITY = 3
CREDIT = 7
# After what had to come has come, so long is waited for what must not.
GRACE_MS = 5


def test_a_worker_never_holds_more_than_its_capacity(cells: Cells, client_spec: AgentSpec) -> None:
    service = unique("capacity")
    agent, client = cells.client(client_spec, "x1", "async")
    with X1Worker(cells.broker.endpoint, service, capacity=CAPACITY) as worker:
        assert isinstance(worker, X1Worker)
        many = agent.start("request_many", client=client, service=service, count=300, concurrency=50, size=10)
        held: deque[Message] = deque()
        for answered in range(300):
            # It is kept full while there is enough to do, and its patience is tried now and then.
            while len(held) < min(CAPACITY, 300 - answered):
                held.append(worker.recv_request())
            if answered % 50 == 0:
                assert not worker.socket.poll(GRACE_MS), "a delivery to a worker that is full"
            first = held.popleft()
            worker.reply(first.delivery, first.body)
        outcome = agent.finish(many)[1]
    assert (outcome["ok"], outcome["errors"]) == (300, 0), outcome


def test_a_client_never_has_more_outstanding_than_its_credit(agents: Agents, client_spec: AgentSpec) -> None:
    agent = agents.get(client_spec, "client")
    with X1Broker() as broker:
        client = open_client(agent, broker, protocol="x1", style="async", max_in_flight=100, retries=3)
        many = agent.start("request_many", client=client, service="s", count=100, concurrency=100, size=10)
        peer = broker.welcome_client(CREDIT)
        open_: deque[Message] = deque()
        for answered in range(100):
            while len(open_) < min(CREDIT, 100 - answered):
                open_.append(broker.recv_command("REQUEST")[1])
            if answered % 20 == 0:
                while broker.has_more(GRACE_MS):
                    assert broker.recv()[1].command != "REQUEST", "more than the credit"
            # Neither the first nor the last: outcomes come in any order.
            open_.rotate(-(answered % CREDIT))
            request = open_.popleft()
            broker.say(peer, "FINAL", "client", Body(request.body), number=request.number, sequence=0)
        outcome = agent.finish(many)[1]
        assert (outcome["ok"], outcome["errors"]) == (100, 0), outcome
        agent.do("close_client", client=client)


def test_a_cancelled_request_gives_its_credit_back(agents: Agents, client_spec: AgentSpec) -> None:
    agent = agents.get(client_spec, "client")
    with X1Broker() as broker:
        client = open_client(agent, broker, protocol="x1", style="async", retries=3)
        first = agent.start("request", client=client, service="first", frames=1, size=1)
        peer = broker.welcome_client(credit=1)
        number = broker.recv_command("REQUEST")[1].number
        second = agent.start("request", client=client, service="second", frames=1, size=1)
        assert not any(broker.recv()[1].command == "REQUEST" for _ in iter(lambda: broker.has_more(GRACE_MS), False))
        agent.do("cancel", request=first)
        assert broker.recv_command("CANCEL")[1].number == number
        request = broker.recv_command("REQUEST")[1]
        assert request.service == b"second"
        broker.say(peer, "FINAL", "client", Body(request.body), number=request.number, sequence=0)
        agent.finish(second)
        agent.do("close_client", client=client)


@pytest.mark.parametrize("protocol", KNOWN)
def test_a_client_whose_requests_may_not_wait_refuses_those_over_max_in_flight(
    cells: Cells, our_spec: AgentSpec, protocol: str
) -> None:
    service = unique("full")
    agent = cells.agent_of(our_spec, "client")
    client = open_client(agent, cells.broker, protocol=protocol, style="async", max_in_flight=1, max_waiting=0)
    with X1Worker(cells.broker.endpoint, service, capacity=2) as worker:
        assert isinstance(worker, X1Worker)
        for _ in range(2):
            first = agent.start("request", client=client, service=service, **body_fields([b"first"]))
            held = worker.recv_request()
            with pytest.raises(AgentError) as caught:
                agent.do("request", client=client, service=service, **body_fields([b"second"]))
            assert (caught.value.kind, caught.value.number, caught.value.retryable) == ("QueueFull", 3, True)
            worker.reply(held.delivery, held.body)
            assert describes(agent.finish(first)[1], [b"first"])
        agent.do("close_client", client=client)


@pytest.mark.parametrize("protocol", KNOWN)
def test_a_client_lets_max_waiting_requests_wait_for_their_turn(cells: Cells, our_spec: AgentSpec, protocol: str) -> None:
    service = unique("waiting")
    agent = cells.agent_of(our_spec, "client")
    client = open_client(agent, cells.broker, protocol=protocol, style="async", max_in_flight=1, max_waiting=1)
    with X1Worker(cells.broker.endpoint, service, capacity=3) as worker, ThreadPoolExecutor() as pool:
        assert isinstance(worker, X1Worker)
        first = agent.start("request", client=client, service=service, **body_fields([b"first"]))
        held = worker.recv_request()
        # Two commands run beside each other: either request may be the one that found room.
        bodies = {
            pool.submit(agent.finish, agent.start("request", client=client, service=service, **body_fields([body]))): body
            for body in (b"second", b"third")
        }
        refused = next(as_completed(bodies))
        with pytest.raises(AgentError) as caught:
            refused.result()
        assert (caught.value.kind, caught.value.number) == ("QueueFull", 3)
        del bodies[refused]
        assert not worker.socket.poll(GRACE_MS), "more than one in flight"
        worker.reply(held.delivery, held.body)
        assert describes(agent.finish(first)[1], [b"first"])
        [(waiting, body)] = bodies.items()
        assert worker.echo_one() == [body]
        assert describes(waiting.result()[1], [body])
        agent.do("close_client", client=client)


@pytest.mark.parametrize("style", ["blocking", "async"])
def test_a_worker_asks_for_as_much_as_it_has_hands_and_prefetch(agents: Agents, our_spec: AgentSpec, style: str) -> None:
    agent = agents.get(our_spec, "worker")
    with X1Broker() as broker:
        worker = start_worker(
            agent, broker, service="s", protocol="x1", style=style, behaviour="echo", prefetch=5, heartbeat_ms=1000
        )  # fmt: skip
        peer, ready = broker.recv_command("READY")
        assert (ready.service, ready.capacity) == (b"s", 6)
        broker.say(peer, "WELCOME", "worker", heartbeat_ms=60_000, liveness=3, max_message=1 << 20)
        for delivery in range(1, 7):
            fields = {"session": bytes(16), "number": 0, "ttl_ms": 0, "attempt": 1}
            broker.say(peer, "DELIVER", "worker", Body([b"%d" % delivery]), delivery=delivery, **fields)
        answers = [broker.recv_command("FINAL")[1] for _ in range(6)]
        assert [(answer.delivery, answer.body) for answer in answers] == [(d, [b"%d" % d]) for d in range(1, 7)]
        stopping = agent.start("stop_worker", worker=worker)
        broker.recv_command("DISCONNECT")
        agent.finish(stopping)
