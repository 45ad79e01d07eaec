"""The frames of MDP/0.1 (7/MDP) and MDP/0.2 (18/MDP), typed from the published protocols.

One table per version, because the command bytes differ: 0.2 has a PARTIAL in the middle, so REPLY, HEARTBEAT and DISCONNECT
have other numbers than in 0.1. A frame list is what the peer's DEALER socket sends or receives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

READY, REQUEST, PARTIAL, FINAL, HEARTBEAT, DISCONNECT = (
    "READY",
    "REQUEST",
    "PARTIAL",
    "FINAL",
    "HEARTBEAT",
    "DISCONNECT",
)


@dataclass(frozen=True)
class Version:
    """What one protocol version puts on the wire."""

    name: str
    lead: tuple[bytes, ...]
    client: bytes
    worker: bytes
    client_request: bytes | None
    client_replies: dict[bytes, str]
    worker_commands: dict[str, bytes]

    def client_to_broker(self, service: bytes, body: Sequence[bytes]) -> list[bytes]:
        command = [] if self.client_request is None else [self.client_request]
        return [*self.lead, self.client, *command, service, *body]

    def worker_to_broker(self, command: str, *frames: bytes) -> list[bytes]:
        return [*self.lead, self.worker, self.worker_commands[command], *frames]

    def broker_to_worker(self, command: str, *frames: bytes) -> list[bytes]:
        return [*self.lead, self.worker, self.worker_commands[command], *frames]

    def broker_to_client(self, kind: str, service: bytes, body: Sequence[bytes]) -> list[bytes]:
        if self.client_request is None:
            return [*self.lead, self.client, service, *body]
        byte = next(b for b, k in self.client_replies.items() if k == kind)
        return [*self.lead, self.client, byte, service, *body]


V01 = Version(
    name="0.1",
    lead=(b"",),
    client=b"MDPC01",
    worker=b"MDPW01",
    client_request=None,
    client_replies={},
    worker_commands={
        READY: b"\x01",
        REQUEST: b"\x02",
        FINAL: b"\x03",
        HEARTBEAT: b"\x04",
        DISCONNECT: b"\x05",
    },
)

V02 = Version(
    name="0.2",
    lead=(),
    client=b"MDPC02",
    worker=b"MDPW02",
    client_request=b"\x01",
    client_replies={b"\x02": PARTIAL, b"\x03": FINAL},
    worker_commands={
        READY: b"\x01",
        REQUEST: b"\x02",
        PARTIAL: b"\x03",
        FINAL: b"\x04",
        HEARTBEAT: b"\x05",
        DISCONNECT: b"\x06",
    },
)

VERSIONS = {"0.1": V01, "0.2": V02}


@dataclass(frozen=True)
class Reply:
    """What a client got: a PARTIAL (0.2 only) or the FINAL answer."""

    kind: str
    service: bytes
    body: list[bytes]


@dataclass(frozen=True)
class ToWorker:
    """What a worker got from its broker."""

    command: str
    address: bytes
    body: list[bytes]


class BadFrames(AssertionError):
    """A broker sent something that its protocol does not allow."""


def read_reply(version: Version, frames: Sequence[bytes]) -> Reply:
    """Reads what a client's DEALER received, strictly."""
    rest = list(frames)
    for expected in (*version.lead, version.client):
        if not rest or rest.pop(0) != expected:
            raise BadFrames(f"not a {version.name} reply: {frames!r}")
    kind = FINAL
    if version.client_request is not None:
        byte = rest.pop(0) if rest else b""
        if byte not in version.client_replies:
            raise BadFrames(f"unknown reply command {byte!r} in {frames!r}")
        kind = version.client_replies[byte]
    if not rest:
        raise BadFrames(f"no service in {frames!r}")
    return Reply(kind, rest[0], rest[1:])


def read_to_worker(version: Version, frames: Sequence[bytes]) -> ToWorker:
    """Reads what a worker's DEALER received, strictly."""
    rest = list(frames)
    for expected in (*version.lead, version.worker):
        if not rest or rest.pop(0) != expected:
            raise BadFrames(f"not for a {version.name} worker: {frames!r}")
    byte = rest.pop(0) if rest else b""
    command = next((c for c, b in version.worker_commands.items() if b == byte), None)
    if command in (HEARTBEAT, DISCONNECT):
        if rest:
            raise BadFrames(f"{command} with {len(rest)} extra frames")
        return ToWorker(command, b"", [])
    if command == REQUEST:
        if len(rest) < 2 or rest[1] != b"" or rest[0] == b"":
            raise BadFrames(f"a request needs one client address and an empty frame: {frames!r}")
        return ToWorker(command, rest[0], rest[2:])
    raise BadFrames(f"a broker never sends {byte!r} to a worker")
