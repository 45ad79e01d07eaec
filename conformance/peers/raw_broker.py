"""A broker that does only what a test tells it, to see what clients and workers do with it: one pyzmq ROUTER."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import zmq

from . import wire
from .raw_client import PATIENCE_MS, Silence
from .sockets import bound_endpoint, open_socket


@dataclass(frozen=True)
class FromPeer:
    """What a peer said: `service` of a request or READY, `body` of a request, PARTIAL or FINAL."""

    peer: bytes
    role: str
    command: str
    service: bytes = b""
    address: bytes = b""
    body: tuple[bytes, ...] = ()


class RawBroker:
    def __init__(self, protocol: str = "0.1", bind: str = "tcp://127.0.0.1:0") -> None:
        self.version = wire.VERSIONS[protocol]
        self.socket = open_socket(zmq.ROUTER)
        self.socket.bind(bind)
        self.endpoint = bound_endpoint(self.socket)

    def recv(self, timeout_ms: int = PATIENCE_MS) -> FromPeer:
        if not self.socket.poll(timeout_ms):
            raise Silence(f"nobody said anything within {timeout_ms} ms")
        peer, *frames = self.socket.recv_multipart()
        return self._read(peer, frames)

    def recv_command(self, command: str, passing_over: Sequence[str] = (wire.HEARTBEAT,)) -> FromPeer:
        """The next message of this kind; only the kinds in `passing_over` may come before it."""
        while True:
            message = self.recv()
            if message.command == command:
                return message
            assert message.command in passing_over, f"expected {command}, got {message}"

    def _read(self, peer: bytes, frames: list[bytes]) -> FromPeer:
        version = self.version
        lead = len(version.lead)
        if tuple(frames[:lead]) != version.lead or len(frames) <= lead:
            raise wire.BadFrames(f"not {version.name}: {frames!r}")
        header, rest = frames[lead], frames[lead + 1 :]
        if header == version.client:
            if version.client_request is not None:
                assert rest.pop(0) == version.client_request, frames
            return FromPeer(peer, "client", wire.REQUEST, service=rest[0], body=tuple(rest[1:]))
        if header != version.worker or not rest:
            raise wire.BadFrames(f"not {version.name}: {frames!r}")
        command = next((c for c, byte in version.worker_commands.items() if byte == rest[0]), None)
        if command == wire.READY and len(rest) == 2:
            return FromPeer(peer, "worker", command, service=rest[1])
        if command in (wire.HEARTBEAT, wire.DISCONNECT) and len(rest) == 1:
            return FromPeer(peer, "worker", command)
        if command in (wire.PARTIAL, wire.FINAL) and len(rest) >= 3 and rest[2] == b"":
            return FromPeer(peer, "worker", command, address=rest[1], body=tuple(rest[3:]))
        raise wire.BadFrames(f"a worker does not send {frames!r}")

    def to_worker(self, peer: bytes, command: str, *frames: bytes) -> None:
        self.socket.send_multipart([peer, *self.version.broker_to_worker(command, *frames)])

    def request(self, peer: bytes, body: Sequence[bytes], address: bytes = b"client-address") -> None:
        self.to_worker(peer, wire.REQUEST, address, b"", *body)

    def answer(self, peer: bytes, service: bytes, body: Sequence[bytes], kind: str = wire.FINAL) -> None:
        self.socket.send_multipart([peer, *self.version.broker_to_client(kind, service, body)])

    def send_frames(self, peer: bytes, frames: Sequence[bytes]) -> None:
        self.socket.send_multipart([peer, *frames])

    def try_recv(self, timeout_ms: int) -> FromPeer | None:
        return self.recv() if self.socket.poll(timeout_ms) else None

    def close(self) -> None:
        self.socket.close(0)

    def __enter__(self) -> RawBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
