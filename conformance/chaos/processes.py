"""The processes: agents in asyncio (AGENT.md), the broker, the proxy. Their standard errors go to files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent_process import CLOSING, AgentSpec
from broker_process import CONFORMANCE, TARGET

LINE_BYTES = 1 << 20
# Nothing that a process is asked takes this long, however busy the machine is.
PATIENCE_SECONDS = 60
Event = dict[str, Any]


class Gone(Exception):
    """The process ended before it answered."""


async def start(command: list[str] | tuple[str, ...], log: Path) -> Process:
    environment = {**os.environ, "PYTHONPATH": str(CONFORMANCE), "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as stderr:
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=stderr, env=environment, limit=LINE_BYTES
        )


class Agent:
    """A running agent. What belongs to no command goes to `on_event`, its end to `on_end`."""

    def __init__(self, process: Process, on_event: Callable[[Event], None], on_end: Callable[[], None]) -> None:
        self.process = process
        self.on_event = on_event
        self.on_end = on_end
        self.ids = 0
        self.waiting: dict[int, asyncio.Future[Event]] = {}
        self.hello: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self.reader = asyncio.create_task(self.read())

    @classmethod
    async def start(cls, spec: AgentSpec, log: Path, on_event: Callable[[Event], None], on_end: Callable[[], None]) -> Agent:
        agent = cls(await start(spec.command, log), on_event, on_end)
        await asyncio.wait_for(asyncio.shield(agent.hello), PATIENCE_SECONDS)
        return agent

    async def read(self) -> None:
        """Every event gets the moment when it was read, `at`."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if not line.endswith(b"\n"):
                # It was killed in the middle of a line.
                break
            event = json.loads(line)
            event["at"] = time.monotonic()
            if event["event"] == "hello":
                self.hello.set_result(event)
            elif event["event"] in CLOSING and (answer := self.waiting.pop(event["id"], None)):
                answer.set_result(event)
            else:
                self.on_event(event)
        for answer in [*self.waiting.values(), self.hello]:
            if not answer.done():
                answer.set_exception(Gone())
                answer.exception()
        self.waiting.clear()
        self.on_end()

    def ask(self, cmd: str, **fields: Any) -> asyncio.Future[Event]:
        """Gives a command; the future is its closing event, or `Gone`."""
        self.ids += 1
        answer = asyncio.get_running_loop().create_future()
        if self.reader.done():
            answer.set_exception(Gone())
            return answer
        self.waiting[self.ids] = answer
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"cmd": cmd, "id": self.ids, **fields}).encode() + b"\n")
        return answer

    async def end(self) -> int:
        """A proper end; its exit status."""
        try:
            await asyncio.wait_for(self.ask("quit"), PATIENCE_SECONDS)
            return await asyncio.wait_for(self.process.wait(), PATIENCE_SECONDS)
        finally:
            kill(self.process)


class Broker:
    """`mdbroker`, always at the same endpoint."""

    def __init__(self, options: dict[str, Any], log: Path) -> None:
        self.options = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        self.log = log
        self.port = lasting_port()
        self.process: Process | None = None

    async def start(self) -> None:
        bind = f"tcp://127.0.0.1:{self.port}"
        self.process = await start([str(TARGET / "mdbroker"), "--bind", bind, *self.options], self.log)
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_SECONDS)).decode()
        if not line.startswith("listening on "):
            raise Gone(f"the broker did not listen; see {self.log}")

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"


def lasting_port() -> int:
    """A free port that the kernel gives to nobody. Of the others, one that a peer connects to while no broker is there may become
    that peer's own, which is then connected to itself and leaves the broker no place."""
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = list(range(max(1025, lowest_given - 10_000), lowest_given))
    random.shuffle(ports)
    for port in ports:
        with contextlib.suppress(OSError), socket.socket() as candidate:
            candidate.bind(("127.0.0.1", port))
            return port
    raise OSError("no port below those that the kernel gives is free")


class Proxy:
    """The program of `proxy.py`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: Process | None = None

    async def start(self, broker_port: int) -> None:
        self.process = await start([sys.executable, "-m", "chaos.proxy", str(broker_port)], self.log)

    def do(self, *words: str) -> None:
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(" ".join(words).encode() + b"\n")

    async def open(self, name: str) -> str:
        self.do("open", name)
        assert self.process is not None and self.process.stdout is not None
        port = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_SECONDS)
        return f"tcp://127.0.0.1:{int(port)}"


def kill(process: Process | None) -> float:
    """SIGKILL, and when that was."""
    moment = time.monotonic()
    send(process, signal.SIGKILL)
    return moment


def send(process: Process | None, number: signal.Signals) -> None:
    if process is not None and process.returncode is None:
        process.send_signal(number)


def starve(process: Process) -> Callable[[], None]:
    """Lowers the limit of descriptors so that the process can open none; the result gives it back."""
    present = {int(name) for name in os.listdir(f"/proc/{process.pid}/fd")}
    lowest_free = next(number for number in range(len(present) + 1) if number not in present)
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (lowest_free, hard))

    def feed() -> None:
        if process.returncode is None:
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))

    return feed
