"""How every raw peer opens its socket: nothing is kept after close, and no high-water mark drops anything."""

from __future__ import annotations

import zmq


def open_socket(kind: int) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    for option in (zmq.LINGER, zmq.SNDHWM, zmq.RCVHWM):
        socket.setsockopt(option, 0)
    return socket


def bound_endpoint(socket: zmq.Socket[bytes]) -> str:
    """Where a socket listens, with the port that it was given."""
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode()
