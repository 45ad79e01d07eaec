"""The frames of MDPX/1, typed from docs/mdpx.md, and a client and a worker that a test steps by hand.

A frame list is what the peer's DEALER socket sends or receives.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import zmq

from .lines import Body
from .raw_client import PATIENCE_MS, Silence
from .sockets import open_socket

MAGIC = b"MDPX01"
MAX_HEADER = 64 * 1024
MAX_INLINE = 60 * 1024
PACK_LIMIT = 4 * 1024

PACKED, PROPERTIES, RETRYABLE, FAIL_FAST, RESUMED = 1, 2, 4, 8, 16
SERVICE_ERROR, CANCELLED, DENIED = 8, 7, 10
# As a client of 0.1 asks it, whoever wants to know what the broker speaks (section 2).
QUESTION = [b"", b"MDPC01", b"mmi.protocols", b""]

# Name, leg, command byte, fields in order, flag of its own, whether it has a body. Fields are struct formats, or "name" for
# a service (u8 length) and "text" (u16 length).
COMMANDS: dict[int, tuple[str, str, tuple[tuple[str, str], ...], int, bool]] = {
    0x01: ("HELLO", "client", (("session", "16s"), ("secret", "16s"), ("heartbeat_ms", "I"), ("liveness", "B")), 0, False),
    0x02: (
        "WELCOME", "client",
        (("heartbeat_ms", "I"), ("liveness", "B"), ("credit", "I"), ("max_message", "Q")),
        RESUMED, False,
    ),
    0x03: (
        "REQUEST", "client",
        (("number", "Q"), ("acked", "Q"), ("ttl_ms", "I"), ("max_attempts", "H"), ("service", "name")),
        FAIL_FAST, True,
    ),
    0x04: ("CANCEL", "client", (("number", "Q"),), 0, False),
    0x05: ("ACK", "client", (("number", "Q"),), 0, False),
    0x06: ("PARTIAL", "client", (("number", "Q"), ("sequence", "I")), 0, True),
    0x07: ("FINAL", "client", (("number", "Q"), ("sequence", "I")), 0, True),
    0x08: ("ERROR", "client", (("number", "Q"), ("kind", "B"), ("code", "I"), ("text", "text")), RETRYABLE, False),
    0x11: ("READY", "worker", (("capacity", "I"), ("heartbeat_ms", "I"), ("liveness", "B"), ("service", "name")), 0, False),
    0x12: ("WELCOME", "worker", (("heartbeat_ms", "I"), ("liveness", "B"), ("max_message", "Q")), 0, False),
    0x13: (
        "DELIVER", "worker",
        (("delivery", "Q"), ("session", "16s"), ("number", "Q"), ("ttl_ms", "I"), ("attempt", "H")),
        0, True,
    ),
    0x14: ("CANCEL", "worker", (("delivery", "Q"),), 0, False),
    0x15: ("RETURN", "worker", (("delivery", "Q"),), 0, False),
    0x16: ("PARTIAL", "worker", (("delivery", "Q"), ("sequence", "I")), 0, True),
    0x17: ("FINAL", "worker", (("delivery", "Q"), ("sequence", "I")), 0, True),
    0x18: ("ERROR", "worker", (("delivery", "Q"), ("kind", "B"), ("code", "I"), ("text", "text")), RETRYABLE, False),
    0x19: ("DRAIN", "worker", (), 0, False),
    0x21: ("HEARTBEAT", "any", (), 0, False),
    0x22: ("DISCONNECT", "any", (("kind", "B"), ("text", "text")), 0, False),
    0x23: ("BATCH", "any", (), 0, True),
}  # fmt: skip

BYTES = {(name, leg): byte for byte, (name, leg, *_) in COMMANDS.items()}


class BadFrames(AssertionError):
    """Somebody sent what the protocol does not allow."""


@dataclass(frozen=True)
class Message:
    """One message. `flag` is the command's own flag (RESUMED, FAIL_FAST, RETRYABLE), where it has one."""

    command: str
    leg: str
    fields: dict[str, Any]
    flag: bool = False
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


def write(message: Message, packed: bool | None = None) -> list[bytes]:
    """The frames of a message. Whether the body is packed is chosen as the document says, unless the caller does."""
    byte = BYTES[message.command, message.leg]
    _, _, layout, own_flag, has_body = COMMANDS[byte]
    flags = own_flag if message.flag else 0
    fields = b"".join(_write_field(kind, message.fields[name]) for name, kind in layout)
    block = b"".join(
        struct.pack(">B", len(name)) + name + struct.pack(">H", len(value)) + value for name, value in message.properties
    )
    if block:
        flags |= PROPERTIES
        fields += struct.pack(">H", len(block)) + block
    inline = b"".join(struct.pack(">I", len(frame)) + frame for frame in message.body)
    if packed is None:
        packed = has_body and len(inline) <= PACK_LIMIT and len(block) + len(inline) <= MAX_INLINE
    if packed:
        return [MAGIC + bytes([byte, flags | PACKED]) + fields + inline]
    return [MAGIC + bytes([byte, flags]) + fields, *message.body]


