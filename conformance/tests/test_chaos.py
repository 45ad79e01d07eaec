"""Processes that are killed, frozen and restarted."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable

import pytest
from agent_process import Agent, AgentSpec
from broker_process import BrokerProcess
from cells import open_client, start_worker, tick
from conftest import Agents, Peers
from stats import ask, wait_for_beat, wait_for_stat, wait_until

StartBroker = Callable[..., BrokerProcess]
FAST = {"heartbeat_ms": 300, "liveness": 3}
WORKER = {"heartbeat_ms": 200, "liveness": 5, "reconnect_ms": 100}


def test_a_worker_killed_in_mid_request_is_noticed_by_its_closed_connection(
    start_broker: StartBroker, peers: Peers, agents: Agents, worker_spec: AgentSpec, protocol: str
) -> None:
    """Heartbeats are a minute apart here: what tells the broker is the connection."""
    broker = start_broker(heartbeat_ms=60_000)
    client = peers.client(broker, protocol)
    with Agent(worker_spec) as victim:
        start_worker(victim, broker, service="s", protocol=protocol, behaviour="hold")
        client.send("s", [b"survive"])
        victim.event("holding")
        victim.kill()
    successor = peers.worker(broker, "s", protocol, ready=False)
    successor.ready()
    assert successor.echo_one() == [b"survive"]
    assert client.recv().body == [b"survive"]
    assert client.request("mmi.service", [b"nobody"]).body == [b"404"], "one answer only"


@pytest.mark.ours
def test_a_frozen_idle_worker_gets_no_work(
    start_broker: StartBroker, peers: Peers, worker_spec: AgentSpec, protocol: str
) -> None:
    broker = start_broker(**FAST)
    client = peers.client(broker, protocol)
    with Agent(worker_spec) as frozen:
        start_worker(frozen, broker, service="s", protocol=protocol, behaviour="name", worker="frozen", **WORKER)
        assert client.request("s").body == [b"frozen"]
        frozen.process.send_signal(signal.SIGSTOP)
        while client.request("mmi.service", [b"s"]).body != [b"404"]:
            tick(broker, protocol, 1)
        successor = peers.worker(broker, "s", protocol, ready=False, beat_ms=100)
        successor.ready()
        client.send("s", [b"x"])
        assert successor.echo_one() == [b"x"]
        assert client.recv().body == [b"x"]
        successor.leave()
        # Thawed, it finds that it was given up, registers again, and serves.
        frozen.process.send_signal(signal.SIGCONT)
        assert client.request("s").body == [b"frozen"]


def test_a_frozen_busy_worker_loses_its_request_and_its_late_answer_counts_for_nothing(
    start_broker: StartBroker, peers: Peers, our_spec: AgentSpec, protocol: str
) -> None:
    broker = start_broker(**FAST)
    client = peers.client(broker, protocol)
    with Agent(our_spec) as frozen:
        start_worker(frozen, broker, service="s", protocol=protocol, behaviour="hold", worker="frozen", **WORKER)
        client.send("s", [b"work"])
        frozen.event("holding")
        # It has to have been seen beating while busy; who never did is not judged by silence.
        tick(broker, protocol, 4)
        wait_for_beat(broker, "s")
        frozen.process.send_signal(signal.SIGSTOP)
        successor = peers.worker(broker, "s", protocol, ready=False, beat_ms=100)
        successor.ready()
        request = successor.recv_request()
        assert request.body == [b"work"]
        successor.reply(request.address, [b"by the successor"])
        assert client.recv().body == [b"by the successor"]
        successor.leave()
        frozen.process.send_signal(signal.SIGCONT)
        frozen.do("release", worker="frozen")
        # It is back when it serves this; by then its late answer had its time to do harm.
        assert client.request("s", [b"next"]).body == [b"next"]
        assert client.request("mmi.service", [b"nobody"]).body == [b"404"]


def test_a_frozen_busy_worker_that_never_beats_is_bounded_by_the_attempt_timeout(
    start_broker: StartBroker, peers: Peers, stranger_spec: AgentSpec, protocol: str
) -> None:
    broker = start_broker(**FAST, attempt_timeout_ms=1000)
    client = peers.client(broker, protocol)
    with Agent(stranger_spec) as frozen:
        start_worker(frozen, broker, service="s", protocol=protocol, behaviour="hold", **WORKER)
        client.send("s", [b"work"])
        frozen.event("holding")
        frozen.process.send_signal(signal.SIGSTOP)
        successor = peers.worker(broker, "s", protocol, ready=False, beat_ms=100)
        successor.ready()
        assert successor.echo_one() == [b"work"]
        assert client.recv().body == [b"work"]


def test_every_request_is_answered_while_workers_are_killed_at_random(
    start_broker: StartBroker, agents: Agents, rng: random.Random, our_spec: AgentSpec, protocol: str
) -> None:
    broker = start_broker(heartbeat_ms=1000, max_attempts=20)
    client_agent = agents.get(our_spec, "client")
    client = open_client(client_agent, broker, protocol=protocol, style="async", timeout_ms=30_000)
    workers = [Agent(our_spec) for _ in range(3)]
    try:
        for agent in workers:
            start_worker(agent, broker, service="s", protocol=protocol, behaviour="echo", **WORKER)
        many = client_agent.start("request_many", client=client, service="s", count=1500, concurrency=20, size=200)
        asker = broker.client()
        for round_number in range(1, 4):
            # Some more answers first, so that the deaths are spread over the work.
            wait_for_stat(asker, "answered", round_number * 300)
            place = rng.randrange(3)
            workers[place].kill()
            workers[place] = Agent(our_spec)
            start_worker(workers[place], broker, service="s", protocol=protocol, behaviour="echo", **WORKER)
        outcome = client_agent.finish(many)[1]
        assert (outcome["ok"], outcome["mismatched"], outcome["errors"]) == (1500, 0, 0), outcome
        stats = ask(asker, "mmi.stats")
        assert (stats["answered"], stats["in_flight"], stats["queued"]) == (1500, 0, 0)
        asker.close()
        client_agent.do("close_client", client=client)
    finally:
        for agent in workers:
            agent.kill()


def test_requests_under_way_survive_a_killed_and_restarted_broker(
    start_broker: StartBroker, broker_command: object, agents: Agents, our_spec: AgentSpec, protocol: str
) -> None:
    broker = start_broker(**FAST)
    client_agent, worker_agent = agents.get(our_spec, "client"), agents.get(our_spec, "worker")
    worker = start_worker(worker_agent, broker, service="s", protocol=protocol, behaviour="echo", **WORKER)
    client = open_client(
        client_agent, broker, protocol=protocol, style="async",
        timeout_ms=1000, retries=60, reconnect_min_ms=50, reconnect_max_ms=200,
    )  # fmt: skip
    many = client_agent.start("request_many", client=client, service="s", count=3000, concurrency=10, size=200)
    with broker.client() as asker:
        wait_for_stat(asker, "answered", 300)
    broker = broker.restart()
    try:
        outcome = client_agent.finish(many)[1]
        assert (outcome["ok"], outcome["mismatched"], outcome["errors"]) == (3000, 0, 0), outcome
        client_agent.do("close_client", client=client)
        worker_agent.do("stop_worker", worker=worker)
    finally:
        broker.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_a_broker_told_to_end_says_goodbye_to_its_workers(
    start_broker: StartBroker, peers: Peers, number: signal.Signals
) -> None:
    broker = start_broker()
    idle = [peers.worker(broker, f"idle-{protocol}", protocol) for protocol in ("0.1", "0.2")]
    busy = peers.worker(broker, "busy")
    peers.client(broker).send("busy", [b"x"])
    busy.recv_request()
    broker.signal(number)
    for worker in [*idle, busy]:
        worker.recv_disconnect()
    assert broker.wait() == 0


@pytest.mark.parametrize("style", ["blocking", "async"])
def test_workers_register_again_after_a_broker_that_said_goodbye(
    start_broker: StartBroker, peers: Peers, agents: Agents, our_spec: AgentSpec, protocol: str, style: str
) -> None:
    broker = start_broker(**FAST)
    agent = agents.get(our_spec, "worker")
    worker = start_worker(agent, broker, service="s", protocol=protocol, behaviour="echo", style=style, **WORKER)
    assert broker.client(protocol).request("s", [b"x"]).body == [b"x"]
    broker.signal(signal.SIGTERM)
    assert broker.wait() == 0
    with BrokerProcess(broker.command, bind=broker.endpoints, **FAST) as again:
        with again.client(protocol) as client:
            assert client.request("s", [b"y"]).body == [b"y"]
        agent.do("stop_worker", worker=worker)


def test_an_agents_end_leaves_no_worker_behind(
    start_broker: StartBroker, peers: Peers, worker_spec: AgentSpec, protocol: str
) -> None:
    """A process that ends properly says goodbye for its workers; heartbeats are a minute apart here."""
    broker = start_broker(heartbeat_ms=60_000)
    client = peers.client(broker, protocol)
    with Agent(worker_spec) as agent:
        start_worker(agent, broker, service="s", protocol=protocol, behaviour="echo")
        assert client.request("s", [b"x"]).body == [b"x"]
        assert agent.quit() == 0
    wait_until(client, "mmi.stats", lambda stats: stats["workers"] == 0)


def test_a_thousand_clients_come_and_go(start_broker: StartBroker, peers: Peers, protocol: str) -> None:
    broker = start_broker()
    worker = peers.worker(broker, "s", protocol)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if worker.socket.poll(50):
                message = worker.recv()
                worker.reply(message.address, message.body)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for number in range(1000):
            with broker.client(protocol) as client:
                assert client.request("s", [b"%d" % number]).body == [b"%d" % number]
    finally:
        stop.set()
        thread.join()
    with broker.client(protocol) as asker:
        stats = ask(asker, "mmi.stats")
    assert (stats["in_flight"], stats["queued"]) == (0, 0)
