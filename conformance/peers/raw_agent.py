"""An agent (AGENT.md) made of nothing but pyzmq and the published frames: a stranger in the conformance matrix.

Its worker behaves as a Guide worker: one thread, no heartbeat while the handler runs, a new socket after DISCONNECT or silence.
Its client opens a socket per request under way, retries on a fresh one, and knows a single error, Timeout.
"""

from __future__ import annotations

import threading
import time

import zmq

from . import wire
from .agent import Agent, Failed, Handler, OnPart, Unsupported
from .lines import Body, Command
from .raw_client import RawClient, Silence
from .raw_worker import RawWorker

# What these protocols have no word for.
UNABLE = {"fail", "raise", "describe", "wait_cancel", "retry"}


class Client:
    """Idle sockets wait in a pool; each request has one to itself."""

    def __init__(self, command: Command) -> None:
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

    def call(self, command: Command, body: Body, on_part: OnPart | None = None) -> Body:
        options = {"timeout_ms": 2500, "retries": 3, **self.options, **command}
        end = time.monotonic() + options.get("deadline_ms", options["timeout_ms"] * options["retries"]) / 1000
        for _ in range(options["retries"]):
            socket = self._take()
            try:
                socket.send(command["service"], body.frames)
                joined: list[bytes] = []
                while True:
                    left = int((end - time.monotonic()) * 1000)
                    reply = socket.recv(max(0, min(options["timeout_ms"], left)))
                    if on_part:
                        on_part(Body(reply.body))
                    joined += reply.body
                    if reply.kind == wire.FINAL:
                        break
            except Silence:
                socket.close()
                continue
            with self._lock:
                self._idle.append(socket)
            return Body(joined)
        raise Failed("Timeout", f"no answer from {command['service']!r}")

    def cancel(self, request: int) -> bool:
        return False

    def close(self) -> None:
        with self._lock:
            for socket in self._idle:
                socket.close()
            self._idle.clear()


class InHand:
    """One request, of which the frames say nothing but the body."""

    attempt = 1
    remaining_ms = -1

    def __init__(self, worker: RawWorker, request: wire.ToWorker) -> None:
        self.worker = worker
        self.address = request.address
        self.body = Body(request.body)
        self.cancelled = threading.Event()
        self._kept: list[bytes] = []

    def partial(self, body: Body) -> None:
        if wire.PARTIAL in self.worker.version.worker_commands:
            self.worker.partial(self.address, body.frames)
        else:
            # 0.1 has no parts: all of it is one reply.
            self._kept += body.frames

    def reply(self, body: Body) -> None:
        self.worker.reply(self.address, self._kept + body.frames)


class Worker(threading.Thread):
    """The loop of a Guide worker."""

    def __init__(self, command: Command) -> None:
        if command["behaviour"] in UNABLE:
            raise Unsupported
        super().__init__(daemon=True)
        self.options = {"heartbeat_ms": 2500, "liveness": 3, "reconnect_ms": 2500, **command}
        self.handler = Handler(command)
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
                        request = InHand(worker, message)
                        request.reply(self.handler(request))
                    liveness = self.options["liveness"]
                elif not ready:
                    liveness -= 1
                if time.monotonic() >= next_beat:
                    worker.heartbeat()
                    next_beat = time.monotonic() + heartbeat / 1000
            worker.close()

    def stop(self) -> None:
        self._wake.send(b"")
        self.join()
        self._wake.close()


if __name__ == "__main__":
    Agent("pyzmq", Client, Worker).run()
