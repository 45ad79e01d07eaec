"""The workers and clients of the matrix: started when first asked for, then shared by all cells."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from agent_process import Agent, AgentSpec, Unsupported
from broker_process import BrokerProcess

from peers.raw_worker import RawWorker

_names = itertools.count(1)
WORKER_OPTIONS = {"heartbeat_ms": 1000, "reconnect_ms": 100}


def unique(prefix: str) -> str:
    return f"{prefix}-{next(_names)}"


class HasEndpoint(Protocol):
    """Any broker that a peer can be pointed at, real or scripted."""

    endpoint: str


def start_worker(agent: Agent, broker: HasEndpoint, **fields: Any) -> str:
    """Starts a worker and gives its name; a language without this style or behaviour skips the test."""
    fields = {"worker": unique("worker"), "style": "blocking", **WORKER_OPTIONS, **fields}
    try:
        agent.do("start_worker", endpoint=broker.endpoint, **fields)
    except Unsupported:
        pytest.skip(f"{agent.language} has no {fields['style']} worker with behaviour {fields['behaviour']}")
    return str(fields["worker"])


def open_client(agent: Agent, broker: HasEndpoint, **fields: Any) -> str:
    fields = {"client": unique("client"), "style": "blocking", "timeout_ms": 20_000, "retries": 1, **fields}
    agent.do("open_client", endpoint=broker.endpoint, **fields)
    return str(fields["client"])


def tick(broker: HasEndpoint, protocol: str, beats: int) -> None:
    """Lets the broker live through so many of its own heartbeat intervals."""
    with RawWorker(broker.endpoint, unique("clock"), protocol) as clock:
        clock.answer_beats(beats)


class Cells:
    """All cells of one broker."""

    def __init__(self, broker: BrokerProcess, agent_of: Callable[[AgentSpec, str], Agent]) -> None:
        self.broker = broker
        self.agent_of = agent_of
        self._services: dict[tuple[str, ...], str] = {}
        self._clients: dict[tuple[str, str, str], str] = {}
        self._started: list[tuple[Agent, str, dict[str, Any]]] = []

    def service(self, spec: AgentSpec, protocol: str, style: str, behaviour: str, **fields: Any) -> str:
        """A service with one worker of this language, which has the service's name."""
        key = (spec.language, protocol, style, behaviour, *(f"{name}={value}" for name, value in fields.items()))
        if key not in self._services:
            name = unique("-".join(key[:4]))
            agent = self.agent_of(spec, "worker")
            fields = {"worker": name, "service": name, "protocol": protocol, "style": style, "behaviour": behaviour, **fields}
            worker = start_worker(agent, self.broker, **fields)
            self._started.append((agent, "stop_worker", {"worker": worker}))
            self._services[key] = name
        return self._services[key]

    def client(self, spec: AgentSpec, protocol: str, style: str) -> tuple[Agent, str]:
        key = (spec.language, protocol, style)
        agent = self.agent_of(spec, "client")
        if key not in self._clients:
            self._clients[key] = open_client(agent, self.broker, protocol=protocol, style=style)
            self._started.append((agent, "close_client", {"client": self._clients[key]}))
        return agent, self._clients[key]

    def close(self) -> None:
        for agent, command, fields in self._started:
            if agent.process.poll() is None:
                agent.do(command, **fields)
