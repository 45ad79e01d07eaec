"""The caller's time runs out: while the request waits, and while it runs."""

from __future__ import annotations

import json

import pytest
from agent_process import AgentError, AgentSpec, body_fields, frames_of
from cells import Cells, unique
from stats import wait_for_queued

from peers.x1 import X1Worker

pytestmark = pytest.mark.mdpx
STYLES = ("blocking", "async")


@pytest.mark.parametrize("style", STYLES)
def test_a_request_whose_time_ran_out_in_the_queue_is_a_timeout_and_is_never_started(
    cells: Cells, client_spec: AgentSpec, style: str
) -> None:
    service = unique("late")
    agent, client = cells.client(client_spec, "x1", style)
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service=service, deadline_ms=100, **body_fields([b"too late"]))
    assert (caught.value.kind, caught.value.number, caught.value.retryable) == ("Timeout", 1, True)
    wait_for_queued(cells.broker, service, 0)
    request = agent.start("request", client=client, service=service, **body_fields([b"in time"]))
    with X1Worker(cells.broker.endpoint, service, capacity=2) as worker:
        assert isinstance(worker, X1Worker)
        assert worker.echo_one() == [b"in time"], "the first that it gets"
        agent.finish(request)


@pytest.mark.each_once
@pytest.mark.parametrize("style", STYLES)
def test_a_request_whose_time_ran_out_in_the_handler_is_a_timeout_and_the_handler_is_told(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = cells.service(worker_spec, "x1", style, "wait_cancel")
    worker = cells.agent_of(worker_spec, "worker")
    agent, client = cells.client(client_spec, "x1", style)
    # So long that a busy machine has started the handler by then.
    request = agent.start("request", client=client, service=service, deadline_ms=1000, **body_fields([b"x"]))
    worker.event("holding", worker=service)
    with pytest.raises(AgentError) as caught:
        agent.finish(request)
    assert (caught.value.kind, caught.value.number) == ("Timeout", 1)
    worker.event("cancelled", worker=service)


@pytest.mark.parametrize("style", STYLES)
def test_the_handler_sees_its_attempt_and_what_is_left_of_the_time(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = cells.service(worker_spec, "x1", style, "describe")
    agent, client = cells.client(client_spec, "x1", style)
    for deadline_ms in (10_000, 3_000_000):
        reply = agent.do("request", client=client, service=service, deadline_ms=deadline_ms, **body_fields([b"x"]))
        told = json.loads(frames_of(reply)[0])
        assert told["attempt"] == 1
        # 10 s are what a request may be under way on the busiest machine.
        assert max(0, deadline_ms - 10_000) < told["remaining_ms"] <= deadline_ms
