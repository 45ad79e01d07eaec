"""Lines of JSON: commands and their bodies and options, and events (AGENT.md, sections 1, 2 and 6)."""

from __future__ import annotations

import base64
import json
import sys
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import majordomo

Command = dict[str, Any]
PATTERN = bytes(range(251))
BODY_SHOWN_UP_TO = 65536


def flat(properties: Mapping[str, bytes]) -> list[str]:
    """Return properties as they are on a line: each name, then its value in base64."""
    return [text for name, value in properties.items() for text in (name, base64.b64encode(value).decode())]


def properties_of(command: Command) -> dict[str, bytes] | None:
    """Return the properties that a command gives."""
    given = command.get("properties")
    if given is None:
        return None
    return {name: base64.b64decode(value) for name, value in zip(given[::2], given[1::2])}


class BadCommand(Exception):
    """The agent cannot carry out a command for a reason that is no error of the library."""


class Output:
    """Events, one line each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def event(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, **{name: value for name, value in fields.items() if value is not None}})
        self.line(line)

    def body(self, event: str, command: Command, message: majordomo.Message) -> None:
        shown = sum(map(len, message)) <= BODY_SHOWN_UP_TO
        fields = {
            "event": event,
            "id": command["id"],
            "sizes": [len(frame) for frame in message],
            "crc32": [zlib.crc32(frame) for frame in message],
            "body": [base64.b64encode(frame).decode() for frame in message] if shown else None,
        }
        if message.properties:
            fields["properties"] = flat(message.properties)
        self.line(json.dumps(fields))

    def connection(self, role: str, name: str) -> Callable[[majordomo.Event], None]:
        """Return a listener that tells the connection events of a client or a worker of this name."""

        def tell(event: majordomo.Event) -> None:
            fields = {role: name, "name": event.name, "endpoint": event.endpoint}
            self.event("connection", **fields, protocol=event.protocol, reason=event.reason)

        return tell

    def error(self, command: Command, failure: majordomo.MajordomoError) -> None:
        if isinstance(failure, majordomo.ServiceError):
            self.event(
                "error",
                id=command["id"],
                kind=failure.kind,
                number=failure.code,
                service_code=failure.service_code,
                text=failure.text,
                retryable=failure.retryable,
            )
        else:
            self.event(
                "error",
                id=command["id"],
                kind=failure.kind,
                number=failure.code,
                text=str(failure),
                retryable=failure.retryable,
            )

    def line(self, line: str) -> None:
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


OUT = Output()


def body_of(command: Command) -> list[bytes]:
    if "body" in command:
        return [base64.b64decode(frame, validate=True) for frame in command["body"]]
    size, seed = command.get("size", 0), command.get("seed", 0)
    return [pattern(size, seed + frame) for frame in range(command.get("frames", 1))]


def pattern(size: int, shift: int) -> bytes:
    """Byte `i` is `(shift + i mod 251) mod 256`."""
    table = bytes((shift + value) % 256 for value in range(256))
    return (PATTERN * (size // len(PATTERN) + 1))[:size].translate(table)


def options_of(command: Command, seconds: Sequence[str], numbers: Sequence[str]) -> dict[str, Any]:
    options = {name: command[f"{name}_ms"] / 1000 for name in seconds if f"{name}_ms" in command}
    options.update({name: command[name] for name in numbers if name in command})
    return options
