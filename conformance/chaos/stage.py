"""A run from its beginning to its end: the cast comes on, the storm passes, and everything has to be in order after it."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from agent_process import AgentSpec

from . import faults
from .cast import CALLERS, HEARTBEAT_MS, LIVENESS, Client, Party, Worker
from .ledger import Ledger
from .processes import PATIENCE_SECONDS, Broker, Gone, Proxy, kill
from .recovery import Recovery

# Of each language, and whether behind the proxy.
PLACES = [(role, proxied) for role in (Worker, Client) for proxied in (False, True)]
# What is left of the time for the end, which takes less where all is well.
END_SECONDS = 6
# A broker that lives has answered a request within this time, whatever happens to others; many times what that should take.
ANSWER_SECONDS = 30
# Between two looks at something that is waited for.
LOOK_SECONDS = 0.02


class Stage:
    def __init__(self, specs: list[AgentSpec], seed: int, logs: Path, diary: TextIO) -> None:
        self.specs = specs
        self.seed = seed
        self.logs = logs
        self.diary = diary
        self.begun = time.monotonic()
        self.ledger = Ledger()
        self.recovery = Recovery()
        self.broker = Broker({"heartbeat-ms": HEARTBEAT_MS, "liveness": LIVENESS}, self.log_of("broker"))
        self.broker_turn = asyncio.Lock()
        self.broker_expected = False
        """Whether the broker has to be there."""
        self.proxy = Proxy(self.log_of("proxy"))
        self.parties: list[Party] = []
        self.runners: dict[int, Worker] = {}
        """Who has begun with a request last."""
        self.faults = 0
        self.quiet = False
        """No new requests."""
        self.ending = False
        """Nobody has to be there any more."""

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:7.2f} s  {text}", file=self.diary, flush=True)

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name.replace(', ', '-').replace(' ', '-')}.log"

    def taken(self, number: int, worker: Worker) -> None:
        before = self.runners.get(number)
        if before is not None and before is not worker:
            before.in_hand.discard(number)
        self.runners[number] = worker
        worker.in_hand.add(number)

    def landed(self, number: int) -> None:
        worker = self.runners.pop(number, None)
        if worker is not None:
            worker.in_hand.discard(number)

    def waits_for(self, what: str, party: Party) -> None:
        """From now on the party can be served again."""
        self.recovery.away(what, [party], time.monotonic(), self.ledger.count)

    async def start_broker(self) -> None:
        await self.broker.start()
        self.broker_expected = True
        self.watching = asyncio.create_task(self.watch_broker())

    async def watch_broker(self) -> None:
        process = self.broker.process
        assert process is not None
        status = await process.wait()
        if process is self.broker.process and self.broker_expected and not self.ending:
            self.ledger.find("crashed", f"the broker ended with status {status}; see {self.broker.log}")
            await self.start_broker()

    async def perform(self, until: float) -> None:
        try:
            await self.enter()
            callers = [
                asyncio.create_task(party.call(caller))
                for party in self.parties
                if isinstance(party, Client)
                for caller in range(max(CALLERS.values()))
            ]
            self.say(f"{len(self.parties)} processes are there; the storm begins")
            await faults.storm(self, until - END_SECONDS)
            self.say("the storm is over")
            await self.settle()
            self.quiet = True
            done, _ = await asyncio.wait(callers, timeout=PATIENCE_SECONDS)
            for caller in done:
                caller.result()
            self.ledger.give_up(list(self.ledger.open))
            await self.look_for_leftovers()
            await self.leave()
        finally:
            self.ending = True
            await self.end_everything()

    async def enter(self) -> None:
        await self.start_broker()
        await self.proxy.start(self.broker.port)
        for place, (kind, proxied) in enumerate(PLACES):
            for spec in self.specs:
                door = f"{spec.language}-{place}" if proxied else ""
                endpoint = await self.proxy.open(door) if door else self.broker.endpoint
                self.parties.append(kind(self, spec, door, endpoint))
        await asyncio.gather(*(party.start() for party in self.parties))

    async def answer_all(self) -> None:
        """Until every request that is open now has its outcome."""
        numbers = list(self.ledger.open)
        if not await self.holds(lambda: self.ledger.open.keys().isdisjoint(numbers), ANSWER_SECONDS):
            self.ledger.give_up(numbers)

    async def settle(self) -> None:
        """Until everyone has been served once more."""
        since = time.monotonic()
        if not await self.holds(lambda: all(party.served_at > since for party in self.parties)):
            for party in self.parties:
                if party.served_at <= since:
                    self.ledger.find("hung", f"{party.name} is not in service again")

    async def look_for_leftovers(self) -> None:
        """A broker without open requests has none."""
        client = next((party for party in self.parties if isinstance(party, Client) and party.up.is_set()), None)
        end = time.monotonic() + PATIENCE_SECONDS
        left = {"in_flight": -1, "queued": -1}
        while client is not None and client.agent is not None and time.monotonic() < end:
            event = await client.agent.ask("request", client="c", service="mmi.stats", body=[""])
            if event["event"] == "reply":
                stats = json.loads(base64.b64decode(event["body"][1]))
                left = {name: stats[name] for name in left}
                if not any(left.values()):
                    return
            await asyncio.sleep(LOOK_SECONDS)
        self.ledger.find("hung", f"the broker still has requests: {left}")

    async def leave(self) -> None:
        """Everyone ends properly."""
        self.ending = True

        async def end(party: Party) -> None:
            assert party.agent is not None
            try:
                status = await party.agent.end()
            except (Gone, TimeoutError) as error:
                return self.ledger.find("hung", f"{party.name} did not end when told to ({type(error).__name__})")
            if status != 0:
                self.ledger.find("crashed", f"{party.name} ended with status {status}")
            return None

        await asyncio.gather(*(end(party) for party in self.parties if party.up.is_set()))

    async def holds(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(LOOK_SECONDS)
        return True

    async def end_everything(self) -> None:
        """Also reads to the end what they have written, which closes their pipes."""
        for party in self.parties:
            if party.agent is not None:
                kill(party.agent.process)
                await party.agent.reader
                await party.agent.process.wait()
        for process in (self.broker.process, self.proxy.process):
            if process is not None:
                kill(process)
                await process.communicate()


async def run(specs: list[AgentSpec], seed: int, minutes: float, logs: Path, diary: TextIO = sys.stdout) -> Stage:
    stage = Stage(specs, seed, logs, diary)
    await stage.perform(stage.begun + minutes * 60)
    return stage
