"""The lines of an agent (AGENT.md, sections 1 and 2): what stands in a command, and what is written in an event."""

from __future__ import annotations

import base64
import json
import sys
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Command = dict[str, Any]
Properties = list[tuple[bytes, bytes]]
BODY_SHOWN_UP_TO = 65536

_output = threading.Lock()


@dataclass(frozen=True)
class Body:
    """The frames of a message, and what travels beside them."""

    frames: list[bytes]
    properties: Properties = field(default_factory=list)


def emit(event: str, **fields: Any) -> None:
    with _output:
        sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
        sys.stdout.flush()


def made_frame(size: int, seed: int, k: int) -> bytes:
    period = bytes((seed + k + i) % 256 for i in range(251))
    return (period * (size // 251 + 1))[:size]


def body_of(command: Command) -> Body:
    given = command.get("properties", [])
    properties = [(name.encode(), base64.b64decode(value)) for name, value in zip(given[::2], given[1::2], strict=True)]
    if "body" in command:
        return Body([base64.b64decode(frame) for frame in command["body"]], properties)
    seed = command.get("seed", 0)
    return Body([made_frame(command["size"], seed, k) for k in range(command.get("frames", 1))], properties)


def flat(properties: Sequence[tuple[bytes, bytes]]) -> list[str]:
    return [text for name, value in properties for text in (name.decode(), base64.b64encode(value).decode())]


def described(body: Body) -> dict[str, Any]:
    small = sum(map(len, body.frames)) <= BODY_SHOWN_UP_TO
    fields = {
        "sizes": [len(frame) for frame in body.frames],
        "crc32": [zlib.crc32(frame) for frame in body.frames],
        "body": [base64.b64encode(frame).decode() for frame in body.frames] if small else None,
    }
    return {**fields, "properties": flat(body.properties)} if body.properties else fields
