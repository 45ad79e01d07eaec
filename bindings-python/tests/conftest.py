"""Fixtures: a real broker, a client, an echoing worker, scripts in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import pytest

import majordomo
from scene import PATIENCE, Script, echo, serving


@pytest.fixture
def broker() -> Iterator[majordomo.Broker]:
    with majordomo.Broker("tcp://127.0.0.1:0") as broker:
        yield broker


@pytest.fixture
def client(broker: majordomo.Broker) -> Iterator[majordomo.Client]:
    with majordomo.Client(broker.endpoint, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def echoing(broker: majordomo.Broker) -> Iterator[majordomo.Worker]:
    with serving(broker.endpoint, "echo", echo) as worker:
        yield worker


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    scripts: list[Script] = []

    def start(code: str, *arguments: str) -> Script:
        scripts.append(Script(code, *arguments))
        return scripts[-1]

    yield start
    for script in scripts:
        if script.process.poll() is None:
            script.process.kill()
        script.process.communicate()
