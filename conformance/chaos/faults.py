"""What is done to them. A seed decides what, to whom, when and for how long; only the answers decide what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from .cast import HEARTBEAT_MS, LIVENESS, Party, Worker
from .processes import send, starve

if TYPE_CHECKING:
    from .stage import Stage

LEASE_SECONDS = HEARTBEAT_MS * LIVENESS / 1000
# Between two faults, on average.
PAUSE_SECONDS = 0.2
# A fault that is to find a request in hand waits so long for one.
TRAP_SECONDS = 0.5
LONGEST_DELAY_MS = 150
Fault = Callable[["Stage", Party, float], Awaitable[None]]


async def catch(party: Party, strike: Callable[[], None]) -> None:
    """Strikes a worker at the moment when it has begun with a request, if one comes, and a client at once."""
    struck = asyncio.Event()

    def once() -> None:
        if isinstance(party, Worker):
            party.trap = None
        if not struck.is_set():
            struck.set()
            strike()

    if isinstance(party, Worker):
        party.trap = once
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(struck.wait(), TRAP_SECONDS)
    once()


def lose(stage: Stage, what: str, party: Party, since: float) -> str:
    """Notes what the party has in hand; in words."""
    if not isinstance(party, Worker):
        return ""
    numbers = party.lost_numbers()
    stage.recovery.lost(what, party, since, numbers)
    return f", which has {len(party.in_hand)} in hand"


@contextlib.contextmanager
def unnoticed(stage: Stage, party: Party) -> Iterator[None]:
    """While it is away without a sign, the broker may give it more."""
    if isinstance(party, Worker) and len(party.in_hand) < party.takes:
        stage.recovery.hoarding[party] = float("inf")
    try:
        yield
    finally:
        if party in stage.recovery.hoarding:
            stage.recovery.hoarding[party] = min(stage.recovery.hoarding[party], time.monotonic())


async def kill_party(stage: Stage, party: Party, extent: float) -> None:
    def strike() -> None:
        held = lose(stage, "worker killed", party, party.kill())
        stage.say(f"kill {party.name}{held}")

    await catch(party, strike)
    await asyncio.sleep(extent / 2)
    await party.start()


def short_or_long(extent: float) -> float:
    """Half of the durations are below the lease, the others well above."""
    return extent * LEASE_SECONDS if extent < 0.5 else (1 + extent) * LEASE_SECONDS


async def freeze(stage: Stage, party: Party, extent: float) -> None:
    seconds = short_or_long(extent)
    process = party.agent.process if party.agent else None

    def strike() -> None:
        since = time.monotonic()
        send(process, signal.SIGSTOP)
        held = lose(stage, "worker frozen", party, since)
        stage.say(f"freeze {party.name} for {seconds:.2f} s{held}")

    await catch(party, strike)
    try:
        with unnoticed(stage, party):
            await asyncio.sleep(seconds)
    finally:
        send(process, signal.SIGCONT)
    stage.waits_for("thawed", party)


async def cut(stage: Stage, party: Party, extent: float) -> None:
    def strike() -> None:
        since = time.monotonic()
        stage.proxy.do("cut", party.door)
        held = lose(stage, "connection cut", party, since)
        stage.waits_for("reconnected", party)
        stage.say(f"cut the connection of {party.name}{held}")

    await catch(party, strike)
    await asyncio.sleep(extent / 2)


async def hole(stage: Stage, party: Party, extent: float) -> None:
    seconds = short_or_long(extent)

    def strike() -> None:
        since = time.monotonic()
        stage.proxy.do("hole", party.door)
        held = lose(stage, "network gone", party, since)
        stage.say(f"let nothing through to {party.name} for {seconds:.2f} s{held}")

    await catch(party, strike)
    with unnoticed(stage, party):
        await asyncio.sleep(seconds)
    stage.proxy.do("heal", party.door)
    stage.waits_for("network back", party)


async def delay(stage: Stage, party: Party, extent: float) -> None:
    milliseconds = round(5 + extent * LONGEST_DELAY_MS)
    stage.say(f"delay everything to and from {party.name} by {milliseconds} ms")
    stage.proxy.do("delay", party.door, str(milliseconds))
    await asyncio.sleep(1 + extent)
    stage.proxy.do("heal", party.door)


async def starve_party(stage: Stage, party: Party, extent: float) -> None:
    """Takes the descriptors that it would need, and the connection, so that it needs some."""
    assert party.agent is not None
    seconds = 0.3 + 2 * extent
    stage.say(f"leave no descriptors to {party.name} for {seconds:.2f} s, and cut its connection")
    feed = starve(party.agent.process)
    try:
        party.starved_at = float("inf")
        stage.proxy.do("cut", party.door)
        await asyncio.sleep(seconds)
    finally:
        feed()
        party.starved_at = time.monotonic()
    stage.waits_for("descriptors back", party)


async def kill_broker(stage: Stage, _: Party, extent: float) -> None:
    await restart_broker(stage, signal.SIGKILL, "broker killed", extent)


async def end_broker(stage: Stage, _: Party, extent: float) -> None:
    await restart_broker(stage, signal.SIGTERM, "broker told to end", extent)


async def restart_broker(stage: Stage, number: signal.Signals, what: str, extent: float) -> None:
    # Clients ask the restarted broker again: this would make good what the present one has forgotten.
    await stage.answer_all()
    stage.say(f"send {number.name} to the broker, and start it again")
    stage.broker_expected = False
    stage.recovery.broker_disturbed()
    since = time.monotonic()
    assert stage.broker.process is not None
    send(stage.broker.process, number)
    status = await stage.broker.process.wait()
    if number == signal.SIGTERM and status != 0:
        stage.ledger.find("crashed", f"the broker, told to end, ended with status {status}")
    await stage.start_broker()
    whole = [party for party in stage.parties if party.is_whole]
    stage.recovery.away(what, whole, since, stage.ledger.count)
    # One that does not come back is missed at the end, at the latest.
    await stage.holds(lambda: all(entry.what != what for entry in stage.recovery.returns.values()))
    await asyncio.sleep(extent)


async def freeze_broker(stage: Stage, _: Party, extent: float) -> None:
    seconds = short_or_long(extent)
    stage.say(f"freeze the broker for {seconds:.2f} s")
    stage.recovery.broker_disturbed()
    process = stage.broker.process
    send(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        send(process, signal.SIGCONT)
    stage.recovery.broker_disturbed()


async def starve_broker(stage: Stage, party: Party, extent: float) -> None:
    seconds = 0.3 + 2 * extent
    stage.say(f"leave no descriptors to the broker for {seconds:.2f} s, and cut the connection of {party.name}")
    assert stage.broker.process is not None
    stage.recovery.broker_disturbed()
    feed = starve(stage.broker.process)
    try:
        stage.proxy.do("cut", party.door)
        await asyncio.sleep(seconds)
    finally:
        feed()
    stage.recovery.broker_disturbed()


# How likely each is.
OF_A_WORKER: dict[Fault, int] = {kill_party: 30, freeze: 12}
OF_A_CLIENT: dict[Fault, int] = {kill_party: 5, freeze: 5}
OF_A_CONNECTION: dict[Fault, int] = {cut: 10, hole: 10, delay: 6, starve_party: 6}
OF_THE_BROKER: dict[Fault, int] = {kill_broker: 3, end_broker: 1, freeze_broker: 1, starve_broker: 1}


async def storm(stage: Stage, until: float) -> None:
    """Faults until then; returns when the last one is over."""
    chance = random.Random(f"{stage.seed}/faults")
    workers: list[Party] = [party for party in stage.parties if isinstance(party, Worker)]
    clients = [party for party in stage.parties if not isinstance(party, Worker)]
    proxied = [party for party in stage.parties if party.door]
    targets = ((OF_A_WORKER, workers), (OF_A_CLIENT, clients), (OF_A_CONNECTION, proxied), (OF_THE_BROKER, proxied))
    choices = [(fault, parties) for kinds, parties in targets for fault in kinds]
    weights = [weight for kinds, _ in targets for weight in kinds.values()]
    running: set[asyncio.Task[None]] = set()
    while time.monotonic() < until:
        # Drawn whatever the state of things is, so that a seed means the same sequence every time.
        pause, (fault, parties) = chance.expovariate(1 / PAUSE_SECONDS), chance.choices(choices, weights)[0]
        party, extent = chance.choice(parties), chance.random()
        await asyncio.sleep(pause)
        running.add(asyncio.create_task(suffer(stage, fault, party, extent)))
    await asyncio.gather(*running)


async def suffer(stage: Stage, fault: Fault, party: Party, extent: float) -> None:
    """One fault at a time for each; who suffers one already is passed over."""
    stage.faults += 1
    if fault in OF_THE_BROKER:
        async with stage.broker_turn:
            with stage.ledger.disturbance():
                await fault(stage, party, extent)
    elif party.is_whole:
        with party.disturb(), stage.ledger.disturbance():
            await fault(stage, party, extent)
    else:
        stage.faults -= 1
        stage.say(f"({fault.__name__}: {party.name} has enough to bear)")
