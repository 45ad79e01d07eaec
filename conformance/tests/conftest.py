"""Fixtures: the broker under judgement, raw peers, and the agents of the languages."""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent_process import Agent, AgentSpec, load_specs  # noqa: E402
from broker_process import BrokerCommand, BrokerProcess  # noqa: E402
from cells import Cells  # noqa: E402

from peers.raw_client import RawClient  # noqa: E402
from peers.raw_worker import RawWorker  # noqa: E402

PROTOCOLS = ("0.1", "0.2")
KNOWN = (*PROTOCOLS, "x1")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("majordomo")
    group.addoption("--broker-command", help="command of the broker to judge, see conformance/README.md")
    group.addoption("--broker-protocols", default="0.1,0.2", help="what the broker to judge speaks")
    group.addoption("--agents", help="comma separated languages; default: those that are built")
    group.addoption("--require-agents", action="store_true", help="a language without its program is an error")
    group.addoption("--seed", type=int, help="repeat a run that used this seed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ours: about promises that only our broker makes")
    config.addinivalue_line("markers", "our_worker: the worker does what a stranger's cannot, such as failing")
    config.addinivalue_line("markers", "our_peers: no stranger takes part")
    config.addinivalue_line("markers", "mdpx: about what only MDPX has; for the agents that speak it, and our broker")
    config.addinivalue_line("markers", "each_once: pairs in which each language is a client once and a worker once")
    config.majordomo_seed = chosen_seed(config)  # type: ignore[attr-defined]
    specs = chosen_specs(config)
    config.majordomo_all_specs = specs  # type: ignore[attr-defined]
    # What most tests are about: the published versions.
    config.majordomo_specs = [spec for spec in specs if "0.1" in spec.protocols]  # type: ignore[attr-defined]


