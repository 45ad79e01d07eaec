"""Any broker as a process of its own, known only by its command line, its endpoint and its frames."""

from __future__ import annotations

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from peers.raw_client import RawClient

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "conformance"
TARGET = Path(os.environ.get("MAJORDOMO_TARGET_DIR", ROOT / "target/x86_64-unknown-linux-gnu/release"))
GUIDE_BROKER = f"{sys.executable} -m peers.guide_broker --bind {{bind}} --heartbeat-ms {{heartbeat_ms}} --liveness {{liveness}}"
# Scripted workers beat only when their test says so; the default lets them be silent for as long as a test may take.
DEFAULTS = {"heartbeat_ms": 20_000, "liveness": 3}
START_SECONDS = 30


class BrokerCommand:
    """How to start the broker under judgement. `{options}` stands for every option in `mdbroker`'s spelling; without it only
    the placeholders named in the command can be set, and a test that needs another option is skipped."""

    def __init__(self, template: str | None) -> None:
        self.template = template or f"{shlex.quote(str(TARGET / 'mdbroker'))} {{options}}"
        self.is_ours = template is None

    def arguments(self, binds: list[str], options: dict[str, Any]) -> list[str]:
        values = {**DEFAULTS, **options}
        if "{options}" in self.template:
            flags = [f"--bind {bind}" for bind in binds]
            flags += [f"--{key.replace('_', '-')} {shlex.quote(str(value))}" for key, value in values.items()]
            return shlex.split(self.template.replace("{options}", " ".join(flags)))
        for key in options:
            if f"{{{key}}}" not in self.template:
                pytest.skip(f"this broker has no option {key}")
        return shlex.split(self.template.format(bind=binds[0], **values))


class BrokerProcess:
    """A running broker. Its standard output is read to the end; `endpoints` is what it says it listens on."""

    def __init__(self, command: BrokerCommand, bind: Sequence[str] = ("tcp://127.0.0.1:0",), **options: Any) -> None:
        self.command = command
        self.options = options
        arguments = command.arguments(list(bind), options)
        if not Path(arguments[0]).exists():
            pytest.fail(f"{arguments[0]} is not built")
        environment = {**os.environ, "PYTHONPATH": str(CONFORMANCE)}
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.endpoints = [self._wait_for_endpoint() for _ in bind]
        self.endpoint = self.endpoints[0]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def _wait_for_endpoint(self) -> str:
        while True:
            try:
                line = self._lines.get(timeout=START_SECONDS)
            except queue.Empty:
                self.kill()
                pytest.fail("the broker did not say where it listens")
            if line.startswith("listening on "):
                return line.removeprefix("listening on ")
            if line == "" and self.process.poll() is not None:
                pytest.fail(f"the broker ended with status {self.process.returncode} before it listened")

    def client(self, protocol: str = "0.1") -> RawClient:
        return RawClient(self.endpoint, protocol)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def assert_serves(self, protocol: str = "0.1") -> None:
        """It is there and answers, which also means that everything sent earlier on other sockets had its chance."""
        with self.client(protocol) as client:
            answer = client.request("mmi.service", [b"nobody-serves-this"])
        assert answer.body == [b"404"]
        assert self.alive, f"the broker ended with status {self.process.returncode}"

    def restart(self) -> BrokerProcess:
        """Killed without a word, and started again at the same endpoint."""
        self.kill()
        return BrokerProcess(self.command, bind=self.endpoints, **self.options)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(START_SECONDS)

    def kill(self) -> None:
        if self.alive:
            self.process.kill()
        self.process.wait(START_SECONDS)

    def __enter__(self) -> BrokerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
