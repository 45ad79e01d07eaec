"""A socket with which other threads wake the one that polls."""

from __future__ import annotations

import threading

import zmq


class Wakes:
    """To be polled beside the socket that the thread owns."""

    def __init__(self) -> None:
        self._endpoint = f"inproc://wake-{id(self)}"
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        self.socket.bind(self._endpoint)
        self._lock = threading.Lock()
        self._sender: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._sender.connect(self._endpoint)

    def wake(self) -> None:
        with self._lock:
            if not self._sender.closed:
                self._sender.send(b"")

    def drain(self) -> None:
        while self.socket.poll(0):
            self.socket.recv()

    def close(self) -> None:
        with self._lock:
            self.socket.close(0)
            self._sender.close(0)
