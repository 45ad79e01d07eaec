"""How often a request is run, and what travels with it."""

from __future__ import annotations

import json

import pytest
from agent_process import Agent, AgentError, AgentSpec, body_fields, describes, frames_of, properties_of
from cells import Cells, start_worker, unique
from stats import service_entry, wait_until

pytestmark = pytest.mark.mdpx
STYLES = ("blocking", "async")
PROPERTIES = {
    "content-type": b"application/json; charset=utf-8",
    "traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "idempotency-key": b"order-4711",
    "x-application": bytes(range(256)),
    "x-empty": b"",
}


@pytest.mark.parametrize("style", STYLES)
def test_properties_reach_the_handler_and_come_back_with_its_reply(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = cells.service(worker_spec, "x1", style, "describe")
    agent, client = cells.client(client_spec, "x1", style)
    reply = agent.do("request", client=client, service=service, **body_fields([b"x"], PROPERTIES))
    for seen in (json.loads(frames_of(reply)[0]), reply):
        assert properties_of(seen) == PROPERTIES
    assert "properties" not in agent.do("request", client=client, service=service, **body_fields([b"x"])), "none of others"


@pytest.mark.parametrize("style", STYLES)
def test_a_retryable_failure_is_the_callers_when_no_attempt_is_left(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = cells.service(worker_spec, "x1", style, "retry", succeed_at=2)
    agent, client = cells.client(client_spec, "x1", style)
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service=service, max_attempts=1, **body_fields([b"x"]))
    assert (caught.value.kind, caught.value.service_code, caught.value.retryable) == ("ServiceError", 503, True)
    reply = agent.do("request", client=client, service=service, max_attempts=2, **body_fields([b"x"]))
    assert describes(reply, [b"x"])


@pytest.mark.each_once
@pytest.mark.parametrize("style", STYLES)
def test_a_retryable_failure_goes_to_another_worker(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = unique("retried")
    worker = cells.agent_of(worker_spec, "worker")
    names = [
        start_worker(worker, cells.broker, service=service, protocol="x1", style=style, behaviour="retry", succeed_at=2)
        for _ in range(2)
    ]
    with cells.broker.client() as asker:
        wait_until(asker, "mmi.services", lambda report: service_entry(report, service).get("workers") == 2)
    agent, client = cells.client(client_spec, "x1", style)
    assert describes(agent.do("request", client=client, service=service, **body_fields([b"x"])), [b"x"])
    assert [worker.do("stop_worker", worker=name)["handled"] for name in names] == [1, 1]


@pytest.mark.our_worker
@pytest.mark.each_once
@pytest.mark.parametrize("style", STYLES)
def test_any_other_failure_is_the_callers_at_once(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = unique("failed")
    worker = cells.agent_of(worker_spec, "worker")
    names = [
        start_worker(worker, cells.broker, service=service, protocol="x1", style=style, behaviour="fail", code=7, text="no")
        for _ in range(2)
    ]
    agent, client = cells.client(client_spec, "x1", style)
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service=service, max_attempts=5, **body_fields([b"x"]))
    assert (caught.value.service_code, caught.value.text, caught.value.retryable) == (7, "no", False)
    assert sum(worker.do("stop_worker", worker=name)["handled"] for name in names) == 1


@pytest.mark.each_once
@pytest.mark.parametrize("style", STYLES)
def test_a_request_of_one_attempt_is_not_run_again_when_its_worker_is_killed(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = unique("once")
    agent, client = cells.client(client_spec, "x1", style)
    with Agent(worker_spec) as victim:
        start_worker(victim, cells.broker, service=service, protocol="x1", style=style, behaviour="hold")
        request = agent.start("request", client=client, service=service, max_attempts=1, **body_fields([b"once"]))
        victim.event("holding", handled=1)
        # Somebody who could take it is there already.
        other = cells.agent_of(worker_spec, "worker")
        name = start_worker(other, cells.broker, service=service, protocol="x1", style=style, behaviour="echo")
        with cells.broker.client() as asker:
            wait_until(asker, "mmi.services", lambda report: service_entry(report, service).get("workers") == 2)
        victim.kill()
    with pytest.raises(AgentError) as caught:
        agent.finish(request)
    assert (caught.value.kind, caught.value.number) == ("WorkerLost", 5)
    assert other.do("stop_worker", worker=name)["handled"] == 0


@pytest.mark.parametrize("style", STYLES)
def test_a_caller_in_a_hurry_hears_at_once_that_there_is_no_worker(cells: Cells, client_spec: AgentSpec, style: str) -> None:
    agent, client = cells.client(client_spec, "x1", style)
    service = unique("nobody")
    with pytest.raises(AgentError) as caught:
        agent.do("request", client=client, service=service, fail_fast=True, **body_fields([b"x"]))
    assert (caught.value.kind, caught.value.number, caught.value.retryable) == ("NoWorker", 2, True)
    served = cells.service(client_spec, "x1", style, "echo")
    with cells.broker.client() as asker:
        wait_until(asker, "mmi.services", lambda report: service_entry(report, served).get("workers") == 1)
    assert describes(agent.do("request", client=client, service=served, fail_fast=True, **body_fields([b"x"])), [b"x"])


@pytest.mark.our_worker
@pytest.mark.each_once
@pytest.mark.parametrize("style", STYLES)
def test_a_kept_outcome_answers_the_same_key_without_running_the_handler(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = unique("kept")
    worker = cells.agent_of(worker_spec, "worker")
    name = start_worker(
        worker, cells.broker, service=service, protocol="x1", style=style, behaviour="echo", keep_outcomes=2
    )  # fmt: skip
    agent, client = cells.client(client_spec, "x1", style)

    def ask(key: bytes, body: bytes) -> list[bytes]:
        fields = body_fields([body], {"idempotency-key": key})
        return frames_of(agent.do("request", client=client, service=service, **fields))

    assert ask(b"one", b"first") == [b"first"]
    assert ask(b"one", b"second") == [b"first"], "what the handler said the first time"
    assert ask(b"two", b"third") == [b"third"]
    assert ask(b"three", b"fourth") == [b"fourth"]
    assert ask(b"one", b"fifth") == [b"fifth"], "two are kept, and two came since"
    assert worker.do("stop_worker", worker=name)["handled"] == 4
