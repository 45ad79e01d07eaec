"""How long it takes until what was lost is there again, by what was done and to whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cast import Party


# What the broker learns from a closed connection, within milliseconds.
TOLD_BY_CONNECTION = ("worker killed", "connection cut")


@dataclass
class Loss:
    """A request that was in the hands of a worker when something was done to it."""

    what: str
    worker: Party
    since: float
    moved: bool = False
    """Whether another worker has begun with it."""


@dataclass
class Return:
    """Somebody who is not known to be in service again."""

    what: str | None
    """`None` where something else came into it: then there is no figure."""
    since: float
    first: int
    """The first request that was made later: who has to do with it is back."""


class Recovery:
    """Only what one fault did is measured: where another one came into it, there is no figure."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        """By what happened, and by whom."""
        self.losses: dict[int, Loss] = {}
        self.returns: dict[Party, Return] = {}
        self.hoarding: dict[Party, float] = {}
        """Workers that nobody knew to be away and that could be given more, and until when that was so."""

    def lost(self, what: str, worker: Party, since: float, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.losses[number] = Loss(what, worker, since)

    def away(self, what: str | None, parties: Iterable[Party], since: float, first: int) -> None:
        """From now on these are waited for."""
        for party in parties:
            self.returns[party] = Return(what, since, first)

    def broker_disturbed(self) -> None:
        """What happens now is nobody else's fault."""
        self.losses.clear()
        for entry in self.returns.values():
            entry.what = None

    def ran(self, number: int, worker: Party, at: float) -> None:
        self.served(number, worker, at)
        loss = self.losses.get(number)
        if loss is None or loss.worker is worker:
            return
        loss.moved = True
        if worker.touched_since(loss.since):
            del self.losses[number]

    def answered(self, number: int, client: Party, at: float) -> None:
        self.served(number, client, at)
        loss = self.losses.pop(number, None)
        if loss is None or not loss.moved or client.touched_since(loss.since):
            return
        # One of these may have been given the request before the one that has answered it. That is as slow as what is found by
        # heartbeats in the first place, and so common that few figures of those would be left.
        hoarded = any(until > loss.since for party, until in self.hoarding.items() if party is not loss.worker)
        if not (hoarded and loss.what in TOLD_BY_CONNECTION):
            self.seconds[loss.what, loss.worker.title].append(at - loss.since)

    def served(self, number: int, party: Party, at: float) -> None:
        entry = self.returns.get(party)
        if entry is None or number < entry.first:
            return
        del self.returns[party]
        if entry.what is not None:
            self.seconds[entry.what, party.title].append(at - entry.since)
