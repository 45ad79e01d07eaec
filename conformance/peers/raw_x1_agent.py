"""An agent (AGENT.md) that speaks MDPX/1 and is made of nothing but pyzmq and docs/mdpx.md: a stranger in the conformance matrix.

Asked for 0.1 or 0.2, it is the stranger of `raw_agent.py`. With `auto` it asks the broker, as the document says.
"""

from __future__ import annotations

import zmq

from . import agent, raw_agent, x1, x1_client, x1_worker
from .lines import Command
from .sockets import open_socket


def spoken_by(endpoint: str) -> str:
    """What the broker there speaks, asked on a connection of its own (section 2)."""
    with open_socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        for _ in range(2):
            socket.send_multipart(x1.QUESTION)
            if socket.poll(500):
                names = socket.recv_multipart()[4:]
                return "x1" if b"x1" in names else "0.2" if b"0.2" in names else "0.1"
    return "0.2"


def settled(command: Command) -> Command:
    if command["protocol"] == "auto":
        return {**command, "protocol": spoken_by(command["endpoint"].split(",")[0])}
    return command


def client(command: Command) -> agent.Client:
    command = settled(command)
    return (x1_client if command["protocol"] == "x1" else raw_agent).Client(command)


def worker(command: Command) -> agent.Worker:
    command = settled(command)
    return (x1_worker if command["protocol"] == "x1" else raw_agent).Worker(command)


if __name__ == "__main__":
    agent.Agent("raw-x1", client, worker).run()
