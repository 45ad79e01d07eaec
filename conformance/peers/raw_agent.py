"""An agent (AGENT.md) made of nothing but pyzmq and the published frames: a stranger in the conformance matrix.

Its worker behaves as a Guide worker: one thread, no heartbeat while the handler runs, a new socket after DISCONNECT or silence.
Its client opens a socket per request under way, retries on a fresh one, and knows a single error, Timeout.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from . import wire
from .raw_client import RawClient, Silence
from .raw_worker import RawWorker

_output = threading.Lock()


def emit(event: str, **fields: Any) -> None:
    with _output:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()


def made_frame(size: int, seed: int, k: int) -> bytes:
    period = bytes((seed + k + i) % 256 for i in range(251))
    return (period * (size // 251 + 1))[:size]


def body_of(command: dict[str, Any]) -> list[bytes]:
    if "body" in command:
        return [base64.b64decode(frame) for frame in command["body"]]
    seed = command.get("seed", 0)
    return [made_frame(command["size"], seed, k) for k in range(command.get("frames", 1))]


def described(frames: Sequence[bytes]) -> dict[str, Any]:
    small = sum(map(len, frames)) <= 65536
    return {
        "sizes": [len(frame) for frame in frames],
        "crc32": [zlib.crc32(frame) for frame in frames],
        "body": [base64.b64encode(frame).decode() for frame in frames] if small else None,
    }


class TimedOut(Exception):
    """No answer within all attempts."""


class Client:
    """Idle sockets wait in a pool; each request has one to itself."""

    def __init__(self, command: dict[str, Any]) -> None:
        self.endpoint = command["endpoint"].split(",")[0]
        self.protocol = command["protocol"]
        self.options = command
        self._idle: list[RawClient] = []
        self._lock = threading.Lock()

    def _take(self) -> RawClient:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return RawClient(self.endpoint, self.protocol)

    def call(
        self, command: dict[str, Any], body: Sequence[bytes], on_part: Callable[[list[bytes]], None] | None = None
    ) -> list[bytes]:
        options = {"timeout_ms": 2500, "retries": 3, **self.options, **command}
        end = time.monotonic() + options.get("deadline_ms", options["timeout_ms"] * options["retries"]) / 1000
        for _ in range(options["retries"]):
            socket = self._take()
            try:
                socket.send(command["service"], body)
                joined: list[bytes] = []
                while True:
                    left = int((end - time.monotonic()) * 1000)
                    reply = socket.recv(max(0, min(options["timeout_ms"], left)))
                    if on_part:
                        on_part(reply.body)
                    joined += reply.body
                    if reply.kind == wire.FINAL:
                        break
            except Silence:
                socket.close()
                continue
            with self._lock:
                self._idle.append(socket)
            return joined
        raise TimedOut(f"no answer from {command['service']!r}")

    def close(self) -> None:
        with self._lock:
            for socket in self._idle:
                socket.close()
            self._idle.clear()


class Worker(threading.Thread):
    """The loop of a Guide worker."""

    def __init__(self, command: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.options = {"heartbeat_ms": 2500, "liveness": 3, "reconnect_ms": 2500, **command}
        self.handled = 0
        self.released = threading.Event()
        self._wake: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        self._wake.bind(f"inproc://stop-{id(self)}")

    def run(self) -> None:
        stop: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        stop.connect(f"inproc://stop-{id(self)}")
        heartbeat = self.options["heartbeat_ms"]
        while True:
            worker = RawWorker(self.options["endpoint"], self.options["service"], self.options["protocol"])
            liveness = self.options["liveness"]
            poller = zmq.Poller()
            poller.register(worker.socket, zmq.POLLIN)
            poller.register(stop, zmq.POLLIN)
            next_beat = time.monotonic() + heartbeat / 1000
            while liveness:
                ready = dict(poller.poll(heartbeat))
                if stop in ready:
                    worker.leave()
                    stop.close()
                    return
                if worker.socket in ready:
                    message = worker.recv_any()
                    if message.command == wire.DISCONNECT:
                        break
                    if message.command == wire.REQUEST:
                        self.answer(worker, message)
                    liveness = self.options["liveness"]
                elif not ready:
                    liveness -= 1
                if time.monotonic() >= next_beat:
                    worker.heartbeat()
                    next_beat = time.monotonic() + heartbeat / 1000
            worker.close()

    def answer(self, worker: RawWorker, request: wire.ToWorker) -> None:
        self.handled += 1
        behaviour, body = self.options["behaviour"], request.body
        if behaviour == "stream":
            for frame in body:
                worker.partial(request.address, [frame])
            body = [b"END"]
        elif behaviour == "reverse":
            body = body[::-1]
        elif behaviour == "name":
            body = [self.options["worker"].encode()]
        elif behaviour == "hold":
            emit("holding", worker=self.options["worker"], handled=self.handled)
            self.released.wait()
        elif behaviour == "spin":
            end = time.monotonic() + self.options["spin_ms"] / 1000
            while time.monotonic() < end:
                pass
        worker.reply(request.address, body)

    def stop(self) -> int:
        self._wake.send(b"")
        self.join()
        self._wake.close()
        return self.handled


class Agent:
    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self.workers: dict[str, Worker] = {}

    def open_client(self, command: dict[str, Any]) -> None:
        self.clients[command["client"]] = Client(command)
        emit("ok", id=command["id"])

    def close_client(self, command: dict[str, Any]) -> None:
        self.clients.pop(command["client"]).close()
        emit("ok", id=command["id"])

    def request(self, command: dict[str, Any]) -> None:
        body = self.clients[command["client"]].call(command, body_of(command))
        emit("reply", id=command["id"], **described(body))

    def stream(self, command: dict[str, Any]) -> None:
        parts = []

        def on_part(body: list[bytes]) -> None:
            parts.append(body)
            emit("part", id=command["id"], **described(body))

        self.clients[command["client"]].call(command, body_of(command), on_part)
        emit("end", id=command["id"], parts=len(parts))

    def request_many(self, command: dict[str, Any]) -> None:
        client = self.clients[command["client"]]
        numbers = iter(range(command["count"]))
        counts = {"ok": 0, "mismatched": 0, "errors": 0}
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                body = [b"%d" % number, made_frame(command["size"], number, 0)]
                try:
                    outcome = "ok" if client.call(command, body) == body else "mismatched"
                except TimedOut:
                    outcome = "errors"
                with lock:
                    counts[outcome] += 1

        threads = [threading.Thread(target=work) for _ in range(command["concurrency"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        first = {"first_error": "Timeout"} if counts["errors"] else {}
        emit("many", id=command["id"], **counts, **first)

    def start_worker(self, command: dict[str, Any]) -> None:
        unable = {"fail", "raise"} | ({"stream"} if command["protocol"] == "0.1" else set())
        if command["behaviour"] in unable:
            emit("failed", id=command["id"], text="unsupported")
            return
        worker = self.workers[command["worker"]] = Worker(command)
        worker.start()
        emit("ok", id=command["id"])

    def release(self, command: dict[str, Any]) -> None:
        self.workers[command["worker"]].released.set()
        emit("ok", id=command["id"])

    def worker_stats(self, command: dict[str, Any]) -> None:
        emit("ok", id=command["id"], handled=self.workers[command["worker"]].handled)

    def stop_worker(self, command: dict[str, Any]) -> None:
        handled = self.workers[command["worker"]].stop()
        del self.workers[command["worker"]]
        emit("ok", id=command["id"], handled=handled)

    def ping(self, command: dict[str, Any]) -> None:
        emit("ok", id=command["id"])

    def unsupported(self, command: dict[str, Any]) -> None:
        emit("failed", id=command["id"], text="unsupported")

    start_broker = stop_broker = unsupported

    BESIDE = {"request", "request_many", "stream", "stop_worker", "close_client"}

    def run(self) -> None:
        emit("hello", language="pyzmq", agent=1)
        for line in sys.stdin:
            command = json.loads(line)
            if command["cmd"] == "quit":
                break
            if command["cmd"] in self.BESIDE:
                threading.Thread(target=self.perform, args=(command,), daemon=True).start()
            else:
                self.perform(command)
        else:
            command = None
        for worker in list(self.workers.values()):
            worker.released.set()
            worker.stop()
        for client in self.clients.values():
            client.close()
        if command:
            emit("ok", id=command["id"])

    def perform(self, command: dict[str, Any]) -> None:
        try:
            getattr(self, command["cmd"])(command)
        except TimedOut as problem:
            emit("error", id=command["id"], kind="Timeout", number=1, text=str(problem))
        except Exception as problem:  # the driver has to hear of everything
            emit("failed", id=command["id"], text=repr(problem))


if __name__ == "__main__":
    Agent().run()
