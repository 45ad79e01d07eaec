"""A broker of MDPX/1 that does only what a test tells it, to see what clients and workers do with it: one pyzmq ROUTER."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import zmq

from . import x1
from .lines import Body
from .raw_client import PATIENCE_MS, Silence
from .sockets import bound_endpoint, open_socket

MAX_MESSAGE = 1 << 20


def _opened(message: x1.Message) -> Iterator[x1.Message]:
    """What a message counts as: itself, or what is in the batch."""
    if message.command == "BATCH":
        for frame in message.body:
            yield x1.read([frame])
    else:
        yield message


class X1Broker:
    def __init__(self, bind: str = "tcp://127.0.0.1:0") -> None:
        self.socket = open_socket(zmq.ROUTER)
        self.socket.bind(bind)
        self.endpoint = bound_endpoint(self.socket)
        self._read: deque[tuple[bytes, x1.Message]] = deque()

    def recv(self, timeout_ms: int = PATIENCE_MS) -> tuple[bytes, x1.Message]:
        """Who said the next message, and the message. What it speaks it answers by itself."""
        while not self._read:
            if not self.socket.poll(timeout_ms):
                raise Silence(f"nobody said anything within {timeout_ms} ms")
            peer, *frames = self.socket.recv_multipart()
            if frames == x1.QUESTION:
                self.socket.send_multipart([peer, *x1.QUESTION[:3], b"200", b"x1"])
                continue
            self._read += [(peer, message) for message in _opened(x1.read(frames))]
        return self._read.popleft()

    def recv_command(self, command: str) -> tuple[bytes, x1.Message]:
        """The next message of this kind, whatever comes before it."""
        while True:
            peer, message = self.recv()
            if message.command == command:
                return peer, message

    def has_more(self, timeout_ms: int) -> bool:
        return bool(self._read) or bool(self.socket.poll(timeout_ms))

    def say(self, peer: bytes, command: str, leg: str, body: Body | None = None, flag: bool = False, **fields: object) -> None:
        self.socket.send_multipart([peer, *x1.written(command, leg, body, flag, **fields)])

    def welcome_client(self, credit: int, heartbeat_ms: int = 60_000) -> bytes:
        """Waits for HELLO and answers it; the client's address."""
        peer, _ = self.recv_command("HELLO")
        self.say(peer, "WELCOME", "client", heartbeat_ms=heartbeat_ms, liveness=3, credit=credit, max_message=MAX_MESSAGE)
        return peer

    def close(self) -> None:
        self.socket.close(0)

    def __enter__(self) -> X1Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
