"""Workers that leave while requests flow take none of them along."""

from __future__ import annotations

import pytest
from agent_process import AgentSpec
from cells import Cells, start_worker, unique
from stats import ask, wait_until

pytestmark = pytest.mark.mdpx
REQUESTS = 5000
TURNS = 5


@pytest.mark.each_once
@pytest.mark.parametrize("style", ["blocking", "async"])
def test_drain_under_load_loses_nothing(cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str) -> None:
    """Not even requests that must not run twice, and each is run once."""
    service = unique("drain")
    agent, client = cells.client(client_spec, "x1", "async")
    workers = cells.agent_of(worker_spec, "worker")

    def start() -> str:
        options = {"prefetch": 8, "drain_timeout_ms": 60_000}
        return start_worker(workers, cells.broker, service=service, protocol="x1", style=style, behaviour="echo", **options)

    with cells.broker.client() as asker:
        before = ask(asker, "mmi.stats")["answered"]
        serving = [start(), start()]
        many = agent.start(
            "request_many", client=client, service=service, count=REQUESTS, concurrency=50, size=100, max_attempts=1
        )  # fmt: skip
        handled = 0
        for turn in range(1, TURNS + 1):
            # Some more answers first, so that the drains are spread over the work.
            wait_until(asker, "mmi.stats", lambda stats, least=before + 500 * turn: stats["answered"] >= least)
            serving.append(start())
            handled += workers.do("stop_worker", worker=serving.pop(0))["handled"]
        outcome = agent.finish(many)[1]
    assert (outcome["ok"], outcome["mismatched"], outcome["errors"]) == (REQUESTS, 0, 0), outcome
    handled += sum(workers.do("stop_worker", worker=name)["handled"] for name in serving)
    assert handled == REQUESTS