def chosen_seed(config: pytest.Config) -> int:
    """The seed that was asked for, the one of the process that shares out the tests, or a fresh one."""
    shared: dict[str, int] = getattr(config, "workerinput", {})
    seed = config.getoption("--seed")
    return seed if seed is not None else shared.get("majordomo_seed", int.from_bytes(os.urandom(4), "big"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Gives the processes of pytest-xdist, if the tests are shared out, one seed."""
    node.workerinput["majordomo_seed"] = node.config.majordomo_seed


def pytest_report_header(config: pytest.Config) -> str:
    languages = ", ".join(spec.language for spec in config.majordomo_specs)  # type: ignore[attr-defined]
    return f"majordomo: --seed {config.majordomo_seed}, agents: {languages}"  # type: ignore[attr-defined]


def chosen_specs(config: pytest.Config) -> list[AgentSpec]:
    specs = load_specs()
    chosen = config.getoption("--agents")
    required = config.getoption("--require-agents")
    names = chosen.split(",") if chosen else list(specs)
    missing = [name for name in names if not specs[name].exists]
    if missing and (required or chosen):
        raise pytest.UsageError(f"no agent program for {', '.join(missing)}: build it, or leave it out with --agents")
    return [specs[name] for name in names if specs[name].exists]


def chosen_pairs(metafunc: pytest.Metafunc, specs: list[AgentSpec]) -> list[tuple[AgentSpec, AgentSpec]]:
    """Cells of the matrix. Two strangers prove nothing about our peers: they meet only where no agent of ours is there."""
    pairs = list(itertools.product(specs, specs))
    if any(not spec.stranger for spec in specs):
        pairs = [pair for pair in pairs if not all(spec.stranger for spec in pair)]
    if metafunc.definition.get_closest_marker("our_peers"):
        pairs = [pair for pair in pairs if not any(spec.stranger for spec in pair)]
    if metafunc.definition.get_closest_marker("our_worker"):
        pairs = [(client, worker) for client, worker in pairs if not worker.stranger]
    if metafunc.definition.get_closest_marker("each_once"):
        pairs = neighbours(pairs)
    return pairs


def neighbours(pairs: list[tuple[AgentSpec, AgentSpec]]) -> list[tuple[AgentSpec, AgentSpec]]:
    """Each client with the worker of the next language: every language in either role, without all pairs."""
    workers = list({worker.language: worker for _, worker in pairs}.values())
    clients = list({client.language: client for client, _ in pairs}.values())
    return [(client, workers[(place + 1) % len(workers)]) for place, client in enumerate(clients)]


def protocols_of(metafunc: pytest.Metafunc) -> list[str]:
    """What the broker speaks; MDPX too where the module says so and the broker is ours."""
    protocols = metafunc.config.getoption("--broker-protocols").split(",")
    ours = not metafunc.config.getoption("--broker-command")
    if getattr(metafunc.module, "EVERY_PROTOCOL", False) and ours and "x1" not in protocols:
        protocols.append("x1")
    return protocols


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the cells in which a peer would have to speak what it does not know."""
    kept, left_out = [], []
    for item in items:
        parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        specs = [value for value in parameters.values() if isinstance(value, AgentSpec)]
        protocol = parameters.get("protocol")
        known = all(protocol is None or protocol not in KNOWN or protocol in spec.protocols for spec in specs)
        (kept if known else left_out).append(item)
    items[:] = kept
    if left_out:
        config.hook.pytest_deselected(items=left_out)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Spreads `protocol`, `client_language` and `worker_language` over what the broker and the agents speak."""
    if "protocol" in metafunc.fixturenames and not any(
        "protocol" in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")
    ):
        metafunc.parametrize("protocol", protocols_of(metafunc))
    every = getattr(metafunc.module, "EVERY_PROTOCOL", False)
    specs = metafunc.config.majordomo_all_specs if every else metafunc.config.majordomo_specs  # type: ignore[attr-defined]
    if metafunc.definition.get_closest_marker("mdpx"):
        specs = [spec for spec in metafunc.config.majordomo_all_specs if "x1" in spec.protocols]  # type: ignore[attr-defined]
    if {"client_spec", "worker_spec"} <= set(metafunc.fixturenames):
        pairs = chosen_pairs(metafunc, specs)
        ids = [f"{client.language}-{worker.language}" for client, worker in pairs]
        metafunc.parametrize(("client_spec", "worker_spec"), pairs, ids=ids)
    else:
        for name in {"client_spec", "worker_spec"} & set(metafunc.fixturenames):
            metafunc.parametrize(name, specs, ids=[spec.language for spec in specs])
    if "stranger_spec" in metafunc.fixturenames:
        strangers = [spec for spec in specs if spec.stranger]
        metafunc.parametrize("stranger_spec", strangers, ids=[spec.language for spec in strangers])
    if "our_spec" in metafunc.fixturenames:
        ours = [spec for spec in specs if not spec.stranger]
        if not ours and metafunc.config.getoption("--agents"):
            # Strangers named alone on the command line are the ones to judge.
            ours = specs
        metafunc.parametrize("our_spec", ours, ids=[spec.language for spec in ours])


def pytest_runtest_setup(item: pytest.Item) -> None:
    ours = item.get_closest_marker("ours") or item.get_closest_marker("mdpx")
    if ours and item.config.getoption("--broker-command"):
        pytest.skip("a promise of our own broker")


@pytest.fixture
def speaks_01(request: pytest.FixtureRequest) -> None:
    if "0.1" not in request.config.getoption("--broker-protocols").split(","):
        pytest.skip("this broker does not speak 0.1")


@pytest.fixture
def speaks_02(request: pytest.FixtureRequest) -> None:
    if "0.2" not in request.config.getoption("--broker-protocols").split(","):
        pytest.skip("this broker does not speak 0.2")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Randomness that a run with the printed --seed repeats."""
    return random.Random(f"{request.config.majordomo_seed}/{request.node.nodeid}")  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def broker_command(request: pytest.FixtureRequest) -> BrokerCommand:
    return BrokerCommand(request.config.getoption("--broker-command"))


@pytest.fixture
def start_broker(broker_command: BrokerCommand) -> Iterator[Callable[..., BrokerProcess]]:
    """Starts brokers with options of the test's choice; they end with the test."""
    started: list[BrokerProcess] = []

    def start(**options: Any) -> BrokerProcess:
        started.append(BrokerProcess(broker_command, **options))
        return started[-1]

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture
def broker(start_broker: Callable[..., BrokerProcess]) -> BrokerProcess:
    """A broker of the test's own."""
    return start_broker()


@pytest.fixture(scope="module")
def _module_broker(broker_command: BrokerCommand) -> Iterator[list[BrokerProcess]]:
    running: list[BrokerProcess] = []
    yield running
    for process in running:
        process.kill()


@pytest.fixture
def shared_broker(_module_broker: list[BrokerProcess], broker_command: BrokerCommand) -> Iterator[BrokerProcess]:
    """One broker for the tests of a module that leave it as they found it; a broker that ends fails the test it ended in."""
    if not _module_broker or not _module_broker[-1].alive:
        _module_broker.append(BrokerProcess(broker_command))
    process = _module_broker[-1]
    yield process
    assert process.alive, f"the broker ended with status {process.process.returncode}"


@pytest.fixture(scope="module")
def cells(broker_command: BrokerCommand, agents: Agents) -> Iterator[Cells]:
    """Workers and clients that the tests of a module share, on a broker of their own."""
    with BrokerProcess(broker_command, heartbeat_ms=1000, liveness=10) as broker:
        made = Cells(broker, agents.get)
        yield made
        made.close()
        assert broker.alive


_services = itertools.count(1)


@pytest.fixture
def service() -> str:
    """A service name that no other test uses."""
    return f"service-{next(_services)}"


@pytest.fixture
def peers() -> Iterator[Peers]:
    """Makes raw peers and closes them at the end."""
    made = Peers()
    yield made
    made.close()


class Peers:
    def __init__(self) -> None:
        self._open: list[RawClient | RawWorker] = []

    def client(self, broker: BrokerProcess, protocol: str = "0.1", **kwargs: Any) -> RawClient:
        self._open.append(RawClient(broker.endpoint, protocol, **kwargs))
        return self._open[-1]  # type: ignore[return-value]

    def worker(
        self, broker: BrokerProcess, service: str, protocol: str = "0.1", ready: bool = True, beat_ms: int = 0
    ) -> RawWorker:
        """A worker that the broker knows by the time this returns, unless other workers already serve the same."""
        worker = RawWorker(broker.endpoint, service, protocol, ready, beat_ms)
        self._open.append(worker)
        if ready:
            with broker.client(protocol) as client:
                while client.request("mmi.service", [service.encode()]).body != [b"200"]:
                    pass
        return worker

    def close(self) -> None:
        for peer in self._open:
            peer.close()


@pytest.fixture(scope="session")
def agents() -> Iterator[Agents]:
    """Agents are started once and used by many tests."""
    made = Agents()
    yield made
    made.close()


class Agents:
    """For each language one process for clients and one for workers, so that nothing stays inside one process."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], Agent] = {}

    def get(self, spec: AgentSpec, role: str) -> Agent:
        key = (spec.language, role)
        agent = self._running.get(key)
        if agent is None or agent.process.poll() is not None:
            agent = self._running[key] = Agent(spec)
        return agent

    def close(self) -> None:
        try:
            statuses = {key: agent.quit() for key, agent in self._running.items() if agent.process.poll() is None}
        finally:
            for agent in self._running.values():
                agent.kill()
        assert not any(statuses.values()), f"agents ended with {statuses}"
