"""The driving side of AGENT.md: one agent program, its commands and its events."""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
import queue
import shlex
import subprocess
import threading
import tomllib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker_process import CONFORMANCE, ROOT, TARGET

EVENT_SECONDS = 60
CLOSING = {"ok", "reply", "end", "many", "error", "failed"}


def made_frame(size: int, seed: int = 0, k: int = 0) -> bytes:
    """Byte i of frame k is (seed + k + i mod 251) mod 256 (AGENT.md, section 2)."""
    period = bytes((seed + k + i) % 256 for i in range(251))
    return (period * (size // 251 + 1))[:size]


def body_fields(frames: Sequence[bytes], properties: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    fields = {"body": [base64.b64encode(frame).decode() for frame in frames]}
    return {**fields, "properties": flat(properties)} if properties else fields


def flat(properties: Mapping[str, bytes]) -> list[str]:
    """Properties as they stand in a line: each name, then its value in base64."""
    return [text for name, value in properties.items() for text in (name, base64.b64encode(value).decode())]


def properties_of(event: dict[str, Any]) -> dict[str, bytes]:
    """The properties of an event with a body, whatever their order."""
    listed = event.get("properties", [])
    return {name: base64.b64decode(value) for name, value in zip(listed[::2], listed[1::2], strict=True)}


def frames_of(event: dict[str, Any]) -> list[bytes]:
    """The body of an event that shows it."""
    return [base64.b64decode(frame) for frame in event["body"]]


def describes(event: dict[str, Any], frames: Sequence[bytes]) -> bool:
    """Whether an event's body is exactly these frames."""
    same = event["sizes"] == [len(f) for f in frames] and event["crc32"] == [zlib.crc32(f) for f in frames]
    if event["body"] is not None:
        same = same and event["body"] == body_fields(frames)["body"]
    return same


class AgentError(Exception):
    """The library under the agent ended a call with an error of the one table."""

    def __init__(self, event: dict[str, Any]) -> None:
        super().__init__(json.dumps(event))
        self.kind: str = event["kind"]
        self.number: int = event["number"]
        self.retryable: bool = event["retryable"]
        self.service_code: int | None = event.get("service_code")
        self.text: str = event.get("text", "")


class Unsupported(Exception):
    """The agent's language has no such thing."""


@dataclass(frozen=True)
class AgentSpec:
    """One line of agents.toml."""

    language: str
    command: tuple[str, ...]
    stranger: bool
    probe: tuple[str, ...]
    protocols: tuple[str, ...]

    @functools.cached_property
    def exists(self) -> bool:
        """Whether the program is there, and the binding that it needs is built."""
        if not all(Path(part).exists() for part in self.command if part.startswith("/")):
            return False
        return not self.probe or subprocess.run(self.probe, capture_output=True).returncode == 0


def load_specs() -> dict[str, AgentSpec]:
    with open(CONFORMANCE / "agents.toml", "rb") as file:
        table = tomllib.load(file)
    specs = {}
    for language, entry in table.items():
        override = os.environ.get(f"MAJORDOMO_AGENT_{language.upper().replace('-', '_')}")
        parts = shlex.split(override) if override else entry["command"]
        command, probe = (
            tuple(part.replace("{root}", str(ROOT)).replace("{target}", str(TARGET)) for part in words)
            for words in (parts, entry.get("probe", []))
        )
        stranger = entry.get("stranger", False)
        protocols = tuple(entry.get("protocols", ("0.1", "0.2") if stranger else ("0.1", "0.2", "x1")))
        specs[language] = AgentSpec(language, command, stranger, probe, protocols)
    return specs


class Agent:
    """A running agent. Any thread may give commands; events are sorted by the id of their command."""

    def __init__(self, spec: AgentSpec) -> None:
        self.spec = spec
        self.language = spec.language
        environment = {**os.environ, "PYTHONPATH": str(CONFORMANCE)}
        environment.setdefault("PYTHONUNBUFFERED", "1")
        self.process = subprocess.Popen(
            spec.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment
        )
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._by_id: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._others: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        hello = self.event("hello")
        assert hello["agent"] == 1, hello

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            with self._lock:
                target = self._by_id.get(event.get("id"), self._others)
            target.put(event)
        gone = {"event": "gone", "text": f"the {self.language} agent ended"}
        with self._lock:
            for waiting in [*self._by_id.values(), self._others]:
                waiting.put(gone)

    def start(self, cmd: str, **fields: Any) -> int:
        """Gives a command without waiting for its outcome."""
        number = next(self._ids)
        with self._lock:
            self._by_id[number] = queue.Queue()
        assert self.process.stdin is not None
        present = {key: value for key, value in fields.items() if value is not None}
        self.process.stdin.write(json.dumps({"cmd": cmd, "id": number, **present}) + "\n")
        self.process.stdin.flush()
        return number

    def finish(self, number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The parts and the closing event of a command; an error of the library is raised."""
        parts: list[dict[str, Any]] = []
        while True:
            event = self._by_id[number].get(timeout=EVENT_SECONDS)
            if event["event"] not in CLOSING and event["event"] != "gone":
                parts.append(event)
                continue
            with self._lock:
                del self._by_id[number]
            if event["event"] == "error":
                raise AgentError(event)
            if event["event"] == "failed" and event.get("text") == "unsupported":
                raise Unsupported(self.language)
            assert event["event"] not in ("failed", "gone"), event
            return parts, event

    def do(self, cmd: str, **fields: Any) -> dict[str, Any]:
        return self.finish(self.start(cmd, **fields))[1]

    def next_part(self, number: int) -> dict[str, Any]:
        event = self._by_id[number].get(timeout=EVENT_SECONDS)
        assert event["event"] == "part", event
        return event

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next event of this kind that belongs to no command (`hello`, `holding`, `connection` …)."""
        kept = []
        try:
            while True:
                event = self._others.get(timeout=EVENT_SECONDS)
                assert event["event"] != "gone", event
                if event["event"] == kind and all(event.get(key) == value for key, value in fields.items()):
                    return event
                kept.append(event)
        except queue.Empty:
            raise AssertionError(f"the {self.language} agent wrote no {kind!r} {fields}; it wrote {kept}") from None
        finally:
            for event in kept:
                self._others.put(event)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(EVENT_SECONDS)

    def quit(self) -> int:
        """A proper end; its exit status."""
        self.do("quit")
        return self.process.wait(EVENT_SECONDS)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
