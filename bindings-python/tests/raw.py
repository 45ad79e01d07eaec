"""Peers without our code: sockets of pyzmq, and frames typed from the specification (RFC 7, RFC 18)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmq

from scene import PATIENCE

READY, REQUEST, REPLY, HEARTBEAT, DISCONNECT = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
"""Commands between broker and worker in MDP/0.1."""


@contextmanager
def socket(kind: int) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(kind)
    socket.linger = 0
    socket.rcvtimeo = int(PATIENCE * 1000)
    try:
        yield socket
    finally:
        socket.close()
        context.term()


class RawBroker:
    """A ROUTER that a test plays the broker with."""

    def __init__(self, router: zmq.Socket[bytes]) -> None:
        self.router = router
        self.endpoint = f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}"

    def receive(self) -> list[bytes]:
        return self.router.recv_multipart()

    def receive_command(self, command: bytes) -> list[bytes]:
        """Receive what a worker says, but for heartbeats unless they are asked for: it must be this command."""
        while True:
            worker, empty, header, said, *rest = self.receive()
            assert (empty, header) == (b"", b"MDPW01")
            if said == command:
                return [worker, *rest]
            assert said == HEARTBEAT

    def send(self, *frames: bytes) -> None:
        self.router.send_multipart(frames)