def written(command: str, leg: str, body: Body | None = None, flag: bool = False, **fields: Any) -> list[bytes]:
    """The frames of a message that is said on this leg; of the commands that both legs have, too."""
    body = body or Body([])
    leg = "any" if (command, "any") in BYTES else leg
    return write(Message(command, leg, fields, flag, body.properties, body.frames))


def _write_field(kind: str, value: Any) -> bytes:
    if kind == "name":
        return struct.pack(">B", len(value)) + bytes(value)
    if kind == "text":
        text: bytes = value.encode()
        return struct.pack(">H", len(text)) + text
    return struct.pack(">" + kind, value)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, length: int) -> bytes:
        if self.at + length > len(self.data):
            raise BadFrames(f"cut short: {self.data!r}")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, kind: str) -> Any:
        return struct.unpack(">" + kind, self.take(struct.calcsize(">" + kind)))[0]

    def field(self, kind: str) -> Any:
        if kind == "name":
            return self.take(self.number("B"))
        if kind == "text":
            try:
                return self.take(self.number("H")).decode()
            except UnicodeDecodeError as problem:
                raise BadFrames(str(problem)) from problem
        return self.number(kind)

    @property
    def left(self) -> int:
        return len(self.data) - self.at


def read(frames: Sequence[bytes]) -> Message:
    """Reads a message, strictly."""
    header = frames[0] if frames else b""
    if not header.startswith(MAGIC) or len(header) > MAX_HEADER:
        raise BadFrames(f"no header of MDPX/1: {header[:80]!r}")
    reader = _Reader(header)
    reader.take(len(MAGIC))
    byte, flags = reader.number("B"), reader.number("B")
    if byte not in COMMANDS:
        raise BadFrames(f"unknown command {byte:#x}")
    name, leg, layout, own_flag, has_body = COMMANDS[byte]
    fields = {key: reader.field(kind) for key, kind in layout}
    if "service" in fields:
        _check_text(fields["service"])
    properties = list(_read_properties(reader.take(reader.number("H")))) if flags & PROPERTIES else []
    if flags & PACKED:
        if not has_body or len(frames) > 1:
            raise BadFrames(f"{name} with a body that it does not have")
        body = []
        while reader.left:
            body.append(reader.take(reader.number("I")))
    elif reader.left:
        raise BadFrames(f"{reader.left} bytes behind the fields of {name}")
    else:
        body = list(frames[1:])
        # The messages of a BATCH are always packed.
        if body and (not has_body or name == "BATCH"):
            raise BadFrames(f"{name} with {len(body)} extra frames")
    if name == "BATCH":
        for message in body:
            if len(message) > PACK_LIMIT or read([message]).command == "BATCH":
                raise BadFrames("a BATCH of something else than moderate messages of one frame")
    return Message(name, leg, fields, bool(flags & own_flag), properties, body)


