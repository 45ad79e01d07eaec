"""Who takes part: clients and workers of all languages, each directly at the broker or behind a door of the proxy."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent_process import CLOSING, AgentSpec, body_fields

from .ledger import body_of
from .processes import PATIENCE_SECONDS, Agent, Event, Gone, kill

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stage import Stage

SERVICE = "witness"
HEARTBEAT_MS = 500
LIVENESS = 3
# How long a request is in hand the first time, so that a fault finds one there.
PAUSE_MS = 20
# How often a request that may be repeated is handed out at most: no chain of faults is as long as this.
ATTEMPTS = 100
# This share of the requests may run once only.
ONCE = 0.25
# Between an outcome and the next request of the same caller, on average.
THINKING_SECONDS = 0.12
CALLERS = {"blocking": 1, "async": 3}
CLIENT = {
    "timeout_ms": HEARTBEAT_MS * LIVENESS,
    "deadline_ms": PATIENCE_SECONDS * 1000,
    "reconnect_min_ms": 50,
    "reconnect_max_ms": 250,
}
WORKER = {"heartbeat_ms": HEARTBEAT_MS, "liveness": LIVENESS, "reconnect_ms": 250, "pause_ms": PAUSE_MS}


class Party(ABC):
    """A place that a process has; when that is killed, another takes the place."""

    role = ""

    def __init__(self, stage: Stage, spec: AgentSpec, door: str, endpoint: str) -> None:
        self.stage = stage
        self.spec = spec
        self.door = door
        """Its name at the proxy; empty where it has none."""
        self.endpoint = endpoint
        self.title = f"{spec.language} {self.role}"
        self.name = f"{self.title}{', proxied' if door else ''}"
        self.chance = random.Random(f"{stage.seed}/{self.name}")
        self.agent: Agent | None = None
        self.up = asyncio.Event()
        self.disturbed = False
        """Whether something is being done to it, or it is not there."""
        self.calm_since = 0.0
        self.served_at = 0.0
        self.starved_at = 0.0
        """When it last was without descriptors."""

    async def start(self) -> None:
        """Begins with a new process. One that ends before it is up is followed by another."""
        while not self.up.is_set():
            try:
                agent = await Agent.start(self.spec, self.stage.log_of(self.name), self.on_event, self.on_end)
                self.agent = agent
                event = await asyncio.wait_for(self.open(agent), PATIENCE_SECONDS)
            except (Gone, TimeoutError):
                self.stage.ledger.find("crashed", f"{self.name} did not start; see {self.stage.log_of(self.name)}")
                return
            if event["event"] != "ok":
                self.stage.ledger.find("crashed", f"{self.name} did not start: {event}")
                return
            self.up.set()

    @abstractmethod
    def open(self, agent: Agent) -> asyncio.Future[Event]:
        """Has the fresh process make its client or worker."""

    def on_event(self, event: Event) -> None:
        if event["event"] in CLOSING:
            self.stage.ledger.find("doubled", f"{self.name} has a second outcome, {event['event']!r}, for command {event['id']}")

    def on_end(self) -> None:
        """The end of a process that nobody has killed is the end of the party."""
        if self.up.is_set() and not self.stage.ending:
            self.up.clear()
            self.disturbed = True
            self.stage.ledger.find("crashed", f"{self.name} ended by itself; see {self.stage.log_of(self.name)}")

    def kill(self) -> float:
        """The moment of the kill."""
        self.up.clear()
        return kill(self.agent.process if self.agent else None)

    @property
    def is_whole(self) -> bool:
        """Whether it is in service, as far as anybody knows."""
        return self.up.is_set() and not self.disturbed and self not in self.stage.recovery.returns

    @contextmanager
    def disturb(self) -> Iterator[None]:
        """While something is done to it."""
        self.disturbed = True
        try:
            yield
        finally:
            self.disturbed = False
            self.calm_since = time.monotonic()

    def touched_since(self, moment: float) -> bool:
        return self.disturbed or self.calm_since > moment

    def pick(self, *choices: Any) -> Any:
        return self.chance.choice(choices)


class Client(Party):
    role = "client"

    def open(self, agent: Agent) -> asyncio.Future[Event]:
        self.style = self.pick("blocking", "async")
        protocol = self.pick("x1", "auto")
        return agent.ask("open_client", client="c", endpoint=self.endpoint, style=self.style, protocol=protocol, **CLIENT)

    async def call(self, caller: int) -> None:
        """One of its callers, for as long as there is load. A blocking client has only the first."""
        chance = random.Random(f"{self.stage.seed}/{self.name}/{caller}")
        while not self.stage.quiet:
            await asyncio.sleep(chance.expovariate(1 / THINKING_SECONDS))
            await self.up.wait()
            if caller < CALLERS[self.style] and not self.stage.quiet:
                await self.ask(chance.random() < ONCE)

    async def ask(self, once: bool) -> None:
        ledger, agent, begun = self.stage.ledger, self.agent, time.monotonic()
        assert agent is not None
        number = ledger.begin(self.name, once)
        attempts = 1 if once else ATTEMPTS
        try:
            event = await agent.ask("request", client="c", service=SERVICE, max_attempts=attempts, **body_fields(body_of(number)))
        except Gone:
            return ledger.died(number)
        if event["event"] == "reply":
            ledger.answered(number, event)
            self.served_at = event["at"]
            self.stage.recovery.answered(number, self, event["at"])
        else:
            ledger.failed(number, event.get("kind", "failed"), event["text"], self.starved_at > begun)
        return self.stage.landed(number)


class Worker(Party):
    role = "worker"

    def __init__(self, stage: Stage, spec: AgentSpec, door: str, endpoint: str) -> None:
        super().__init__(stage, spec, door, endpoint)
        self.in_hand: set[int] = set()
        self.trap: Callable[[], None] | None = None
        """Goes off as soon as a request is in hand."""
        self.killed_at = 0.0
        self.takes = 1
        """How many requests the broker may give it."""

    def open(self, agent: Agent) -> asyncio.Future[Event]:
        self.in_hand.clear()
        style, prefetch = self.pick("blocking", "async"), self.pick(0, 0, 4)
        concurrency = self.pick(1, 1, 4) if style == "async" else 1
        self.takes = prefetch + concurrency
        return agent.ask(
            "start_worker", worker="w", endpoint=self.endpoint, service=SERVICE, behaviour="witness", style=style,
            protocol=self.pick("x1", "auto"), prefetch=prefetch, concurrency=concurrency, **WORKER,
        )  # fmt: skip

    def on_event(self, event: Event) -> None:
        if event["event"] == "worker_ended":
            self.stage.ledger.find("crashed", f"{self.name} serves no longer: {event['kind']}: {event['text']}")
        if event["event"] != "running":
            return super().on_event(event)
        number, at = event["request"], event["at"]
        self.served_at = at
        self.stage.ledger.ran(number, self.name)
        self.stage.taken(number, self)
        self.stage.recovery.ran(number, self, at)
        if not self.up.is_set():
            # What it wrote before it was killed is read after.
            self.stage.recovery.lost("worker killed", self, self.killed_at, self.lost_numbers())
        elif self.trap is not None:
            self.trap()
        return None

    def kill(self) -> float:
        self.killed_at = super().kill()
        return self.killed_at

    def lost_numbers(self) -> list[int]:
        """Of the requests in hand, those that another worker may be given."""
        open_requests = self.stage.ledger.open
        return [number for number in self.in_hand if number in open_requests and not open_requests[number].once]
