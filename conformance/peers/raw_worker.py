"""A worker as a stranger writes it: a pyzmq DEALER, stepped by hand so that a test decides what it does and leaves undone."""

from __future__ import annotations

import time
from collections.abc import Sequence

import zmq

from . import wire
from .raw_client import PATIENCE_MS, Silence
from .sockets import open_socket


class RawWorker:
    """Registers one service on one socket. It beats while it waits if `beat_ms` says so, and otherwise only when told to, as
    a Guide worker whose handler is running."""

    def __init__(self, endpoint: str, service: bytes | str, protocol: str = "0.1", ready: bool = True, beat_ms: int = 0) -> None:
        self.beat_ms = beat_ms
        self._next_beat = time.monotonic() + beat_ms / 1000
        self.version = wire.VERSIONS[protocol]
        self.service = service.encode() if isinstance(service, str) else service
        self.socket = open_socket(zmq.DEALER)
        self.socket.connect(endpoint)
        if ready:
            self.ready()

    def send_frames(self, frames: Sequence[bytes]) -> None:
        self.socket.send_multipart(list(frames))

    def send(self, command: str, *frames: bytes) -> None:
        self.send_frames(self.version.worker_to_broker(command, *frames))

    def ready(self, service: bytes | None = None) -> None:
        self.send(wire.READY, self.service if service is None else service)

    def reply(self, address: bytes, body: Sequence[bytes]) -> None:
        self.send(wire.FINAL, address, b"", *body)

    def partial(self, address: bytes, body: Sequence[bytes]) -> None:
        self.send(wire.PARTIAL, address, b"", *body)

    def heartbeat(self) -> None:
        self.send(wire.HEARTBEAT)

    def disconnect(self) -> None:
        self.send(wire.DISCONNECT)

    def recv_frames(self, timeout_ms: int = PATIENCE_MS) -> list[bytes]:
        if not self._poll(timeout_ms):
            raise Silence(f"the worker of {self.service!r} got nothing within {timeout_ms} ms")
        return self.socket.recv_multipart()

    def _poll(self, timeout_ms: int) -> int:
        if not self.beat_ms:
            return self.socket.poll(timeout_ms)
        end = time.monotonic() + timeout_ms / 1000
        while True:
            now = time.monotonic()
            if now >= self._next_beat:
                self.heartbeat()
                self._next_beat = now + self.beat_ms / 1000
            if self.socket.poll(max(1, int(1000 * (min(self._next_beat, end) - now)))):
                return 1
            if now > end:
                return 0

    def recv_any(self, timeout_ms: int = PATIENCE_MS) -> wire.ToWorker:
        return wire.read_to_worker(self.version, self.recv_frames(timeout_ms))

    def recv(self, timeout_ms: int = PATIENCE_MS) -> wire.ToWorker:
        """The next message that is not a heartbeat."""
        end = time.monotonic() + timeout_ms / 1000
        while True:
            message = self.recv_any(timeout_ms)
            if message.command != wire.HEARTBEAT:
                return message
            if time.monotonic() > end:
                raise Silence(f"the worker of {self.service!r} got only heartbeats for {timeout_ms} ms")

    def recv_request(self, timeout_ms: int = PATIENCE_MS) -> wire.ToWorker:
        message = self.recv(timeout_ms)
        assert message.command == wire.REQUEST, f"expected a request, got {message}"
        return message

    def recv_disconnect(self, timeout_ms: int = PATIENCE_MS) -> None:
        message = self.recv(timeout_ms)
        assert message.command == wire.DISCONNECT, f"expected DISCONNECT, got {message}"

    def echo_one(self, timeout_ms: int = PATIENCE_MS) -> list[bytes]:
        message = self.recv_request(timeout_ms)
        self.reply(message.address, message.body)
        return message.body

    def answer_beats(self, count: int) -> None:
        """Answers so many of the broker's heartbeats with one each. As nothing else is sent, and the worker is not heard
        beating faster than the broker, this lets the broker live through so many of its own intervals."""
        for _ in range(count):
            message = self.recv_any()
            assert message.command == wire.HEARTBEAT, f"expected HEARTBEAT, got {message}"
            self.heartbeat()

    def close(self) -> None:
        """Closes at once, saying nothing: to the broker this is a death."""
        self.socket.close(0)

    def leave(self) -> None:
        """A proper goodbye; the linger lets the last frames out."""
        self.disconnect()
        self.socket.close(2000)

    def __enter__(self) -> RawWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
