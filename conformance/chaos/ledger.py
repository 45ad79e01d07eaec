"""Every request under its number: what it was, how often it ran, how it came out, and what is wrong with that."""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SIZES = (0, 10, 100, 1000, 10_000)
# How many findings are told one by one.
TOLD = 20
# What a request that may run once is allowed to end with where its one run was lost.
RUN_LOST = "WorkerLost"
# So long after something was done to somebody its consequences may come: whoever was frozen finds that it was given up.
AFTERMATH_SECONDS = 5


def body_of(number: int) -> list[bytes]:
    """The number, a load, and the digest of both."""
    chance = random.Random(number)
    load = chance.randbytes(chance.choice(SIZES))
    return [b"%d" % number, load, digest(number, load)]


def digest(number: int, load: bytes) -> bytes:
    return hashlib.sha256(b"%d " % number + load).digest()


def is_answer(event: dict[str, Any], number: int) -> bool:
    """Whether a reply is that of the echo to this request: number, load and digest agree, and nothing else is there."""
    frames = [base64.b64decode(frame) for frame in event["body"] or []]
    return len(frames) == 3 and frames[0] == b"%d" % number and frames[2] == digest(number, frames[1])


@dataclass
class Open:
    """A request without an outcome."""

    client: str
    once: bool
    begun: float


class Ledger:
    def __init__(self) -> None:
        self.open: dict[int, Open] = {}
        self.count = 0
        """How many numbers were given; they begin with 0."""
        self.runs = bytearray()
        """How often the request of each number ran, as far as 255."""
        self.once = bytearray()
        """Whether the request of each number may run once only."""
        self.outcomes: Counter[str] = Counter()
        self.findings: Counter[str] = Counter()
        self.told: list[str] = []
        self.hung: set[int] = set()
        """Those that were given up."""
        self.disturbances = 0
        """How many go on."""
        self.calm_since = float("-inf")

    def find(self, kind: str, text: str) -> None:
        """Something that must not be."""
        self.findings[kind] += 1
        if len(self.told) < TOLD:
            self.told.append(f"{kind}: {text}")

    def begin(self, client: str, once: bool) -> int:
        number, self.count = self.count, self.count + 1
        self.runs.append(0)
        self.once.append(once)
        self.open[number] = Open(client, once, time.monotonic())
        return number

    @contextmanager
    def disturbance(self) -> Iterator[None]:
        """While something is done to a worker, a client, a connection or the broker."""
        self.disturbances += 1
        try:
            yield
        finally:
            self.disturbances -= 1
            self.calm_since = time.monotonic()

    def disturbed_since(self, moment: float) -> bool:
        return self.disturbances > 0 or self.calm_since + AFTERMATH_SECONDS > moment

    def ran(self, number: int | None, worker: str) -> None:
        if number is None or not 0 <= number < self.count:
            return self.find("wrong", f"{worker} was given a request of number {number}, which nobody made")
        self.runs[number] = min(self.runs[number] + 1, 255)
        if self.once[number] and self.runs[number] > 1:
            self.find("doubled", f"request {number}, which may run once, ran again, at {worker}")
        return None

    def answered(self, number: int, event: dict[str, Any]) -> None:
        request = self.open.pop(number)
        self.outcomes["answered"] += 1
        if not is_answer(event, number):
            self.find("wrong", f"{request.client} got something else as the answer to request {number}")

    def failed(self, number: int, kind: str, text: str, starved: bool) -> None:
        """An error is right where a run that may not be repeated was lost, or where the client has no descriptors left. Of
        a run that nobody has told of, something must have been done to somebody in its time."""
        request = self.open.pop(number)
        may_have_run = self.runs[number] > 0 or self.disturbed_since(request.begun)
        if request.once and kind == RUN_LOST and may_have_run:
            self.outcomes["lost their one run, and said so"] += 1
        elif starved:
            self.outcomes[f"failed with {kind} for want of descriptors"] += 1
        else:
            self.find("lost", f"request {number} of {request.client} ended with {kind}: {text}")

    def died(self, number: int) -> None:
        """The client was killed; nobody waits for the outcome."""
        del self.open[number]
        self.outcomes["died with their client"] += 1

    def give_up(self, numbers: list[int]) -> None:
        """Those of these that are still open never end."""
        for number in numbers:
            if number in self.open and number not in self.hung:
                client, runs = self.open[number].client, self.runs[number]
                self.hung.add(number)
                self.find("hung", f"request {number} of {client} has no outcome; it ran {runs} times")

    def ran_again(self) -> int:
        return sum(runs > 1 for runs in self.runs)
