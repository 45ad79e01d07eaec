"""A caller gives up, in the way of its language: the request leaves the queue, or the handler is told."""

from __future__ import annotations

from typing import Any

import pytest
from agent_process import Agent, AgentError, AgentSpec, body_fields, describes
from cells import Cells, start_worker, unique
from stats import service_entry, wait_for_queued, wait_until

from peers.x1 import X1Worker

pytestmark = pytest.mark.mdpx
STYLES = ("blocking", "async")


def holds(report: list[dict[str, Any]], service: str) -> list[tuple[str, int]]:
    """Of each worker of the service its state, and how many requests it holds."""
    return [(worker["state"], worker["in_flight"]) for worker in report if worker["service"] == service]


def give_up(agent: Agent, request: int) -> None:
    """Cancels a request or a stream, of which the caller then hears that and nothing else."""
    agent.do("cancel", request=request)
    with pytest.raises(AgentError) as caught:
        agent.finish(request)
    assert (caught.value.kind, caught.value.number, caught.value.retryable) == ("Cancelled", 7, False)


@pytest.mark.parametrize("style", STYLES)
def test_the_handler_sees_that_its_caller_has_given_up(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = cells.service(worker_spec, "x1", style, "wait_cancel")
    worker = cells.agent_of(worker_spec, "worker")
    agent, client = cells.client(client_spec, "x1", "async")
    for command in ("request", "stream"):
        request = agent.start(command, client=client, service=service, **body_fields([b"x"]))
        worker.event("holding", worker=service)
        give_up(agent, request)
        worker.event("cancelled", worker=service)


@pytest.mark.parametrize("style", STYLES)
def test_the_handler_sees_that_its_caller_has_given_a_stream_up_after_a_part(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = cells.service(worker_spec, "x1", style, "wait_cancel", part_first=True)
    worker = cells.agent_of(worker_spec, "worker")
    agent, client = cells.client(client_spec, "x1", "async")
    request = agent.start("stream", client=client, service=service, **body_fields([b"a", b"part"]))
    assert describes(agent.next_part(request), [b"a", b"part"])
    worker.event("holding", worker=service)
    give_up(agent, request)
    worker.event("cancelled", worker=service)


@pytest.mark.each_once
@pytest.mark.parametrize("style", STYLES)
def test_the_handler_sees_that_its_caller_has_left_a_stream_after_a_part(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    """Which is no error, and the client serves on."""
    service = cells.service(worker_spec, "x1", style, "wait_cancel", part_first=True)
    echo = cells.service(worker_spec, "x1", style, "echo")
    worker = cells.agent_of(worker_spec, "worker")
    agent, client = cells.client(client_spec, "x1", style)
    parts, end = agent.finish(agent.start("stream", client=client, service=service, leave_after=1, **body_fields([b"part"])))
    assert end["parts"] == len(parts) == 1 and describes(parts[0], [b"part"])
    worker.event("holding", worker=service)
    worker.event("cancelled", worker=service)
    assert describes(agent.do("request", client=client, service=echo, **body_fields([b"x"])), [b"x"])


@pytest.mark.parametrize("style", STYLES)
def test_a_worker_serves_on_after_a_cancelled_request(cells: Cells, worker_spec: AgentSpec, style: str) -> None:
    """What its handler answers to the one that was given up is no answer to the next."""
    service = cells.service(worker_spec, "x1", style, "wait_cancel")
    worker = cells.agent_of(worker_spec, "worker")
    agent, client = cells.client(worker_spec, "x1", "async")
    held = agent.start("request", client=client, service=service, **body_fields([b"0"]))
    for number in range(1, 4):
        worker.event("holding", worker=service)
        following = agent.start("request", client=client, service=service, **body_fields([b"%d" % number]))
        give_up(agent, held)
        worker.event("cancelled", worker=service)
        held = following
    worker.event("holding", worker=service)
    give_up(agent, held)
    worker.event("cancelled", worker=service)
    with cells.broker.client() as asker:
        wait_until(asker, "mmi.services", lambda report: service_entry(report, service).get("in_flight", 0) == 0)


def test_a_cancelled_request_in_the_queue_never_reaches_a_worker(cells: Cells, client_spec: AgentSpec) -> None:
    service = unique("queued")
    agent, client = cells.client(client_spec, "x1", "async")
    bodies = [[b"given up"], [b"wanted"]]
    requests = [agent.start("request", client=client, service=service, **body_fields(body)) for body in bodies]
    wait_for_queued(cells.broker, service, 2)
    give_up(agent, requests[0])
    wait_for_queued(cells.broker, service, 1)
    with X1Worker(cells.broker.endpoint, service, capacity=2) as worker:
        assert isinstance(worker, X1Worker)
        assert worker.echo_one() == [b"wanted"], "the first that it gets"
        assert describes(agent.finish(requests[1])[1], [b"wanted"])


@pytest.mark.our_worker
@pytest.mark.each_once
@pytest.mark.parametrize("style", STYLES)
def test_a_cancelled_request_that_waits_in_its_worker_is_not_started(
    cells: Cells, client_spec: AgentSpec, worker_spec: AgentSpec, style: str
) -> None:
    service = unique("at-hand")
    worker = cells.agent_of(worker_spec, "worker")
    start_worker(
        worker, cells.broker, worker=service, service=service, protocol="x1", style=style, behaviour="hold", prefetch=4
    )  # fmt: skip
    agent, client = cells.client(client_spec, "x1", "async")
    bodies = [[b"running"], [b"given up"], [b"wanted"]]
    requests = [agent.start("request", client=client, service=service, **body_fields(bodies[0]))]
    worker.event("holding", worker=service, handled=1)
    requests += [agent.start("request", client=client, service=service, **body_fields(body)) for body in bodies[1:]]
    with cells.broker.client() as asker:
        wait_until(asker, "mmi.services", lambda report: service_entry(report, service)["in_flight"] == 3)
        give_up(agent, requests[1])
        # The worker has been told and has let go of it: it holds two, and none that nobody waits for.
        wait_until(asker, "mmi.workers", lambda report: holds(report, service) == [("busy", 2)])
    worker.do("release", worker=service)
    for request, body in zip((requests[0], requests[2]), (bodies[0], bodies[2]), strict=True):
        assert describes(agent.finish(request)[1], body)
    assert worker.do("stop_worker", worker=service)["handled"] == 2
