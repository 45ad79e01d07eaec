"""A client as a stranger writes it: a pyzmq socket and the frames of `wire.py`. It never retries."""

from __future__ import annotations

import os
from collections.abc import Sequence

import zmq

from . import wire
from .sockets import open_socket

# How long a peer waits for what has to come. It only matters when something is lost.
PATIENCE_MS = int(os.environ.get("MAJORDOMO_PATIENCE_MS", "20000"))


class Silence(AssertionError):
    """Nothing came although something had to."""


class RawClient:
    """One socket of one protocol version. `socket_type` REQ is the Guide's way in 0.1; DEALER serves both versions."""

    def __init__(self, endpoint: str, protocol: str = "0.1", socket_type: int = zmq.DEALER) -> None:
        self.version = wire.VERSIONS[protocol]
        self._strips_lead = socket_type == zmq.REQ
        self.socket = open_socket(socket_type)
        self.socket.connect(endpoint)

    def send_frames(self, frames: Sequence[bytes]) -> None:
        self.socket.send_multipart(list(frames))

    def send(self, service: bytes | str, body: Sequence[bytes] = (b"",)) -> None:
        service = service.encode() if isinstance(service, str) else service
        frames = self.version.client_to_broker(service, body)
        self.send_frames(frames[len(self.version.lead) :] if self._strips_lead else frames)

    def recv_frames(self, timeout_ms: int = PATIENCE_MS) -> list[bytes]:
        if not self.socket.poll(timeout_ms):
            raise Silence(f"the client got nothing within {timeout_ms} ms")
        frames = self.socket.recv_multipart()
        return [*self.version.lead, *frames] if self._strips_lead else frames

    def recv(self, timeout_ms: int = PATIENCE_MS) -> wire.Reply:
        return wire.read_reply(self.version, self.recv_frames(timeout_ms))

    def try_recv(self, timeout_ms: int) -> wire.Reply | None:
        try:
            return self.recv(timeout_ms)
        except Silence:
            return None

    def recv_all(self, timeout_ms: int = PATIENCE_MS) -> tuple[list[wire.Reply], wire.Reply]:
        """Partials in order, and the final reply."""
        partials: list[wire.Reply] = []
        while True:
            reply = self.recv(timeout_ms)
            if reply.kind == wire.FINAL:
                return partials, reply
            partials.append(reply)

    def request(self, service: bytes | str, body: Sequence[bytes] = (b"",), timeout_ms: int = PATIENCE_MS) -> wire.Reply:
        self.send(service, body)
        return self.recv(timeout_ms)

    def close(self) -> None:
        self.socket.close(0)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
