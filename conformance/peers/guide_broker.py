"""A stranger's broker: it does what brokers that descend from the ZeroMQ Guide do, their shortcomings included.

Our clients and workers have to get along with it, and the conformance suite has to find its defects (that is how the suite
shows that it can fail). Habits, on purpose: only idle workers get heartbeats and are watched; expiry reads the wall clock and
stops at the first live worker; `mmi.` is looked for in the wrong frame; a short message ends the process; an answer goes to
whatever address it names, and makes its sender idle once more; nothing that waits ever expires.

    python -m peers.guide_broker --bind tcp://127.0.0.1:0 [--heartbeat-ms 2500] [--liveness 3] [--protocol 0.1]
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import zmq

from . import wire
from .sockets import bound_endpoint


@dataclass
class Service:
    name: bytes
    requests: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    idle: list[Peer] = field(default_factory=list)
    workers: int = 0


@dataclass
class Peer:
    """A worker, known by its routing id."""

    address: bytes
    service: Service | None = None
    expires: float = 0.0


class GuideBroker:
    def __init__(self, socket: zmq.Socket, version: wire.Version, heartbeat: float, liveness: int) -> None:
        self.socket = socket
        self.version = version
        self.heartbeat = heartbeat
        self.expiry = heartbeat * liveness
        self.services: dict[bytes, Service] = {}
        self.peers: dict[bytes, Peer] = {}
        self.idle: list[Peer] = []
        self.next_beat = time.time() + heartbeat

    def run(self) -> None:
        while True:
            if self.socket.poll(int(self.heartbeat * 1000)):
                sender, *frames = self.socket.recv_multipart()
                self.route(sender, frames)
            if time.time() > self.next_beat:
                self.purge()
                for peer in self.idle:
                    self.to_worker(peer, wire.HEARTBEAT)
                self.next_beat = time.time() + self.heartbeat

    def route(self, sender: bytes, frames: list[bytes]) -> None:
        lead = len(self.version.lead)
        assert len(frames) > lead, "a message without a header"
        header, rest = frames[lead], frames[lead + 1 :]
        if header == self.version.client:
            self.from_client(sender, rest)
        elif header == self.version.worker:
            self.from_worker(sender, rest)

    def from_client(self, sender: bytes, rest: list[bytes]) -> None:
        if self.version.client_request is not None:
            assert rest[:1] == [self.version.client_request], "not a request"
            rest = rest[1:]
        assert rest, "a request without a service"
        service, body = rest[0], rest[1:]
        if service.startswith(b"mmi."):
            self.to_client(sender, wire.FINAL, service, [self.mmi(service, body)])
        else:
            self.dispatch(self.require_service(service), (sender, body))

    def mmi(self, service: bytes, body: Sequence[bytes]) -> bytes:
        if service != b"mmi.service":
            return b"501"
        known = self.services.get(body[-1] if body else b"")
        return b"200" if known is not None and known.workers > 0 else b"404"

    def from_worker(self, sender: bytes, rest: list[bytes]) -> None:
        assert rest, "a worker's message without a command"
        known = sender in self.peers
        peer = self.peers.setdefault(sender, Peer(sender))
        command, rest = rest[0], rest[1:]
        commands = self.version.worker_commands
        if command == commands[wire.READY]:
            if known or sender.startswith(b"mmi."):
                self.remove(peer, goodbye=True)
            else:
                peer.service = self.require_service(rest[0])
                peer.service.workers += 1
                self.waiting(peer)
        elif command in (commands[wire.FINAL], commands.get(wire.PARTIAL)):
            if not known or peer.service is None:
                self.remove(peer, goodbye=True)
                return
            kind = wire.FINAL if command == commands[wire.FINAL] else wire.PARTIAL
            client, body = rest[0], rest[2:]
            self.to_client(client, kind, peer.service.name, body)
            self.waiting(peer)
        elif command == commands[wire.HEARTBEAT]:
            if known:
                peer.expires = time.time() + self.expiry
            else:
                self.remove(peer, goodbye=True)
        elif command == commands[wire.DISCONNECT]:
            self.remove(peer, goodbye=False)

    def require_service(self, name: bytes) -> Service:
        return self.services.setdefault(name, Service(name))

    def waiting(self, peer: Peer) -> None:
        assert peer.service is not None
        self.idle.append(peer)
        peer.service.idle.append(peer)
        peer.expires = time.time() + self.expiry
        self.dispatch(peer.service, None)

    def dispatch(self, service: Service, request: tuple[bytes, list[bytes]] | None) -> None:
        if request is not None:
            service.requests.append(request)
        self.purge()
        while service.idle and service.requests:
            peer = service.idle.pop(0)
            self.idle.remove(peer)
            client, body = service.requests.pop(0)
            self.to_worker(peer, wire.REQUEST, client, b"", *body)

    def purge(self) -> None:
        while self.idle and self.idle[0].expires <= time.time():
            self.remove(self.idle[0], goodbye=False)

    def remove(self, peer: Peer, goodbye: bool) -> None:
        if goodbye:
            self.to_worker(peer, wire.DISCONNECT)
        if peer.service is not None:
            peer.service.idle.remove(peer)
            peer.service.workers -= 1
            self.idle.remove(peer)
        self.peers.pop(peer.address, None)

    def to_worker(self, peer: Peer, command: str, *frames: bytes) -> None:
        self.socket.send_multipart([peer.address, *self.version.broker_to_worker(command, *frames)])

    def to_client(self, client: bytes, kind: str, service: bytes, body: Sequence[bytes]) -> None:
        self.socket.send_multipart([client, *self.version.broker_to_client(kind, service, body)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", required=True)
    parser.add_argument("--heartbeat-ms", type=int, default=2500)
    parser.add_argument("--liveness", type=int, default=3)
    parser.add_argument("--protocol", choices=sorted(wire.VERSIONS), default="0.1")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    socket.bind(arguments.bind)
    print(f"listening on {bound_endpoint(socket)}", flush=True)
    try:
        GuideBroker(socket, wire.VERSIONS[arguments.protocol], arguments.heartbeat_ms / 1000, arguments.liveness).run()
    except KeyboardInterrupt:
        pass
    finally:
        zmq.Context.instance().destroy(linger=0)


if __name__ == "__main__":
    main()
