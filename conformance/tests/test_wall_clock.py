"""The wall clock of a process steps by an hour, and nothing happens.

`test_12` of the known defects asks this of the broker; here it is asked of the clients and workers of every language.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_process import Agent, AgentSpec, body_fields, describes
from broker_process import BrokerProcess
from cells import open_client, start_worker, tick
from conftest import Peers
from stats import wait_for_queued

from peers.raw_worker import RawWorker

EVERY_PROTOCOL = True

# Nobody bears an hour of silence, and the beats of seconds are few.
BEAT = {"heartbeat_ms": 500, "liveness": 4}
HOUR_MS = 3_600_000


class Stepped:
    """Agents whose wall clock steps when the test says so."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shim = folder / "clockstep.so"
        source = Path(__file__).with_name("clockstep.c")
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", shim, source], check=True)
        self._stepped = folder / "stepped"
        self._environment = {"LD_PRELOAD": str(shim), "CLOCKSTEP": str(self._stepped)}
        self._monkeypatch = monkeypatch
        self._agents: list[Agent] = []

    def start(self, spec: AgentSpec) -> Agent:
        with self._monkeypatch.context() as patch:
            for name, value in self._environment.items():
                patch.setenv(name, value)
            self._agents.append(Agent(spec))
        maps = Path(f"/proc/{self._agents[-1].process.pid}/maps").read_text()
        assert self._environment["LD_PRELOAD"] in maps, "the clock is not in our hands"
        return self._agents[-1]

    def step(self) -> None:
        self._stepped.touch()

    def close(self) -> None:
        for agent in self._agents:
            agent.kill()


@pytest.fixture
def stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stepped]:
    made = Stepped(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.mark.parametrize("style", ["blocking", "async"])
def test_12_a_worker_keeps_its_broker_and_its_request_over_a_step_of_the_wall_clock(
    stepped: Stepped,
    start_broker: Callable[..., BrokerProcess],
    peers: Peers,
    our_spec: AgentSpec,
    protocol: str,
    style: str,
    service: str,
) -> None:
    broker = start_broker(**BEAT)
    agent = stepped.start(our_spec)
    worker = start_worker(agent, broker, service=service, protocol=protocol, behaviour="hold", style=style, **BEAT)
    client = peers.client(broker)
    client.send(service, [b"before"])
    agent.event("holding", worker=worker)
    stepped.step()
    # The broker lives through more than the worker's time.
    tick(broker, "0.1", BEAT["liveness"] + 1)
    agent.do("release", worker=worker)
    assert client.recv().body == [b"before"]
    client.send(service, [b"after"])
    assert client.recv().body == [b"after"]
    # Whoever takes the other for dead takes the request from it, or its answer, and it runs again.
    assert agent.do("worker_stats", worker=worker)["handled"] == 2
    agent.do("stop_worker", worker=worker)


@pytest.mark.parametrize("style", ["blocking", "async"])
def test_12_a_client_waits_on_over_a_step_of_the_wall_clock(
    stepped: Stepped,
    start_broker: Callable[..., BrokerProcess],
    our_spec: AgentSpec,
    protocol: str,
    style: str,
    service: str,
) -> None:
    broker = start_broker(**BEAT)
    agent = stepped.start(our_spec)
    # Half of what the clock steps by.
    client = open_client(agent, broker, protocol=protocol, style=style, timeout_ms=HOUR_MS // 2)
    asked = agent.start("request", client=client, service=service, **body_fields([b"still there?"]))
    wait_for_queued(broker, service, 1)
    stepped.step()
    # A client looks at the clock a few times a second, or now at the latest; one that can do no two things at once waits.
    tick(broker, "0.1", 2)
    again = agent.start("request", client=client, service="mmi.service", **body_fields([b"nobody"]))
    if style == "async":
        assert describes(agent.finish(again)[1], [b"404"])
    with RawWorker(broker.endpoint, service) as worker:
        assert worker.echo_one() == [b"still there?"]
    assert describes(agent.finish(asked)[1], [b"still there?"])
    if style == "blocking":
        assert describes(agent.finish(again)[1], [b"404"])
    agent.do("close_client", client=client)
