"""The command mdbroker, which comes with the wheel."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import majordomo
from scene import PATIENCE, echo, serving

COMMANDS = [[str(Path(sys.executable).parent / "mdbroker")], [sys.executable, "-m", "majordomo"]]


@pytest.fixture(params=COMMANDS, ids=["mdbroker", "python -m majordomo"])
def command(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*request.param, "--bind", "tcp://127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_ends_cleanly_on_a_signal(command: subprocess.Popen[str], sent: signal.Signals) -> None:
    assert command.stdout is not None
    listening = re.fullmatch(r"listening on (tcp://127\.0\.0\.1:\d+)\n", command.stdout.readline())
    assert listening is not None
    with serving(listening[1], "echo", echo), majordomo.Client(listening[1], timeout=PATIENCE) as client:
        assert client.request("echo", "hi") == [b"hi"]
    command.send_signal(sent)
    _, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, errors
    assert "Traceback" not in errors


def test_bad_arguments_give_a_status_and_a_sentence() -> None:
    run = subprocess.run([*COMMANDS[1], "--no-such-option"], capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode != 0
    assert "no-such-option" in run.stderr
    assert "Traceback" not in run.stderr
