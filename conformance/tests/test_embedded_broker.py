"""A broker inside a program of each language is the same broker."""

from __future__ import annotations

import pytest
from agent_process import AgentSpec, Unsupported
from cells import unique
from conftest import Agents

from peers.raw_client import RawClient
from peers.raw_worker import RawWorker


def test_an_embedded_broker_serves_strangers(agents: Agents, our_spec: AgentSpec, protocol: str) -> None:
    agent = agents.get(our_spec, "client")
    name = unique("broker")
    try:
        endpoint = agent.do("start_broker", broker=name, bind="tcp://127.0.0.1:0")["endpoint"]
    except Unsupported:
        pytest.skip(f"{our_spec.language} embeds no broker")
    assert not endpoint.endswith(":0")
    with RawClient(endpoint, protocol) as client, RawWorker(endpoint, "echo", protocol) as worker:
        client.send("echo", [b"hello", b""])
        assert worker.echo_one() == [b"hello", b""]
        assert client.recv().body == [b"hello", b""]
        stopping = agent.start("stop_broker", broker=name)
        worker.recv_disconnect()
        agent.finish(stopping)
