"""What the tests stand on: workers on threads, calls on threads, scripts in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import majordomo

PATIENCE = 30.0
"""Seconds after which a test gives up. It is never the time that something takes."""


@contextmanager
def serving(endpoint: str, service: str, handler: Any, **options: Any) -> Iterator[majordomo.Worker]:
    """A worker on a thread, which has ended when the block ends."""
    worker = majordomo.Worker(endpoint, service, **options)
    thread = threading.Thread(target=worker.serve, args=[handler])
    thread.start()
    try:
        yield worker
    finally:
        worker.drain()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def echo(request: majordomo.Request) -> majordomo.Message:
    return request.body


def until(holds: Callable[[], bool]) -> None:
    """Ask the broker again and again until something holds; each question is a round trip of its own."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end


class Script:
    """A program in a process of its own, which tells of its progress in lines and may import what is in this folder."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            _, errors = self.process.communicate(timeout=PATIENCE)
            raise AssertionError(f"the script ended: {errors}")
        return line.rstrip("\n")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; the status, and what was written since the last line that was read."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, errors


def in_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    """Start a function on a thread; call the result to wait for its outcome."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = function()
        except BaseException as failure:
            outcome["failure"] = failure

    # A daemon: one that never returns fails its test and does not keep the tests from ending.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join(PATIENCE)
        assert not thread.is_alive()
        if "failure" in outcome:
            raise outcome["failure"]
        return outcome["value"]

    return wait
