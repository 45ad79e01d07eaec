"""Processes killed and brokers restarted over MDPX: one outcome for each request, and no more runs than there have to be."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from agent_process import Agent, AgentSpec
from broker_process import BrokerProcess
from cells import open_client, start_worker
from conftest import Agents
from stats import ask, wait_for_stat, wait_until

from peers.raw_client import Silence
from peers.x1 import X1Worker

pytestmark = pytest.mark.mdpx
StartBroker = Callable[..., BrokerProcess]
FAST = {"heartbeat_ms": 300, "liveness": 3}
WORKER = {"heartbeat_ms": 200, "liveness": 5, "reconnect_ms": 50, "protocol": "x1"}
PATIENT = {
    "protocol": "x1",
    "style": "async",
    "timeout_ms": 60_000,
    "retries": 1,
    "reconnect_min_ms": 50,
    "reconnect_max_ms": 200,
}
LOAD = 4000
KILLS = 8
IN_FLIGHT = 1000
ANSWERED_BEFORE = 300
HELD = 40


def test_every_request_has_one_outcome_while_workers_of_all_languages_are_killed_at_random(
    start_broker: StartBroker, agents: Agents, rng: random.Random, pytestconfig: pytest.Config, client_spec: AgentSpec
) -> None:
    every: list[AgentSpec] = pytestconfig.majordomo_all_specs  # type: ignore[attr-defined]
    specs = [spec for spec in every if "x1" in spec.protocols]
    broker = start_broker(heartbeat_ms=1000)
    agent = agents.get(client_spec, "client")
    client = open_client(agent, broker, **PATIENT, max_in_flight=200)

    def serving(spec: AgentSpec) -> Agent:
        started = Agent(spec)
        style = rng.choice(["blocking", "async"])
        start_worker(started, broker, service="s", behaviour="echo", style=style, prefetch=rng.randrange(8), **WORKER)
        return started

    workers = [serving(spec) for spec in specs]
    try:
        with broker.client() as asker:
            many = agent.start(
                "request_many", client=client, service="s", count=LOAD, concurrency=100, size=200, max_attempts=100
            )  # fmt: skip
            for kill in range(1, KILLS + 1):
                # Some more answers first, so that the deaths are spread over the work.
                wait_for_stat(asker, "answered", kill * LOAD // (KILLS + 2))
                place = rng.randrange(len(workers))
                workers[place].kill()
                workers[place] = serving(specs[place])
            outcome = agent.finish(many)[1]
            assert (outcome["ok"], outcome["mismatched"], outcome["errors"]) == (LOAD, 0, 0), outcome
            stats = wait_until(asker, "mmi.stats", lambda stats: (stats["in_flight"], stats["queued"]) == (0, 0))
        assert (stats["accepted"], stats["answered"]) == (LOAD, LOAD), stats
        agent.do("close_client", client=client)
    finally:
        for worker in workers:
            worker.kill()


class Recorder(threading.Thread):
    """A worker that notes which requests it was given. It answers so many, holds what comes then, and answers all again once
    it has a new broker."""

    def __init__(self, broker: BrokerProcess) -> None:
        super().__init__(daemon=True)
        self.endpoint = broker.endpoint
        self.runs: Counter[bytes] = Counter()
        self.answered: set[bytes] = set()
        self.held: set[bytes] = set()
        self.full = threading.Event()
        self.again = threading.Event()
        self.stopping = threading.Event()

    def run(self) -> None:
        with X1Worker(self.endpoint, "s", capacity=HELD) as worker:
            assert isinstance(worker, X1Worker)
            while len(self.held) < HELD:
                work = worker.recv_request()
                number = work.body[0]
                self.runs[number] += 1
                if len(self.answered) < ANSWERED_BEFORE:
                    self.answered.add(number)
                    worker.reply(work.delivery, work.body)
                else:
                    self.held.add(number)
            self.full.set()
            self.again.wait()
        with X1Worker(self.endpoint, "s", capacity=HELD) as worker:
            assert isinstance(worker, X1Worker)
            while not self.stopping.is_set():
                try:
                    work = worker.recv_request(timeout_ms=100)
                except Silence:
                    worker.heartbeat()
                    continue
                self.runs[work.body[0]] += 1
                worker.reply(work.delivery, work.body)


def test_a_restarted_broker_with_1000_requests_in_flight_loses_none_and_repeats_only_what_was_running(
    start_broker: StartBroker, agents: Agents, client_spec: AgentSpec
) -> None:
    broker = start_broker(**FAST)
    agent = agents.get(client_spec, "client")
    client = open_client(agent, broker, **PATIENT, max_in_flight=IN_FLIGHT)
    recorder = Recorder(broker)
    recorder.start()
    count = IN_FLIGHT + ANSWERED_BEFORE
    many = agent.start("request_many", client=client, service="s", count=count, concurrency=IN_FLIGHT, size=10)
    assert recorder.full.wait(60)
    with broker.client() as asker:
        # Each request beyond the first thousand is sent for an answer that the client has: it has all of those three hundred.
        wait_until(asker, "mmi.stats", lambda stats: stats["accepted"] == count)
        stats = ask(asker, "mmi.stats")
        assert (stats["in_flight"], stats["queued"]) == (HELD, IN_FLIGHT - HELD)
    with broker.restart():
        recorder.again.set()
        outcome = agent.finish(many)[1]
        recorder.stopping.set()
        recorder.join()
        agent.do("close_client", client=client)
    assert (outcome["ok"], outcome["mismatched"], outcome["errors"]) == (count, 0, 0), outcome
    assert len(recorder.runs) == count
    twice = {number for number, runs in recorder.runs.items() if runs > 1}
    assert twice == recorder.held
    assert max(recorder.runs.values()) == 2


@pytest.mark.parametrize("style", ["blocking", "async"])
def test_workers_of_a_restarted_broker_repeat_only_what_was_running(
    start_broker: StartBroker, agents: Agents, worker_spec: AgentSpec, style: str
) -> None:
    """The same, seen from the workers: what they hold when their broker dies is run again, once, and nothing else is."""
    broker = start_broker(**FAST)
    clients, workers = agents.get(worker_spec, "client"), agents.get(worker_spec, "worker")
    client = open_client(clients, broker, **PATIENT, max_in_flight=IN_FLIGHT)
    names = [start_worker(workers, broker, service="s", behaviour="hold", style=style, **WORKER) for _ in range(3)]
    many = clients.start("request_many", client=client, service="s", count=IN_FLIGHT, concurrency=IN_FLIGHT, size=10)
    for name in names:
        workers.event("holding", worker=name)
    with broker.client() as asker:
        wait_until(asker, "mmi.stats", lambda stats: stats["in_flight"] + stats["queued"] == IN_FLIGHT)
    with broker.restart():
        for name in names:
            workers.do("release", worker=name)
        outcome = clients.finish(many)[1]
        handled = sum(workers.do("stop_worker", worker=name)["handled"] for name in names)
        clients.do("close_client", client=client)
    assert (outcome["ok"], outcome["mismatched"], outcome["errors"]) == (IN_FLIGHT, 0, 0), outcome
    assert handled == IN_FLIGHT + len(names)


def test_requests_of_one_attempt_are_not_sent_again_to_a_broker_that_has_forgotten_them(
    start_broker: StartBroker, agents: Agents, client_spec: AgentSpec
) -> None:
    broker = start_broker(**FAST)
    agent = agents.get(client_spec, "client")
    client = open_client(agent, broker, **PATIENT, max_in_flight=IN_FLIGHT)
    many = agent.start(
        "request_many", client=client, service="s", count=IN_FLIGHT, concurrency=IN_FLIGHT, size=10, max_attempts=1
    )  # fmt: skip
    with broker.client() as asker:
        wait_until(asker, "mmi.stats", lambda stats: stats["queued"] == IN_FLIGHT)
    with broker.restart():
        outcome = agent.finish(many)[1]
        agent.do("close_client", client=client)
    assert (outcome["ok"], outcome["mismatched"], outcome["errors"]) == (0, 0, IN_FLIGHT), outcome
    assert outcome["first_error"] == "WorkerLost"
