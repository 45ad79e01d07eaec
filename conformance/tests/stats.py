"""Waiting for what the broker itself reports: `mmi.stats`, `mmi.services`, `mmi.workers`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from broker_process import BrokerProcess

from peers.raw_client import PATIENCE_MS, RawClient

# Between two questions the broker gets this long; it is no measure of anything.
PAUSE_SECONDS = 0.02


def ask(client: RawClient, service: str) -> Any:
    """The JSON of an mmi service; a broker that has no such service skips the test."""
    answer = client.request(service, [b""]).body
    if answer == [b"501"]:
        pytest.skip(f"this broker has no {service}")
    assert answer[0] == b"200", answer
    assert len(answer) == 2, answer
    return json.loads(answer[1])


def wait_until(client: RawClient, service: str, holds: Callable[[Any], bool]) -> Any:
    report = None
    for _ in range(int(PATIENCE_MS / 1000 / PAUSE_SECONDS)):
        report = ask(client, service)
        if holds(report):
            return report
        threading.Event().wait(PAUSE_SECONDS)
    return pytest.fail(f"{service} never said what was waited for; at last {report}")


def wait_for_stat(client: RawClient, name: str, at_least: int) -> dict[str, Any]:
    return wait_until(client, "mmi.stats", lambda stats: stats[name] >= at_least)  # type: ignore[no-any-return]


def service_entry(report: list[dict[str, Any]], service: str) -> dict[str, Any]:
    return next((entry for entry in report if entry["name"] == service), {})


def wait_for_queued(broker: BrokerProcess, service: str, count: int) -> None:
    """Until exactly so many requests wait for the service, as far as the broker can say."""
    with broker.client() as client:
        if client.request("mmi.services", [b""]).body == [b"501"]:
            return
        wait_until(client, "mmi.services", lambda report: service_entry(report, service).get("queued", 0) == count)


def wait_for_beat(broker: BrokerProcess, service: str) -> None:
    """Until the service's one worker has been heard once more, as far as the broker can say."""
    silent = -1

    def is_heard(report: list[dict[str, Any]]) -> bool:
        nonlocal silent
        before, silent = silent, next(worker["silent_ms"] for worker in report if worker["service"] == service)
        return silent < before

    with broker.client() as client:
        if client.request("mmi.workers", [b""]).body != [b"501"]:
            wait_until(client, "mmi.workers", is_heard)
