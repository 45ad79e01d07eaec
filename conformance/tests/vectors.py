"""The golden vectors in conformance/vectors, which the Rust unit tests read too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from broker_process import CONFORMANCE


@dataclass(frozen=True)
class Vector:
    name: str
    protocol: str
    fields: dict[str, Any]

    @property
    def frames(self) -> list[bytes]:
        return [bytes.fromhex(frame) for frame in self.fields["frames"]]

    @property
    def body(self) -> list[bytes]:
        return [bytes.fromhex(frame) for frame in self.fields["body"]]

    def field(self, key: str) -> bytes:
        return bytes.fromhex(self.fields[key])

    def __str__(self) -> str:
        state = f", {self.fields['state']} worker" if self.fields.get("sender") == "worker" else ""
        return f"{self.protocol} {self.name}{state}"


def load(name: str) -> list[Vector]:
    table = json.loads((CONFORMANCE / "vectors" / f"{name}.json").read_text())
    return [Vector(entry["name"], table["protocol"], entry) for entry in table["vectors"]]


WELL_FORMED = [*load("mdp01"), *load("mdp02")]
MALFORMED = [*load("malformed01"), *load("malformed02")]