def _read_properties(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    reader = _Reader(block)
    while reader.left:
        name = reader.take(reader.number("B"))
        _check_text(name)
        yield name, reader.take(reader.number("H"))


def _check_text(name: bytes) -> None:
    try:
        text = name.decode()
    except UnicodeDecodeError as problem:
        raise BadFrames(str(problem)) from problem
    if not text or any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise BadFrames(f"{name!r} is not 1 to 255 bytes of text without control characters")


class X1Peer:
    """One DEALER socket on which MDPX is spoken."""

    leg = "any"

    def __init__(self, endpoint: str) -> None:
        self.socket = open_socket(zmq.DEALER)
        self.socket.connect(endpoint)

    def send_frames(self, frames: Sequence[bytes]) -> None:
        self.socket.send_multipart(list(frames))

    def say(
        self, command: str, body: Sequence[bytes] = (), flag: bool = False, packed: bool | None = None,
        properties: Sequence[tuple[bytes, bytes]] = (), **fields: Any,
    ) -> None:  # fmt: skip
        leg = "any" if (command, "any") in BYTES else self.leg
        self.send_frames(write(Message(command, leg, fields, flag, list(properties), list(body)), packed))

    def recv_any(self, timeout_ms: int = PATIENCE_MS) -> Message:
        if not self.socket.poll(timeout_ms):
            raise Silence(f"nothing came within {timeout_ms} ms")
        return read(self.socket.recv_multipart())

    def recv(self, timeout_ms: int = PATIENCE_MS) -> Message:
        """The next message that is not a heartbeat."""
        end = time.monotonic() + timeout_ms / 1000
        while True:
            message = self.recv_any(max(0, int(1000 * (end - time.monotonic()))))
            if message.command != "HEARTBEAT":
                return message

    def recv_command(self, command: str, timeout_ms: int = PATIENCE_MS) -> Message:
        message = self.recv(timeout_ms)
        assert message.command == command, f"expected {command}, got {message}"
        return message

    def heartbeat(self) -> None:
        self.say("HEARTBEAT")

    def disconnect(self, kind: int = 0, text: str = "") -> None:
        self.say("DISCONNECT", kind=kind, text=text)

    def close(self) -> None:
        """Closes at once, saying nothing."""
        self.socket.close(0)

    def leave(self) -> None:
        """A proper goodbye; the linger lets the last frames out."""
        self.disconnect()
        self.socket.close(2000)

    def __enter__(self) -> X1Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class X1Client(X1Peer):
    """A session of a client. `hello()` on another X1Client with the same `identity` goes on with it."""

    leg = "client"

    def __init__(self, endpoint: str, identity: tuple[bytes, bytes] | None = None) -> None:
        super().__init__(endpoint)
        self.session, self.secret = identity or (os.urandom(16), os.urandom(16))
        self.numbers = 0

    def send_hello(self, heartbeat_ms: int = 1000, liveness: int = 3) -> None:
        self.say("HELLO", session=self.session, secret=self.secret, heartbeat_ms=heartbeat_ms, liveness=liveness)

    def hello(self, heartbeat_ms: int = 1000, liveness: int = 3) -> Message:
        self.send_hello(heartbeat_ms, liveness)
        return self.recv_command("WELCOME")

    def send(
        self, service: bytes | str, body: Sequence[bytes] = (b"",), number: int | None = None, acked: int = 0, ttl_ms: int = 0,
        max_attempts: int = 0, fail_fast: bool = False, packed: bool | None = None,
        properties: Sequence[tuple[bytes, bytes]] = (),
    ) -> int:  # fmt: skip
        """Sends a request; its number is the next one if none is given."""
        service = service.encode() if isinstance(service, str) else service
        if number is None:
            number = self.numbers + 1
        self.numbers = max(self.numbers, number)
        self.say(
            "REQUEST", body, fail_fast, packed, properties,
            number=number, acked=acked, ttl_ms=ttl_ms, max_attempts=max_attempts, service=service,
        )  # fmt: skip
        return number

    def request(
        self, service: bytes | str, body: Sequence[bytes] = (b"",), timeout_ms: int = PATIENCE_MS, **fields: Any
    ) -> Message:
        number = self.send(service, body, **fields)
        outcome = self.recv(timeout_ms)
        assert outcome.number == number, f"expected the outcome of {number}, got {outcome}"
        return outcome

    def cancel(self, number: int) -> None:
        self.say("CANCEL", number=number)

    def ack(self, number: int) -> None:
        self.say("ACK", number=number)


class X1Worker(X1Peer):
    """A worker of one service."""

    leg = "worker"

    def __init__(
        self, endpoint: str, service: bytes | str, capacity: int = 1, ready: bool = True, heartbeat_ms: int = 20_000
    ) -> None:
        super().__init__(endpoint)
        self.service = service.encode() if isinstance(service, str) else service
        self.heartbeat_ms = heartbeat_ms
        if ready:
            self.ready(capacity)
            self.welcome = self.recv_command("WELCOME")

    def ready(self, capacity: int = 1, service: bytes | None = None, liveness: int = 3) -> None:
        service = self.service if service is None else service
        self.say("READY", capacity=capacity, heartbeat_ms=self.heartbeat_ms, liveness=liveness, service=service)

    def recv_request(self, timeout_ms: int = PATIENCE_MS) -> Message:
        return self.recv_command("DELIVER", timeout_ms)

    def partial(self, delivery: int, sequence: int, body: Sequence[bytes], packed: bool | None = None) -> None:
        self.say("PARTIAL", body, packed=packed, delivery=delivery, sequence=sequence)

    def reply(
        self, delivery: int, body: Sequence[bytes], sequence: int = 0, packed: bool | None = None,
        properties: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:  # fmt: skip
        self.say("FINAL", body, False, packed, properties, delivery=delivery, sequence=sequence)

    def fail(self, delivery: int, code: int, text: str, retryable: bool = False, kind: int = SERVICE_ERROR) -> None:
        self.say("ERROR", flag=retryable, delivery=delivery, kind=kind, code=code, text=text)

    def give_back(self, delivery: int) -> None:
        self.say("RETURN", delivery=delivery)

    def drain(self) -> None:
        self.say("DRAIN")

    def echo_one(self, timeout_ms: int = PATIENCE_MS) -> list[bytes]:
        message = self.recv_request(timeout_ms)
        self.reply(message.delivery, message.body)
        return message.body
